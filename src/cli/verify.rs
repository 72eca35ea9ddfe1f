//! `nodelith verify`.

use super::Global;
use super::output::Printer;
use crate::error::Result;
use crate::pipeline;
use crate::spec;
use crate::verify;
use serde_json::json;
use std::path::PathBuf;

/// Check a built image against its manifest, and against a build of the same lock.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without options: every file by digest, the verity tree by the root hash, partitions, command line and EFI partition.
The exit code is 6 when bytes differ; the message names the first path inside the image that does.

Examples:
  nodelith verify out/worker
  nodelith verify out/worker --rebuild
  nodelith verify out/worker --against /srv/images/worker")]
pub(super) struct Args {
    /// The image's directory, such as out/worker.
    image: PathBuf,
    /// Build the image from its spec and lock once more, and compare.
    #[arg(long)]
    rebuild: bool,
    /// The spec to rebuild from [default: image-specs/<image>.toml].
    #[arg(long, value_name = "SPEC", requires = "rebuild")]
    spec: Option<PathBuf>,
    /// Compare with another build of the same lock.
    #[arg(long, value_name = "DIR", conflicts_with = "rebuild")]
    against: Option<PathBuf>,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let manifest = verify::verify(&args.image, printer)?;
    let mut proved = "every file is what the manifest says".to_owned();
    if let Some(other) = &args.against {
        pipeline::same(&args.image, other)?;
        proved = format!("equal to {}, byte for byte", other.display());
    }
    if args.rebuild {
        let default = || PathBuf::from(format!("image-specs/{}.toml", manifest.name));
        let locked = pipeline::bind(spec::load(&args.spec.clone().unwrap_or_else(default), &global.overlays)?)?;
        pipeline::rebuild(&args.image, &manifest, &locked, &global.context(printer)?)?;
        proved = format!("built again from {}, equal byte for byte", locked.spec().lock_path().display());
    }
    let root_hash = manifest.root_hash.as_deref().map(|hash| format!("\n  root hash {hash}")).unwrap_or_default();
    let text = format!("{}: {proved}{root_hash}", args.image.display());
    let value = json!({"directory": args.image, "root-hash": manifest.root_hash, "rebuilt": args.rebuild, "against": args.against});
    printer.result(&text, &value)
}
