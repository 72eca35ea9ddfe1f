//! Content-addressed objects on disk. What has a digest is checked against it before it is used; what is half made is
//! never seen under its final name; two builds may use one store at once.
//!
//! ```text
//! objects/ab/cdef…      bytes by SHA-256: packages, indexes, binaries
//! unpacked/<sha256>.*   a package decoded once: data.tar and its index
//! tools/<sha256>/       a closure of packages, extracted to run on this host
//! built/<sha256>        recipe and toolchain → the binary that came of it
//! memo/<function>/…     results of pure functions by a digest of what decides them
//! work/                 build caches that are not inputs
//! tmp/  locks/          emptied when nobody uses the store; one per object being made
//! ```

mod memo;
mod package;
mod tool;

pub use package::UnpackedPackage;
pub use tool::{closure_digest, verify_tool};

use crate::digest::{Hashing, Sha256};
use crate::error::{Blame, Fault, Kind, Result};
use crate::sys;
use crate::tree::{Content, Source};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The parts that hold something worth keeping.
const PARTS: &[&str] = &["objects", "unpacked", "tools", "built", "memo", "work", "tmp"];

/// When the bytes of what a build reads are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Each content when it is read: most of a warm build's input is not read at all. Whoever meets damage looks again
    /// with [`Check::Now`], which finds and removes what is damaged.
    Later,
    /// Every byte before anything is used.
    Now,
}

/// A store in a directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Held shared while the store is open: whoever can take it alone may empty `tmp`.
    _alive: File,
    /// Pretended free space, for tests.
    #[cfg(test)]
    pub(crate) free: Option<u64>,
}

/// An object's bytes on disk as a [`Source`] of contents.
struct FileSource(File);

impl Source for FileSource {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

impl Store {
    /// Opens a store, making its directories where they are missing.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).blame(Kind::Environment, || format!("finding {}", dir.display()))?;
        for part in PARTS.iter().chain(&["locks"]) {
            sys::fs::make_dir(&dir.join(part))?;
        }
        // Backup programs skip directories that carry this file (bford.info/cachedir).
        let tag = dir.join("CACHEDIR.TAG");
        if !tag.exists() {
            sys::fs::write_atomic(&tag, b"Signature: 8a477f597d28d172789f06886806bc55\n# nodelith's store\n")?;
        }
        let alive = sys::fs::open_lock(&dir.join("locks/alive"))?;
        if alive.try_lock().is_ok() {
            for leftover in sys::fs::list(&dir.join("tmp"))? {
                sys::fs::remove(&leftover)?;
            }
            alive.unlock().blame(Kind::Environment, || format!("unlocking {}", dir.display()))?;
        }
        alive.lock_shared().blame(Kind::Environment, || format!("locking {}", dir.display()))?;
        Ok(Self {
            dir,
            _alive: alive,
            #[cfg(test)]
            free: None,
        })
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where temporary files of the store belong: same file system, removed when they are left over.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// A directory for a program's own cache, which is no input of anything and may be deleted at any time.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn work(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join("work").join(name);
        sys::fs::make_dir(&path)?;
        Ok(path)
    }

    /// Bytes on disk in each part of the store.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be read.
    pub fn usage(&self) -> Result<Vec<(&'static str, u64)>> {
        PARTS.iter().map(|part| Ok((*part, sys::fs::disk_usage(&self.dir.join(part))?))).collect()
    }

    /// Removes everything that the store holds; returns the bytes that were on disk. Other processes of this store
    /// fetch anew what they miss.
    ///
    /// # Errors
    /// [`Kind::Environment`] when something cannot be removed.
    pub fn clean(&self) -> Result<u64> {
        let freed = self.usage()?.iter().map(|(_, size)| size).sum();
        for part in PARTS {
            for entry in sys::fs::list(&self.dir.join(part))? {
                sys::fs::remove(&entry)?;
            }
        }
        Ok(freed)
    }

