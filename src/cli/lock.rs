//! `nodelith lock`.

use super::Global;
use super::output::Printer;
use crate::error::Result;
use crate::pipeline;
use crate::resolve::{Keyring, Options, Upgrade};
use crate::spec;
use serde_json::json;
use std::path::PathBuf;

/// Pin every input of a spec by digest, and print what changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is locked and still satisfies the spec stays; --upgrade moves it. What is no package
is pinned by its role: by go.mod and go.sum, or by url and sha256.

Examples:
  nodelith lock image-specs/worker.toml
  nodelith lock image-specs/worker.toml --upgrade openssl --upgrade curl
  nodelith lock image-specs/worker.toml --check")]
pub(super) struct Args {
    /// The spec; the lock is written beside it.
    spec: PathBuf,
    /// Move this package to its newest version, with what would hold it (repeatable).
    #[arg(long, value_name = "NAME")]
    upgrade: Vec<String>,
    /// Move everything to its newest version.
    #[arg(long, conflicts_with = "upgrade")]
    upgrade_all: bool,
    /// Write nothing; exit with 3 when the lock would change.
    #[arg(long)]
    check: bool,
    /// Who may sign the archive's releases, instead of Debian's archive keys.
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let spec = spec::load(&args.spec, &global.overlays)?;
    let path = spec.lock_path();
    let upgrade = match (args.upgrade_all, args.upgrade.is_empty()) {
        (true, _) => Upgrade::Everything,
        (false, true) => Upgrade::Nothing,
        (false, false) => Upgrade::Named(args.upgrade.clone()),
    };
    let keyring = args.keyring.as_deref().map_or_else(Keyring::debian, Keyring::load)?;
    let options = Options { upgrade, keyring, check: args.check };
    let context = global.context(printer)?;
    let changes = pipeline::lock(&spec, &options, &context)?;
    let mut text = changes.iter().map(|change| format!("  {change}\n")).collect::<String>();
    text += &match changes.len() {
        0 => format!("{} is up to date", path.display()),
        1 => format!("{}: 1 change", path.display()),
        count => format!("{}: {count} changes", path.display()),
    };
    printer
        .result(&text, &json!({"lock": path, "changes": changes.iter().map(ToString::to_string).collect::<Vec<_>>()}))
}
