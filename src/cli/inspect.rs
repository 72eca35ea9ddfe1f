//! `nodelith inspect`: explains without doing.

use super::Global;
use super::output::Printer;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::spec::{self, reference};
use serde_json::json;
use std::path::PathBuf;

/// Explain a spec or an image without building anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith inspect spec image-specs/worker.toml          roles and values, defaults included
  nodelith inspect credentials image-specs/worker.toml   what a machine can be told when it boots
  nodelith inspect why out/worker /usr/bin/curl          which package or role brought a path
  nodelith inspect size out/worker --svg worker.svg      where the bytes come from, and a treemap
  nodelith inspect size out/pause                        the same of a container, unpacked")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The spec with its roles, and every value with its default.
    Spec {
        /// The spec.
        spec: PathBuf,
    },
    /// The credentials that the image takes at boot.
    Credentials {
        /// The spec.
        spec: PathBuf,
    },
    /// Every path of a built image: mode, owner, origin.
    Tree {
        /// The image's directory, such as out/worker.
        image: PathBuf,
    },
    /// Where one path of a built image comes from.
    Why {
        /// The image's directory, such as out/worker.
        image: PathBuf,
        /// The path inside the image.
        path: String,
    },
    /// What the bytes of a built image are, by package, role and file.
    Size {
        /// The image's directory, such as out/worker, or its spec.
        image: PathBuf,
        /// Where the images of specs are: DIR/<image>/.
        #[arg(long, default_value = "out", value_name = "DIR")]
        out: PathBuf,
        /// Draw a treemap of it into this file.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// How many rows of each table to show.
        #[arg(long, default_value_t = 25, value_name = "N")]
        rows: usize,
    },
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    match &args.what {
        What::Spec { spec } => {
            let spec = spec::load(spec, &global.overlays)?;
            let mut text = format!("{}: {} roles\n", spec.name, spec.roles.len());
            if let spec::Kind::Container(container) = &spec.kind {
                let starts = container.entrypoint.iter().chain(&container.cmd).cloned().collect::<Vec<_>>().join(" ");
                text += &format!("{} starts `{starts}` as {}\n", container.reference, container.user);
            }
            for container in spec.preloads() {
                text += &format!("preloads {} of {}\n", container.name, container.path.display());
            }
            let mut value = serde_json::Map::new();
            for role in &spec.roles {
                text += &format!("\n{:<16} {}\n", role.name.as_str(), role.summary);
                let values = spec.values.get(&role.name);
                for (name, variable) in &role.variables {
                    let set = values.and_then(|values| values.get(name));
                    let shown = set.map_or_else(|| "(required at boot)".to_owned(), ToString::to_string);
                    let when = if variable.set == spec::SetAt::Boot { "boot" } else { "build" };
                    text += &format!("  {:<24} {when:<6} {shown:<28} {}\n", name.as_str(), variable.doc);
                    value.insert(
                        format!("{}.{name}", role.name),
                        json!({"set": when, "value": set, "doc": variable.doc}),
                    );
                }
            }
            printer.result(&text, &value.into())
        }
        What::Credentials { spec } => {
            let rows = reference::credentials(&spec::load(spec, &global.overlays)?);
            let mut text = String::new();
            for (name, takes, default, doc) in &rows {
                let default =
                    default.as_deref().map_or("required".to_owned(), |default| format!("default `{default}`"));
                text += &format!("{name}\n    {doc}; {takes}; {default}\n");
            }
            let values = rows.iter().map(
                |(name, takes, default, doc)| json!({"name": name, "takes": takes, "default": default, "doc": doc}),
            );
            printer.result(&text, &values.collect::<Vec<_>>().into())
        }
        What::Tree { image } => {
            let (manifest, _) = Manifest::of_image(image)?;
            let rows = manifest
                .paths
                .iter()
                .map(|(path, entry)| format!("{} {:>7} {path}  ({})\n", entry.mode, entry.owner, entry.origin));
            printer.result(&rows.collect::<String>(), &serde_json::to_value(&manifest.paths)?)
        }
        What::Size { image, out, svg, rows } => super::size::run(image, out, svg.as_ref(), *rows, printer),
        What::Why { image, path } => {
            let (manifest, _) = Manifest::of_image(image)?;
            let path = format!("/{}", path.trim_start_matches('/'));
            let entry = manifest.paths.get(&path).ok_or_else(|| {
                crate::error::Fault::new(
                    crate::error::Kind::Usage,
                    format!("{path} is not in the image {}", manifest.name),
                )
                .hint("links are not followed: in a merged-usr image write /usr/bin/…, not /bin/…")
            })?;
            printer.result(&format!("{path}: {}", entry.origin), &serde_json::to_value(entry)?)
        }
    }
}
