//! `nodelith build`.

use super::Global;
use super::output::{Printer, bytes};
use crate::error::Result;
use crate::pipeline;
use crate::spec;
use serde_json::json;
use std::path::PathBuf;

/// Build the image that a spec's lock pins.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith build image-specs/worker.toml
  nodelith build image-specs/worker.toml --offline --out /srv/images")]
pub(super) struct Args {
    /// The spec; its lock lies beside it.
    spec: PathBuf,
    /// Where images go: DIR/<image>/.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let locked = pipeline::bind(spec::load(&args.spec, &global.overlays)?)?;
    let context = global.context(printer)?;
    let manifest = pipeline::build(&locked, &args.out, &context)?;
    let dir = args.out.join(&manifest.name);
    let mut text = format!("{}\n  root hash {}\n", dir.display(), manifest.root_hash);
    for output in &manifest.outputs {
        text += &format!("  {:<24} {:>12}  {}\n", output.file, bytes(output.size), output.sha256);
    }
    printer.result(&text, &json!({"directory": dir, "root-hash": manifest.root_hash, "outputs": manifest.outputs}))
}
