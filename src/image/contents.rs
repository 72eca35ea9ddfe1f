//! What is in a built image: where its bytes come from, by reading the image itself.

use crate::error::Result;
use crate::format::gpt::{self, Role};
use crate::format::{erofs, oci, pe, verity};
use crate::manifest::Manifest;
use crate::sys;
use crate::sys::region::Region;
use crate::tree::show;
use std::path::Path;

/// Something that takes space in an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// Where it comes from, as the manifest says: `deb systemd 257.13-1`, `role flannel`; `boot` for the unified kernel
    /// image, `image` for what only holds the rest together.
    pub origin: String,
    /// A path of the root, or a few words.
    pub path: String,
    /// Bytes of its content.
    pub content: u64,
    /// Bytes that it takes on the disk.
    pub stored: u64,
}

/// Takes the image in a directory apart. The parts are sorted, the largest on the disk first. A container's files are
/// compressed together, so that none has a size of its own in the archive: what it takes is what it unpacks to.
///
/// # Errors
/// [`crate::error::Kind::Integrity`] when it is not an image that this program builds;
/// [`crate::error::Kind::Environment`] when it cannot be read.
pub fn contents(dir: &Path, manifest: &Manifest) -> Result<Vec<Part>> {
    let mut parts = if manifest.reference.is_some() { archive(dir, manifest)? } else { disk(dir, manifest)? };
    parts.sort_by(|a, b| b.stored.cmp(&a.stored).then_with(|| a.path.cmp(&b.path)));
    Ok(parts)
}

/// Where a path of the root comes from.
fn origin<'a>(manifest: &'a Manifest, path: &str) -> &'a str {
    manifest.paths.get(path).map_or("image", |entry| entry.origin.as_str())
}

fn archive(dir: &Path, manifest: &Manifest) -> Result<Vec<Part>> {
    let bytes = sys::fs::read(&dir.join(format!("{}.oci.tar", manifest.name)))?;
    let part = |(path, size): (Vec<u8>, u64)| {
        let path = format!("/{}", show(&path));
        Part { origin: origin(manifest, &path).to_owned(), path, content: size, stored: size }
    };
    Ok(oci::measure(&bytes)?.into_iter().map(part).collect())
}

fn disk(dir: &Path, manifest: &Manifest) -> Result<Vec<Part>> {
    let part = |origin: &str, path: &str, content: u64, stored: u64| Part {
        origin: origin.into(),
        path: path.into(),
        content,
        stored,
    };
    let disk = sys::fs::open(&dir.join(format!("{}.raw", manifest.name)))?;
    let (start, size) = gpt::find(&mut Region::new(&disk, 0, u64::MAX), Role::Root)?;
    let mut parts = Vec::new();
    for (path, measured) in erofs::measure(&mut Region::new(&disk, start, size))? {
        let path = format!("/{}", show(&path));
        parts.push(part(origin(manifest, &path), &path, measured.content, measured.stored));
    }
    let files: u64 = parts.iter().map(|part| part.stored).sum();
    parts.push(part("image", "inodes, directories and padding", 0, size.saturating_sub(files)));
    parts.push(part("image", "dm-verity hash tree", 0, verity::size(size)));

    let kernel_image = sys::fs::read(&dir.join(format!("{}.efi", manifest.name)))?;
    let mut rest = kernel_image.len() as u64;
    for (name, bytes) in pe::sections(&kernel_image)? {
        let size = bytes.len() as u64;
        let what = match name.as_str() {
            ".linux" => "kernel",
            ".initrd" => "initrd",
            _ => continue,
        };
        rest = rest.saturating_sub(size);
        parts.push(part("boot", what, size, size));
    }
    parts.push(part("boot", "EFI stub, command line", rest, rest));
    Ok(parts)
}
