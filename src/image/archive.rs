//! A container's tree → OCI archive.

use crate::digest::{Hashing, Sha256};
use crate::error::{Blame as _, Kind, Result};
use crate::format::oci::{self, Config, Nothing};
use crate::manifest::Output;
use crate::report::{Report, Stage};
use crate::spec::{Container, Spec};
use crate::store::Store;
use crate::sys::region;
use crate::tree::Tree;
use std::io::BufWriter;
use std::path::Path;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Of the OCI manifest.
    pub digest: Sha256,
    /// The file.
    pub output: Output,
}

/// Writes `<name>.oci.tar` into a directory. The compressed layer is kept in the store, and decides nothing: the file is
/// the same without it.
///
/// # Errors
/// [`Kind::Build`] for a path that a layer cannot hold, [`Kind::Integrity`] when content was damaged in the store,
/// [`Kind::Environment`] when the file cannot be written.
pub fn build(
    spec: &Spec,
    container: &Container,
    tree: &Tree,
    dir: &Path,
    store: &Store,
    report: &dyn Report,
) -> Result<Archive> {
    let stage = Stage::start(report, format!("image {}", spec.name), None, "");
    let make = || Ok(oci::layer(tree, spec.epoch)?.into_parts());
    let layer = store.memo(&oci::layer_version(), &super::keyed(tree, spec.epoch), make)?;
    let layer = oci::Layer::from_parts(layer)?;
    let file = format!("{}.oci.tar", spec.name);
    let path = dir.join(&file);
    let mut sink = Hashing::new(BufWriter::new(region::create(&path)?));
    let image = oci::Image {
        reference: &container.reference,
        tag: &container.tag,
        config: &config(spec, container),
        layer: &layer,
        epoch: spec.epoch,
    };
    let digest = oci::archive(&image, &mut sink).blame(Kind::Environment, || format!("writing {}", path.display()))?;
    let (_, sha256, size) = sink.finish();
    stage.finish(format!("{} KiB, sha256:{digest}", size >> 10));
    Ok(Archive { digest, output: Output { file, size, sha256 } })
}

fn config(spec: &Spec, container: &Container) -> Config {
    let mut labels = container.labels.clone();
    for (label, value) in [("title", spec.name.as_str()), ("version", &container.tag), ("created", "")] {
        let value = if label == "created" { oci::rfc3339(spec.epoch) } else { value.to_owned() };
        labels.insert(format!("org.opencontainers.image.{label}"), value);
    }
    let port = |port: &crate::spec::Port| (format!("{}/{}", port.port, port.protocol), Nothing {});
    Config {
        user: container.user.clone(),
        exposed_ports: container.ports.iter().map(port).collect(),
        env: container.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: container.entrypoint.clone(),
        cmd: container.cmd.clone(),
        working_dir: container.workdir.clone(),
        labels,
        stop_signal: container.stop_signal.clone(),
    }
}
