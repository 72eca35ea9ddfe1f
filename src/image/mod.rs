//! Trees → disk (a container's tree → [`archive`]): EROFS root, its dm-verity tree, the unified kernel image that carries the root hash, and the disks
//! that hold them.
//!
//! ```text
//! 0     1 MiB                                                                      end
//! | GPT | ESP: EFI/BOOT/BOOTX64.EFI | root: EROFS | verity: hash tree | … | GPT copy |
//! ```
//!
//! Trust runs from the firmware to the UKI, whose command line names the root hash, to every block of the root. All
//! identities (UUIDs, salt, serial) are derived: those that the root hash covers from name and epoch, all others from
//! the root hash, so equal inputs give equal disks and different roots never share a partition's identity. The first
//! partition is `esp`, the others are `<name>-root` and `<name>-verity`.

pub mod archive;
mod contents;
mod disk;
mod forms;

pub use contents::{Part, contents};

use crate::digest::Sha256;
use crate::error::{Fault, Kind, Result};
use crate::format::gpt::{Partition, Role};
use crate::format::verity::RootHash;
use crate::format::{cpio, erofs, pe};
use crate::manifest::Output;
use crate::report::{Report, Stage};
use crate::store::Store;
use crate::sys::region::Disk;
use crate::tree::{Content, Tree, What};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// All that decides an image.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// Names the outputs and partitions; short enough for a partition label: 29 characters.
    pub name: &'a str,
    /// The root file system.
    pub root: &'a Tree,
    /// The initrd's file system.
    pub initrd: &'a Tree,
    /// The kernel, bootable as an EFI program.
    pub kernel: &'a [u8],
    /// systemd's `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// Text of `os-release`.
    pub os_release: &'a str,
    /// The kernel's command line behind `roothash=`.
    pub cmdline_extra: &'a [String],
    /// The kernel's release.
    pub uname: &'a str,
    /// Every time stamp, in seconds since 1970.
    pub epoch: u64,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of the root file system.
    pub root_hash: RootHash,
    /// The whole kernel command line.
    pub cmdline: String,
    /// The disk's identity.
    pub disk: uuid::Uuid,
    /// The disk's partitions, in order.
    pub partitions: Vec<Partition>,
    /// `<name>.raw`, `<name>.qcow2`, `<name>.efi`.
    pub outputs: Vec<Output>,
    /// Bytes of the root file system's content before compression, equal files counted once.
    pub content: u64,
}

impl Image {
    /// The partition of a role.
    #[must_use]
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.role == role)
    }
}

/// Smaller contents are compressed faster than they are looked up.
const KEPT_FROM: u64 = 32 << 10;

