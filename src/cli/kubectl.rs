//! `nodelith kubectl`: the kubectl that was built for the cluster, told where it is.

use super::Global;
use crate::error::{Blame, Fault, Kind, Result};
use crate::pipeline;
use crate::store::Store;
use crate::sys::cmd;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

/// Run the cluster's own kubectl on the live cluster; arguments and exit code are passed through.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith kubectl -- get nodes -o wide
  nodelith kubectl -- logs --namespace kube-system deployment/coredns")]
pub(super) struct Args {
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
    /// What kubectl is told.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let kubeconfig = args.out.join("cluster/kubeconfig");
    if !kubeconfig.is_file() {
        let fault = Fault::new(Kind::Usage, format!("there is no {}", kubeconfig.display()));
        return Err(fault.hint("run `nodelith up` with a controller image that has an API server").into());
    }
    let kubeconfig = std::path::absolute(&kubeconfig).blame(Kind::Environment, || "finding the kubeconfig".into())?;
    let program = pipeline::kubectl(&args.out, &Store::open(&global.store_dir()?)?)?;
    let mut command = cmd::command(&program);
    // It is the user's program now: terminal, editor, home.
    command.args(&args.arguments).envs(std::env::vars_os()).env("KUBECONFIG", kubeconfig).stdin(Stdio::inherit());
    Err(command.exec()).blame(Kind::Environment, || format!("starting {}", program.display()))
}
