//! Files on the host. Errors name the path; outputs appear whole or not at all.

use crate::error::{Blame, Fault, Kind, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Reads a whole file.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).blame(Kind::Environment, || format!("reading {}", path.display()))
}

/// Reads a whole text file.
///
/// # Errors
/// [`Kind::Environment`], naming the path; also when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).blame(Kind::Environment, || format!("reading {}", path.display()))
}

/// Makes a directory and its parents.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).blame(Kind::Environment, || format!("making directory {}", path.display()))
}

/// Opens a file for reading.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).blame(Kind::Environment, || format!("opening {}", path.display()))
}

/// A directory's entries, sorted by name, so that no result depends on the file system's order.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("listing {}", path.display());
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .blame(Kind::Environment, doing)?;
    entries.sort();
    Ok(entries)
}

/// Writes a file so that a crash at any moment leaves the old one or the new one: a temporary file beside it is synced, then renamed over it.
///
/// # Errors
/// [`Kind::Environment`], naming the path; the old file is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(parent)?;
    let mut file = temp_in(parent)?;
    file.write_all(bytes).blame(Kind::Environment, || format!("writing {}", path.display()))?;
    persist(file, path)
}

/// A temporary file in a directory, mode 0644 less the umask; removed unless [`persist`]ed.
///
/// # Errors
/// [`Kind::Environment`], naming the directory.
pub fn temp_in(dir: &Path) -> Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix(".nodelith-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .blame(Kind::Environment, || format!("making a temporary file in {}", dir.display()))
}

/// Syncs a temporary file and renames it to its place.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    file.as_file().sync_all().blame(Kind::Environment, doing)?;
    file.persist(path).map_err(|error| error.error).blame(Kind::Environment, doing)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        open(parent)?.sync_all().blame(Kind::Environment, || format!("syncing {}", parent.display()))?;
    }
    Ok(())
}

/// A new directory beside where it will go, 0755; removed on drop unless it is swapped in by [`replace_dir`].
///
/// # Errors
/// [`Kind::Environment`], naming the parent.
pub fn temp_dir_in(parent: &Path, prefix: &str) -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    make_dir(parent)?;
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .blame(Kind::Environment, || format!("making a temporary directory in {}", parent.display()))
}

/// Puts a finished directory in the place of another, in one step: whoever looks sees the old one or the new one.
///
/// # Errors
/// [`Kind::Environment`], naming the path; the old directory is untouched then.
pub fn replace_dir(new: tempfile::TempDir, path: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let doing = || format!("replacing {}", path.display());
    for entry in list(new.path())? {
        open(&entry)?.sync_all().blame(Kind::Environment, || format!("syncing {}", entry.display()))?;
    }
    if path.exists() {
        // The temporary directory now holds what was there, and is removed when `new` drops.
        renameat_with(CWD, new.path(), CWD, path, RenameFlags::EXCHANGE).blame(Kind::Environment, doing)?;
    } else {
        fs::rename(new.keep(), path).blame(Kind::Environment, doing)?;
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        open(parent)?.sync_all().blame(Kind::Environment, || format!("syncing {}", parent.display()))?;
    }
    Ok(())
}

/// Removes what killed runs left in a directory: entries whose name begins with `prefix`. The caller holds the lock
/// that every run takes before it makes such an entry.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn sweep(dir: &Path, prefix: &str) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for path in list(dir)? {
        let stale = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if stale && path.is_dir() {
            fs::remove_dir_all(&path).blame(Kind::Environment, || format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Holds a lock file until dropped. Another process that wants the same lock waits.
#[derive(Debug)]
pub struct Flock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// Takes an exclusive lock on a file, which is made if it is missing, and waits for it if need be.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn lock(path: &Path) -> Result<Flock> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let doing = || format!("locking {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).blame(Kind::Environment, doing)?;
    file.lock().blame(Kind::Environment, doing)?;
    Ok(Flock(file))
}

/// The user's cache directory for nodelith: `$XDG_CACHE_HOME/nodelith`, else `$HOME/.cache/nodelith`.
///
/// # Errors
/// [`Kind::Environment`] when neither variable is an absolute path.
pub fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("nodelith"))
        .ok_or_else(|| {
            let fault =
                Fault::new(Kind::Environment, "there is no cache directory: neither XDG_CACHE_HOME nor HOME is set");
            fault.hint("set XDG_CACHE_HOME to an absolute path, or pass --store DIR").into()
        })
}

/// Makes or empties a scratch file that grows while it is written, such as a log. Results use [`write_atomic`].
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn create(path: &Path) -> Result<File> {
    File::create(path).blame(Kind::Environment, || format!("making {}", path.display()))
}

/// A directory of our own in the system's temporary directory; removed when dropped. Its path is short, because a
/// Unix socket's path ends at 108 bytes.
///
/// # Errors
/// [`Kind::Environment`] when it cannot be made.
pub fn scratch() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("nodelith-")
        .tempdir()
        .blame(Kind::Environment, || "making a temporary directory".to_owned())
}

/// Writes a file of a temporary directory, parents made, nothing synced.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn write_scratch(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::write(path, bytes).blame(Kind::Environment, || format!("writing {}", path.display()))
}

/// Makes a symbolic link.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn symlink(target: &str, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path).blame(Kind::Environment, || format!("making the link {}", path.display()))
}
