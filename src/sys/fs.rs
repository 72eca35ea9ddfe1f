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

/// Makes a new file for writing, or empties an old one. For files in temporary directories; outputs are written whole.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn create(path: &Path) -> Result<File> {
    File::create(path).blame(Kind::Environment, || format!("making {}", path.display()))
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

/// Holds a lock file until dropped. Another process that wants the same lock waits.
#[derive(Debug)]
pub struct Flock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// Opens a file to lock, made if it is missing.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn open_lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let doing = || format!("opening {}", path.display());
    File::options().create(true).truncate(false).write(true).open(path).blame(Kind::Environment, doing)
}

/// Takes an exclusive lock on a file, which is made if it is missing, and waits for it if need be.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn lock(path: &Path) -> Result<Flock> {
    let doing = || format!("locking {}", path.display());
    let file = open_lock(path)?;
    file.lock().blame(Kind::Environment, doing)?;
    Ok(Flock(file))
}

/// A temporary directory inside another one, removed with all that is in it when dropped.
///
/// # Errors
/// [`Kind::Environment`], naming the directory.
pub fn temp_dir_in(dir: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".nodelith-")
        .tempdir_in(dir)
        .blame(Kind::Environment, || format!("making a temporary directory in {}", dir.display()))
}

/// Renames a file or directory to its final place.
///
/// # Errors
/// [`Kind::Environment`], naming both paths.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).blame(Kind::Environment, || format!("renaming {} to {}", from.display(), to.display()))
}

/// Removes a file, or a directory with all that is in it, even where directories are not writable. Nothing there is fine.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn remove(path: &Path) -> Result<()> {
    let doing = || format!("removing {}", path.display());
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => make_writable(path).and_then(|()| fs::remove_dir_all(path)),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.blame(Kind::Environment, doing),
    }
}

/// Go's module cache makes its directories read-only, which would keep their entries from being removed.
fn make_writable(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes that this user may still write to the file system that holds a path.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn free_space(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path).blame(Kind::Environment, || format!("measuring {}", path.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
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