    /// Holds a lock of this store; other processes that want the same one wait.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn lock(&self, name: &str) -> Result<sys::fs::Flock> {
        sys::fs::lock(&self.dir.join("locks").join(name))
    }

    fn object_path(&self, sha256: &Sha256) -> PathBuf {
        let hex = sha256.to_string();
        self.dir.join("objects").join(&hex[..2]).join(&hex[2..])
    }

    /// Whether an object is there, without looking at its bytes.
    #[must_use]
    pub fn has(&self, sha256: &Sha256) -> bool {
        self.object_path(sha256).is_file()
    }

    /// An object's path, its bytes checked. A damaged object is removed and counts as missing.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be read or removed.
    pub fn object(&self, sha256: &Sha256) -> Result<Option<PathBuf>> {
        let path = self.object_path(sha256);
        if !path.is_file() {
            return Ok(None);
        }
        if hash_file(&path)?.0 == *sha256 {
            return Ok(Some(path));
        }
        sys::fs::remove(&path)?;
        Ok(None)
    }

    /// An object as a content of a tree. One that is damaged counts as missing.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when it is sound and has another size than is asked for; as [`Store::object`].
    pub fn content(&self, sha256: &Sha256, size: u64, check: Check) -> Result<Option<Content>> {
        let path = self.object_path(sha256);
        let found = path.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        if (check == Check::Now || found != Some(size)) && self.object(sha256)?.is_none() {
            return Ok(None);
        }
        if let Some(found) = found.filter(|found| *found != size) {
            let message = format!("object {sha256} has {found} bytes, but {size} are asked for");
            return Err(Fault::new(Kind::Integrity, message).hint("has the lock been edited? make it anew").into());
        }
        Ok(Some(Content::in_source(*sha256, size, Arc::new(FileSource(sys::fs::open(&path)?)), 0)))
    }

    /// Makes sure that an object is there: returns it, or has it made. Two processes that want the same object make it
    /// once. Exactly `size` bytes that hash to `sha256` become an object; anything else leaves nothing behind.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when other bytes came; [`Kind::Environment`] when they cannot be stored; or what `make` returns.
    pub fn ensure(
        &self,
        sha256: &Sha256,
        size: u64,
        make: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<PathBuf> {
        let _lock = self.lock(&sha256.to_string())?;
        if let Some(path) = self.object(sha256)? {
            return Ok(path);
        }
        let path = self.object_path(sha256);
        self.require(size, &path)?;
        let mut file = Hashing::new(sys::fs::temp_in(&self.tmp())?);
        let mut left = size;
        make(&mut |bytes| {
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                Fault::new(Kind::Integrity, format!("more than the {size} bytes came that object {sha256} has"))
            })?;
            file.write_all(bytes).map_err(|error| cannot_write(error, &path, size))
        })?;
        let (file, found, len) = file.finish();
        if len != size {
            let message = format!("object {sha256} has {size} bytes, but only {len} came");
            return Err(Fault::new(Kind::Integrity, message).into());
        }
        if found != *sha256 {
            let message = format!("expected bytes that hash to {sha256}, but these hash to {found}");
            return Err(Fault::new(Kind::Integrity, message).into());
        }
        if let Some(parent) = path.parent() {
            sys::fs::make_dir(parent)?;
        }
        sys::fs::persist(file, &path)?;
        Ok(path)
    }

    /// Takes a host file's bytes as an object; returns digest and size.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn adopt(&self, file: &Path) -> Result<(Sha256, u64)> {
        let (sha256, size) = hash_file(file)?;
        let doing = || format!("reading {}", file.display());
        self.ensure(&sha256, size, |sink| pour(sys::fs::open(file)?, sink, Kind::Environment, doing))?;
        Ok((sha256, size))
    }

    /// What was made before from a key (a digest of all that decides the result), if its bytes are still whole.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the store cannot be read.
    pub fn built(&self, key: &Sha256) -> Result<Option<(Sha256, u64)>> {
        let path = self.dir.join("built").join(key.to_string());
        if !path.is_file() {
            return Ok(None);
        }
        let Ok(sha256) = sys::fs::read_text(&path)?.trim().parse::<Sha256>() else { return Ok(None) };
        let Some(object) = self.object(&sha256)? else { return Ok(None) };
        let metadata = object.metadata().blame(Kind::Environment, || format!("reading {}", object.display()))?;
        Ok(Some((sha256, metadata.len())))
    }

    /// Remembers what was made from a key.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn remember_built(&self, key: &Sha256, made: &Sha256) -> Result<()> {
        let path = self.dir.join("built").join(key.to_string());
        let mut file = sys::fs::temp_in(&self.tmp())?;
        writeln!(file, "{made}").map_err(|error| cannot_write(error, &path, 65))?;
        sys::fs::persist(file, &path)
    }

    /// Refuses early when the file system has less room than is needed.
    ///
    /// # Errors
    /// [`Kind::Environment`], with both numbers.
    pub fn require(&self, need: u64, what: &Path) -> Result<()> {
        let free = self.free_space()?;
        if free < need {
            return Err(disk_full(what, need, Some(free)));
        }
        Ok(())
    }

    fn free_space(&self) -> Result<u64> {
        #[cfg(test)]
        if let Some(free) = self.free {
            return Ok(free);
        }
        sys::fs::free_space(&self.dir)
    }
}

