//! Packages decoded once: the decompressed `data.tar` with an index of its files, so that a warm build never runs xz.

use super::{Check, FileSource, Store, cannot_write, hash_file, sealed, unsealed};
use crate::digest::{Hashing, Sha256};
use crate::error::{Blame, Fault, Kind, Result};
use crate::format::deb::{self, Entry, EntryWhat};
use crate::sys;
use crate::tree::{Content, Node, Source, What};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version of the index format; a store that holds another one decodes again.
const FORMAT: u32 = 1;

/// A package whose files can be read by range.
#[derive(Clone)]
pub struct UnpackedPackage {
    index: Arc<Index>,
    source: Arc<dyn Source>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Index {
    format: u32,
    tar: Sha256,
    control: String,
    entries: Vec<Entry>,
}

impl Index {
    /// Where the last file's bytes end.
    fn end(&self) -> u64 {
        let ends = self.entries.iter().filter_map(|entry| match entry.what {
            EntryWhat::File { size, offset, .. } => Some(offset + size),
            _ => None,
        });
        ends.max().unwrap_or(0)
    }
}

impl UnpackedPackage {
    /// The control file's text.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.index.control
    }

    /// Every path with its inode, sorted by path, all of one origin. Paths are clean, no path leads through anything but
    /// a directory, hard links point to regular files, and there are no devices.
    pub fn nodes<'a>(&'a self, origin: &'a Arc<str>) -> impl Iterator<Item = (&'a [u8], Node)> {
        self.index.entries.iter().map(move |entry| {
            let what = match &entry.what {
                EntryWhat::Directory => What::Directory,
                EntryWhat::Symlink(target) => What::Symlink(target.clone().into_bytes()),
                EntryWhat::HardLink(target) => What::HardLink(target.clone().into_bytes()),
                EntryWhat::File { sha256, size, offset } => {
                    What::File(Content::in_source(*sha256, *size, Arc::clone(&self.source), *offset))
                }
            };
            let mut node = Node::new(what, entry.mode, origin);
            (node.uid, node.gid) = (entry.uid, entry.gid);
            node.xattrs = entry.xattrs.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect();
            (entry.path.as_bytes(), node)
        })
    }
}

impl std::fmt::Debug for UnpackedPackage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnpackedPackage({} entries)", self.index.entries.len())
    }
}

impl Store {
    /// A package that was unpacked before. One that is damaged, or seen to be cut off, is removed and counts as missing.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the store cannot be read.
    pub fn unpacked(&self, deb: &Sha256, check: Check) -> Result<Option<UnpackedPackage>> {
        let (tar, index_path) = self.unpacked_paths(deb);
        if !tar.is_file() || !index_path.is_file() {
            return Ok(None);
        }
        if let Some(index) = parse_index(&sys::fs::read(&index_path)?) {
            let file = sys::fs::open(&tar)?;
            let sound = match check {
                Check::Now => hash_file(&tar)?.0 == index.tar,
                Check::Later => file.metadata().is_ok_and(|metadata| metadata.len() >= index.end()),
            };
            if sound {
                return Ok(Some(UnpackedPackage { index: Arc::new(index), source: Arc::new(FileSource(file)) }));
            }
        }
        sys::fs::remove(&index_path)?;
        sys::fs::remove(&tar)?;
        Ok(None)
    }

    /// Decodes a package that is in the store as an object, and keeps the result.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when the object is missing, damaged or not a sound package; [`Kind::Environment`] when there is no room.
    pub fn unpack(&self, deb: &Sha256) -> Result<UnpackedPackage> {
        let _lock = self.lock(&format!("{deb}.unpack"))?;
        if let Some(done) = self.unpacked(deb, Check::Now)? {
            return Ok(done);
        }
        let (tar, index_path) = self.unpacked_paths(deb);
        let (file, index) = self.decode(deb, &tar)?;
        // Every byte of both is checked when it is read: after a power cut, what is not whole is decoded again.
        sys::fs::place(file, &tar)?;
        // Sealed: a damaged index must not name the wrong bytes.
        let bytes = sealed(&serde_json::to_vec(&index)?);
        let mut file = sys::fs::temp_in(&self.tmp())?;
        file.write_all(&bytes).map_err(|error| cannot_write(error, &index_path, bytes.len() as u64))?;
        sys::fs::place(file, &index_path)?;
        Ok(UnpackedPackage { index: Arc::new(index), source: Arc::new(FileSource(sys::fs::open(&tar)?)) })
    }

    /// Decodes a package for one use only; nothing stays in the store.
    ///
    /// # Errors
    /// As [`Store::unpack`].
    pub(super) fn unpack_once(&self, deb: &Sha256) -> Result<UnpackedPackage> {
        let (file, index) = self.decode(deb, &self.tmp())?;
        Ok(UnpackedPackage { index: Arc::new(index), source: Arc::new(FileSource(file.into_file())) })
    }

    fn decode(&self, deb: &Sha256, path: &Path) -> Result<(tempfile::NamedTempFile, Index)> {
        let object = self.object(deb)?.ok_or_else(|| {
            Fault::new(Kind::Integrity, format!("package {deb} is not in the store")).hint("run the command again")
        })?;
        let size = object.metadata().map_or(0, |metadata| metadata.len());
        // Debian's packages decompress to three to six times their size.
        self.require(size.saturating_mul(3), path)?;
        let mut tar = Hashing::new(sys::fs::temp_in(&self.tmp())?);
        let mut written = 0;
        let control = deb::read(sys::fs::open(&object)?, &mut |bytes| {
            written += bytes.len() as u64;
            tar.write_all(bytes).map_err(|error| cannot_write(error, path, written))
        })
        .map_err(|error| named(error, deb))?;
        let (file, tar, _) = tar.finish();
        let entries = deb::index(rewound(file.as_file(), path)?).map_err(|error| named(error, deb))?;
        Ok((file, Index { format: FORMAT, tar, control, entries }))
    }

    fn unpacked_paths(&self, deb: &Sha256) -> (PathBuf, PathBuf) {
        let dir = self.dir.join("unpacked");
        (dir.join(format!("{deb}.tar")), dir.join(format!("{deb}.index")))
    }
}

fn rewound(file: &File, path: &Path) -> Result<std::io::BufReader<File>> {
    let doing = || format!("reading back {}", path.display());
    let mut file = file.try_clone().blame(Kind::Environment, doing)?;
    file.rewind().blame(Kind::Environment, doing)?;
    Ok(std::io::BufReader::with_capacity(1 << 17, file))
}

fn named(error: anyhow::Error, deb: &Sha256) -> anyhow::Error {
    error.context(format!("unpacking package {}", deb.short()))
}

fn parse_index(bytes: &[u8]) -> Option<Index> {
    let index: Index = serde_json::from_slice(unsealed(bytes)?).ok()?;
    (index.format == FORMAT).then_some(index)
}
