//! `nodelith up`.

use super::Global;
use super::output::Printer;
use super::status::show;
use crate::cluster::Request;
use crate::error::Result;
use crate::pipeline;
use crate::spec;
use std::path::PathBuf;
use std::time::Duration;

/// Start a live cluster of the built images on this machine, and wait until its machines are there.
///
/// Nothing is built. The machines run on in the background after the command has returned; `nodelith down` ends them.
/// A cluster that is there already is continued: what is off starts, on its own disks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The cluster's files, its kubeconfig among them, are in DIR/cluster/. docs/cluster.md tells more.

Examples:
  nodelith up --workers 2
  nodelith up --workers 3              one more worker for the cluster that runs
  nodelith up --port 6443 --worker-memory 2048
  KUBECONFIG=out/cluster/kubeconfig kubectl get nodes")]
pub(super) struct Args {
    /// How many workers [default: 2, or those that exist].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=20))]
    workers: Option<u8>,
    /// The port of 127.0.0.1 that leads to the API server [default: any that is free].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Memory of each worker, in MiB [default: 1024; 1280 with Kubernetes].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..))]
    worker_memory: Option<u32>,
    /// Memory of the controller, in MiB [default: 1024; 2048 with Kubernetes].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..))]
    controller_memory: Option<u32>,
    /// How many seconds the machines may take to be there.
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    within: u64,
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
    /// A locked spec: its lock pins QEMU.
    #[arg(long, default_value = "image-specs/worker.toml", value_name = "SPEC")]
    spec: PathBuf,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let locked = pipeline::bind(spec::load(&args.spec, &global.overlays)?)?;
    let context = global.context(printer)?;
    let request = Request {
        workers: args.workers,
        port: args.port,
        worker_memory: args.worker_memory,
        controller_memory: args.controller_memory,
    };
    let wanted = pipeline::Wanted { request: &request, within: Duration::from_secs(args.within) };
    let status = pipeline::up(&locked, &args.out, &wanted, &context)?;
    show(&args.out.join("cluster"), &status, printer)
}