/// Builds an image's files in a directory, which must exist and hold none of them yet. What is written goes to the medium
/// at once; the names are synced by whoever makes the directory visible as a whole. What compression made is kept in the
/// store, and decides nothing: the files are the same without it.
///
/// # Errors
/// [`Kind::Build`] for a recipe of which no image can be made, [`Kind::Integrity`] when content was damaged in the
/// store, [`Kind::Environment`] when writing fails.
pub fn build(recipe: &Recipe<'_>, out_dir: &Path, store: &Store, report: &dyn Report) -> Result<Image> {
    let stage = Stage::start(report, "image", Some(unique_content(recipe.root)), "bytes");
    let progress = Progress { stage: &stage, waiting: AtomicU64::new(0) };

    let raw_name = format!("{}.raw", recipe.name);
    let raw = Disk::create(&out_dir.join(&raw_name))?;
    let image = raw.written_back(|| {
        // The partition before the root is sized by what the initrd is at most, so that both can be made at once.
        let parts = recipe.stub.len() as u64 + recipe.kernel.len() as u64 + cpio::size(recipe.initrd);
        let esp_size = disk::esp_size(parts);
        let version = erofs::pack_version();
        let packer = |content: &Content| pack(content, &version, store);
        let (initrd, sealed) = rayon::join(
            || initrd(recipe, store),
            || disk::write_root(recipe, &raw, esp_size, &packer, &|bytes| progress.add(bytes)),
        );
        let (initrd, sealed) = (initrd?, sealed?);

        let cmdline = cmdline(&sealed.root_hash, recipe.cmdline_extra)?;
        let Recipe { stub, os_release, uname, kernel, .. } = *recipe;
        let uki = pe::uki(&pe::Uki { stub, os_release, cmdline: &cmdline, uname, initrd: &initrd, kernel })?;
        let efi = disk::Named { dir: out_dir, file: format!("{}.efi", recipe.name) };
        let qcow2 = disk::Named { dir: out_dir, file: format!("{}.qcow2", recipe.name) };
        std::thread::scope(|scope| {
            let efi = scope.spawn(|| efi.write(&uki));
            let (disk, partitions, size) = disk::finish(recipe, &raw, esp_size, &sealed, &uki)?;
            let [raw, qcow2] = forms::make(&raw, size, raw_name, &qcow2)?;
            let efi = efi.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let (root_hash, outputs, content) = (sealed.root_hash, vec![raw, qcow2, efi], sealed.content);
            Ok(Image { root_hash, cmdline, disk, partitions, outputs, content })
        })
    })?;

    let whole = image.partitions.last().map_or(0, |last| last.start + last.size) >> 20;
    let Image { root_hash, content, .. } = image;
    stage.finish(format!("{} MiB of files on a disk of {whole} MiB, root hash {root_hash}", content >> 20));
    Ok(image)
}

/// A content as the root file system stores it, compressed at most once.
fn pack(content: &Content, version: &str, store: &Store) -> Result<erofs::Body> {
    if content.size < KEPT_FROM {
        return erofs::read_and_pack(content);
    }
    let parts = store.memo(version, &content.digest, || Ok(erofs::read_and_pack(content)?.into_parts()))?;
    erofs::Body::from_parts(parts, content)
}

/// The compressed initrd, made at most once for the same tree: none of its files is read again.
fn initrd(recipe: &Recipe<'_>, store: &Store) -> Result<Vec<u8>> {
    let make = || cpio::compress(&cpio::archive(recipe.initrd, recipe.epoch)?);
    store.memo_bytes(&cpio::version(), &keyed(recipe.initrd, recipe.epoch), make)
}

/// All that decides an archive of a tree, besides the function that makes it.
fn keyed(tree: &Tree, epoch: u64) -> Sha256 {
    Sha256::of(format!("{} {epoch}", tree.digest()).as_bytes())
}

/// `roothash=` makes systemd find and check the root; the rest is the recipe's.
fn cmdline(root_hash: &RootHash, extra: &[String]) -> Result<String> {
    let words = std::iter::once(format!("roothash={root_hash}")).chain(extra.iter().cloned());
    let line = words.collect::<Vec<_>>().join(" ");
    // x86's COMMAND_LINE_SIZE, its final NUL included; the kernel cuts off what is longer and boots without it.
    if line.len() >= 2048 || line.chars().any(char::is_control) {
        let message = format!("the kernel command line is over 2047 bytes or has control characters: {line:?}");
        return Err(Fault::new(Kind::Build, message).into());
    }
    Ok(line)
}

/// Bytes of all files, equal ones counted once.
fn unique_content(tree: &Tree) -> u64 {
    let contents = tree.iter().filter_map(|(_, node)| match &node.what {
        What::File(content) => Some((content.digest, content.size)),
        _ => None,
    });
    contents.collect::<HashMap<_, _>>().values().sum()
}

/// Passes progress on a mebibyte at a time: most files are small, and each event may become a line.
struct Progress<'a> {
    stage: &'a Stage<'a>,
    waiting: AtomicU64,
}

impl Progress<'_> {
    fn add(&self, bytes: u64) {
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes >= 1 << 20 {
            self.stage.advance(self.waiting.swap(0, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests;
