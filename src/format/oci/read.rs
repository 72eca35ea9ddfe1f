//! An archive of ours read back: what its layer's files measure.

use super::{LAYER, Sha256};
use crate::error::{Blame as _, Fault, Kind, Result};
use std::collections::BTreeMap;
use std::io::Read as _;
use tar::EntryType;

/// The files of an archive's one layer, unpacked: path without a slash before it, and bytes of content. Links are none.
///
/// # Errors
/// [`Kind::Integrity`] when it is not an archive that this program writes.
pub fn measure(archive: &[u8]) -> Result<Vec<(Vec<u8>, u64)>> {
    files(archive).map_err(|error| error.context(Fault::new(Kind::Integrity, "the archive is no OCI image of ours")))
}

fn files(archive: &[u8]) -> Result<Vec<(Vec<u8>, u64)>> {
    let mut blobs = BTreeMap::new();
    let mut tar = tar::Archive::new(archive);
    for entry in tar.entries()? {
        let entry = entry?;
        let (start, size) = (usize::try_from(entry.raw_file_position())?, usize::try_from(entry.size())?);
        let bytes = archive.get(start..start.saturating_add(size));
        blobs.insert(entry.path_bytes().into_owned(), bytes.ok_or_else(|| anyhow::anyhow!("it is cut off"))?);
    }
    let blob = |path: &str| blobs.get(path.as_bytes()).copied().ok_or_else(|| anyhow::anyhow!("{path} is missing"));
    let document = |path: &str| serde_json::from_slice::<serde_json::Value>(blob(path)?).map_err(anyhow::Error::from);
    // What a descriptor names, by its digest.
    let named = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        let digest: Sha256 = digest.unwrap_or_default().parse()?;
        Ok::<_, anyhow::Error>(format!("blobs/sha256/{digest}"))
    };
    let manifest = document(&named(&document("index.json")?["manifests"][0])?)?;
    let layer = &manifest["layers"][0];
    anyhow::ensure!(layer["mediaType"] == LAYER, "its layer is of another kind");
    let mut tar = tar::Archive::new(zstd::Decoder::new(blob(&named(layer)?)?)?);
    let mut found = Vec::new();
    for entry in tar.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::Regular {
            // Counted, not believed.
            let size = std::io::copy(&mut entry.by_ref(), &mut std::io::sink())
                .blame(Kind::Integrity, || "reading a file".into())?;
            found.push((entry.path_bytes().into_owned(), size));
        }
    }
    Ok(found)
}