/// Hands all bytes of a reader to a sink. `kind` and `doing` label what goes wrong on the reader's side.
///
/// # Errors
/// Of that kind when the reader fails; whatever the sink returns.
pub fn pour(
    mut from: impl Read,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    kind: Kind,
    doing: impl Fn() -> String,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => sink(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).blame(kind, &doing),
        }
    }
}

/// A host file of known digest as a content of a tree. Whatever replaces the file later, this one is read.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn file_content(path: &Path, sha256: Sha256, size: u64) -> Result<Content> {
    Ok(Content::in_source(sha256, size, Arc::new(FileSource(sys::fs::open(path)?)), 0))
}

/// The digest and size of a host file.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn hash_file(path: &Path) -> Result<(Sha256, u64)> {
    let mut reader = Hashing::new(sys::fs::open(path)?);
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).blame(Kind::Environment, || format!("reading {}", path.display())),
        }
    }
    let (_, sha256, len) = reader.finish();
    Ok((sha256, len))
}

/// A text behind a line with its digest, so that damage to it shows.
fn sealed(text: &[u8]) -> Vec<u8> {
    [format!("{}\n", Sha256::of(text)).as_bytes(), text].concat()
}

/// The text of what [`sealed`] made, if it is whole.
fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, text) = bytes.split_at_checked(65)?;
    let digest: Sha256 = std::str::from_utf8(digest).ok()?.trim_end().parse().ok()?;
    (Sha256::of(text) == digest).then_some(text)
}

/// Labels a failure to write, telling a full disk apart.
fn cannot_write(error: io::Error, path: &Path, need: u64) -> anyhow::Error {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return anyhow::Error::from(error).context(disk_full_fault(path, need, None));
    }
    anyhow::Error::from(error).context(Fault::new(Kind::Environment, format!("writing {}", path.display())))
}

fn disk_full(path: &Path, need: u64, free: Option<u64>) -> anyhow::Error {
    disk_full_fault(path, need, free).into()
}

fn disk_full_fault(path: &Path, need: u64, free: Option<u64>) -> Fault {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let free = free.map(|free| format!(", {} MiB are free", mib(free))).unwrap_or_default();
    let message = format!("the disk is full: {} needs {} MiB{free}", path.display(), mib(need));
    Fault::new(Kind::Environment, message).hint("free some space, or choose another place with --store DIR")
}

#[cfg(test)]
mod tests;
