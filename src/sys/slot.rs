//! The place of an output: a directory that is seen as it was or as it is to be, never in between, and that one process
//! at a time makes.

use crate::error::{Blame, Kind, Result};
use crate::sys::fs;
use rayon::prelude::{IntoParallelRefIterator as _, ParallelIterator as _};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};

/// The place of `out/<name>`, held by this process alone: others that want it wait.
#[derive(Debug)]
pub struct Slot<'a> {
    out: &'a Path,
    name: &'a str,
    _alone: fs::Flock,
}

impl<'a> Slot<'a> {
    /// Takes the place. What a killed process left beside it goes now.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn take(out: &'a Path, name: &'a str) -> Result<Self> {
        fs::make_dir(out)?;
        let alone = fs::lock(&fs::beside(&out.join(name), "lock"))?;
        sweep(out, &format!(".{name}.build-"))?;
        Ok(Self { out, name, _alone: alone })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.out.join(self.name)
    }

    /// A file beside the directory, for what is to be known of it: `.<name>.<kind>`.
    #[must_use]
    pub fn beside(&self, kind: &str) -> PathBuf {
        fs::beside(&self.dir(), kind)
    }

    /// Makes the directory anew: `make` fills one beside it, which then takes its place in one step. Killed at any
    /// moment, the old directory stays or the new one is complete.
    ///
    /// # Errors
    /// Those of `make`; [`Kind::Environment`], naming the path. The old directory is untouched then.
    pub fn fill<T>(&self, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let work = fs::temp_dir_in(self.out, &format!(".{}.build-", self.name))?;
        let made = make(work.path())?;
        replace_dir(work, &self.dir())?;
        Ok(made)
    }
}

/// Puts a finished directory in the place of another, in one step: whoever looks sees the old one or the new one.
///
/// # Errors
/// [`Kind::Environment`], naming the path; the old directory is untouched then.
fn replace_dir(new: tempfile::TempDir, path: &Path) -> Result<()> {
    fs::list(new.path())?.par_iter().try_for_each(|entry| fs::sync(entry))?;
    // Without this, a power cut after the exchange could leave a directory whose names were never written.
    fs::sync(new.path())?;
    let doing = || format!("replacing {}", path.display());
    let old = path.exists();
    if old {
        renameat_with(CWD, new.path(), CWD, path, RenameFlags::EXCHANGE).blame(Kind::Environment, doing)?;
    } else {
        std::fs::rename(new.path(), path).blame(Kind::Environment, doing)?;
    }
    fs::sync_name(path)?;
    if old {
        // The temporary directory now holds what was there, and goes when `new` drops, with what cannot be removed here. The
        // kernel takes a tenth of a second to forget a disk of 300 MB, so a core forgets one and the next core another.
        fs::list(new.path())?.par_iter().for_each(|entry| drop(fs::remove(entry)));
    } else {
        // Renamed away: there is nothing left for the guard to remove.
        let _ = new.keep();
    }
    Ok(())
}

/// Removes what killed runs left in a directory: entries whose name begins with `prefix`. The caller holds the lock
/// that every run takes before it makes such an entry.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
fn sweep(dir: &Path, prefix: &str) -> Result<()> {
    for path in fs::list(dir)? {
        let stale = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if stale && path.is_dir() {
            fs::remove(&path)?;
        }
    }
    Ok(())
}
