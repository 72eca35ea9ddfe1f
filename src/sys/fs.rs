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

/// Makes a directory that only its owner may enter, or makes it so; its parents are ordinary ones.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn make_private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    make_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .blame(Kind::Environment, || format!("closing {} to others", path.display()))
}

/// Gives a file a second name; where the file system cannot, a copy. The new name appears whole or not at all.
///
/// # Errors
/// [`Kind::Environment`], naming both paths.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("keeping {} as {}", from.display(), to.display());
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(parent)?;
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let mut file = temp_in(parent)?;
    std::io::copy(&mut open(from)?, file.as_file_mut()).blame(Kind::Environment, doing)?;
    persist(file, to)
}

/// Copies a file to where it can be executed; the copy appears whole or not at all.
///
/// # Errors
/// [`Kind::Environment`], naming both paths.
pub fn copy_executable(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let doing = || format!("copying {} to {}", from.display(), to.display());
    let mut file = temp_in(to.parent().unwrap_or(Path::new(".")))?;
    std::io::copy(&mut open(from)?, file.as_file_mut()).blame(Kind::Environment, doing)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755)).blame(Kind::Environment, doing)?;
    persist(file, to)
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

/// Writes a file so that a crash at any moment leaves the old one or the new one: a temporary file beside it is synced,
/// then renamed over it. Whoever is killed in between leaves that one, `.nodelith-` and six letters.
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
    sync_name(path)
}

/// Waits until a file, or the names in a directory, are on the medium.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn sync(path: &Path) -> Result<()> {
    open(path)?.sync_all().blame(Kind::Environment, || format!("syncing {}", path.display()))
}

/// Waits until a path's own name is on the medium: it stands in the directory above.
///
/// # Errors
/// [`Kind::Environment`], naming the directory.
pub fn sync_name(path: &Path) -> Result<()> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)
}

/// Renames a temporary file to its place, nothing synced: for what is checked whenever it is read and can be made again.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn place(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path)
        .map_err(|error| error.error)
        .blame(Kind::Environment, || format!("writing {}", path.display()))
        .map(drop)
}

/// A new directory beside where it will go, 0755; removed on drop.
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

/// A hidden file or directory beside a path, for what is to be known of it: `.<name>.<kind>`.
#[must_use]
pub fn beside(path: &Path, kind: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{kind}"))
}

/// Whether a path names an open file: no longer when it was removed, or when another file has its name.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn names(path: &Path, file: &File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let doing = || format!("reading {}", path.display());
    let same = |one: &fs::Metadata, other: &fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    match fs::metadata(path) {
        Ok(found) => Ok(same(&found, &file.metadata().blame(Kind::Environment, doing)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).blame(Kind::Environment, doing),
    }
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

/// Go's module cache makes its directories read-only, which would keep their entries from being removed. For others they
/// open no further: what is removed may hold secrets.
fn make_writable(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(dir)?.permissions().mode();
    fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o700))?;
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

/// What a path of the host is, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File {
        /// Whether its owner may execute it; other bits depend on the umask of whoever checked it out.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(String),
    /// Anything else.
    Other,
}

/// What a path of the host is, links not followed.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn kind(path: &Path) -> Result<FileKind> {
    use std::os::unix::fs::PermissionsExt as _;
    let doing = || format!("reading {}", path.display());
    let metadata = fs::symlink_metadata(path).blame(Kind::Environment, doing)?;
    Ok(if metadata.is_symlink() {
        FileKind::Symlink(fs::read_link(path).blame(Kind::Environment, doing)?.to_string_lossy().into_owned())
    } else if metadata.is_dir() {
        FileKind::Directory
    } else if metadata.is_file() {
        FileKind::File { executable: metadata.permissions().mode() & 0o100 != 0 }
    } else {
        FileKind::Other
    })
}

/// What a file system says of a file without reading it. Writing to the file changes it, also when the time of its last
/// change is set back afterwards: no program can set the time of the inode's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The inode's number.
    pub inode: u64,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// When the content was last changed: seconds and nanoseconds since 1970.
    pub changed: (i64, i64),
    /// When anything about the inode was last changed.
    pub inode_changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            inode_changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The stamp of a path, links not followed.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = fs::symlink_metadata(path).blame(Kind::Environment, || format!("reading {}", path.display()))?;
    Ok(Stamp::of(&metadata))
}

/// The stamp of the running program, also when another file has its name by now; `None` where the kernel does not tell.
#[must_use]
pub fn program_stamp() -> Option<Stamp> {
    Some(Stamp::of(&fs::metadata("/proc/self/exe").ok()?))
}

/// Writes a new file that only its owner may read, whole or not at all.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".nodelith-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(parent)
        .blame(Kind::Environment, || format!("making a temporary file in {}", parent.display()))?;
    file.write_all(bytes).blame(Kind::Environment, || format!("writing {}", path.display()))?;
    persist(file, path)
}

/// Bytes on disk below a path, links not followed; what vanishes meanwhile does not count.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn disk_usage(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(0) };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return Ok(own);
    }
    match list(path) {
        Ok(entries) => entries.iter().try_fold(own, |sum, entry| Ok(sum + disk_usage(entry)?)),
        Err(_) if fs::symlink_metadata(path).is_err() => Ok(0),
        Err(error) => Err(error),
    }
}

/// Writes a file of a temporary directory, parents made, nothing synced.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
#[expect(clippy::disallowed_methods, reason = "scratch files need not appear whole")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_removed_opens_to_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let [closed, inner] = ["closed", "closed/inner"].map(|name| dir.path().join(name));
        fs::create_dir_all(&inner).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        set(&inner, 0o550);
        set(&closed, 0o500);
        make_writable(&closed).unwrap();
        assert_eq!((mode(&closed), mode(&inner)), (0o700, 0o750));
        set(&closed, 0o500);
        remove(&closed).unwrap();
        assert!(!closed.exists());
    }

    #[test]
    fn a_name_is_lost_when_its_file_is_removed_or_another_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let first = create(&path).unwrap();
        assert!(names(&path, &first).unwrap());
        rename(&path, &dir.path().join("b")).unwrap();
        assert!(!names(&path, &first).unwrap());
        let second = create(&path).unwrap();
        assert!(!names(&path, &first).unwrap() && names(&path, &second).unwrap());
    }
}
