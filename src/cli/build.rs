//! `nodelith build`.

use super::Global;
use super::output::{Printer, bytes};
use crate::error::Result;
use crate::pipeline;
use crate::spec;
use serde_json::json;
use std::path::PathBuf;

/// Build the image or container that a spec's lock pins.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith build image-specs/worker.toml      with the containers that it preloads
  nodelith build image-specs/nginx.toml       a container: out/nginx/nginx.oci.tar
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
    let identity = match (&made.root_hash, &made.reference, &made.digest) {
        (Some(hash), ..) => format!("root hash {hash}"),
        (None, Some(reference), Some(digest)) => format!("{reference}@sha256:{digest}"),
        _ => String::new(),
    };
    let mut text = format!("{}{note}\n  {identity}\n", dir.display());
    for output in &made.outputs {
        text += &format!("  {:<24} {:>12}  {}\n", output.file, bytes(output.size), output.sha256);
    }
    let mut value = json!({"directory": dir, "up-to-date": up_to_date, "outputs": made.outputs});
    match &made.root_hash {
        Some(hash) => value["root-hash"] = json!(hash),
        None => (value["reference"], value["digest"]) = (json!(made.reference), json!(made.digest)),
    }
    printer.result(&text, &value)
}
