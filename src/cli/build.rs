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
    /// Build also when what stands in DIR is up to date.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let locked = pipeline::bind(spec::load(&args.spec, &global.overlays)?)?;
    let context = global.context(printer)?;
    let pipeline::Built { dir, made, up_to_date } = pipeline::build(&locked, &args.out, args.force, &context)?;
    let note = if up_to_date { " is up to date" } else { "" };
    let mut text = format!("{}{note}\n  root hash {}\n", dir.display(), made.root_hash);
    for output in &made.outputs {
        text += &format!("  {:<24} {:>12}  {}\n", output.file, bytes(output.size), output.sha256);
    }
    let value =
        json!({"directory": dir, "up-to-date": up_to_date, "root-hash": made.root_hash, "outputs": made.outputs});
    printer.result(&text, &value)
}
