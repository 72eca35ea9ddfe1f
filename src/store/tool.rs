//! Tools: a closure of packages extracted to the host's file system, to be run from there.
//!
//! Only here do a package's paths become paths of the host. Every path was checked when the package was unpacked; on top,
//! the tree of the whole closure is put together in memory first (so no path leads through a link of another package),
//! links are written last and point inside, and modes lose set-id bits.

use super::{Store, cannot_write};
use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::sys;
use crate::tree::{Content, Tree, What, show};
use rayon::prelude::*;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Written last into an extracted tool; its absence means that a hand has been there.
const MARK: &str = ".nodelith-complete";

/// The digest that names a closure of packages: over the digests of all of them, in any order.
#[must_use]
pub fn closure_digest(debs: &[Sha256]) -> Sha256 {
    let mut sorted = debs.to_vec();
    sorted.sort();
    let text: String = std::iter::once("tool 1\n".into()).chain(sorted.iter().map(|deb| format!("{deb}\n"))).collect();
    Sha256::of(text.as_bytes())
}

impl Store {
    /// The directory of a tool that was extracted before.
    #[must_use]
    pub fn extracted(&self, debs: &[Sha256]) -> Option<PathBuf> {
        let dir = self.tool_dir(debs);
        dir.join(MARK).is_file().then_some(dir)
    }

    /// Extracts packages (objects of this store) into one directory and returns it.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when a package is unsound; [`Kind::Environment`] when there is no room.
    pub fn extract(&self, debs: &[Sha256]) -> Result<PathBuf> {
        let digest = closure_digest(debs);
        let _lock = self.lock(&format!("{digest}.tool"))?;
        if let Some(dir) = self.extracted(debs) {
            return Ok(dir);
        }
        let dir = self.tool_dir(debs);
        if dir.exists() {
            sys::fs::remove(&dir)?;
        }
        let mut tree = Tree::new();
        let packages: Vec<_> = debs.par_iter().with_max_len(1).map(|deb| (deb, self.unpack_once(deb))).collect();
        for (deb, package) in packages {
            let origin: Arc<str> = format!("deb {}", deb.short()).into();
            for (path, mut node) in package?.nodes(&origin) {
                if node.what == What::Directory && tree.get(path).is_some_and(|old| old.what == What::Directory) {
                    continue;
                }
                node.mode &= 0o755;
                tree.put(path, node).map_err(|error| {
                    error.context(Fault::new(Kind::Integrity, format!("extracting package {}", deb.short())))
                })?;
            }
        }
        let temp = sys::fs::temp_dir_in(&self.tmp(), "tool-")?;
        write_tree(&tree, temp.path())?;
        sys::fs::write_atomic(&temp.path().join(MARK), b"")?;
        sys::fs::rename(temp.path(), &dir)?;
        // Renamed away: there is nothing left for the guard to remove.
        let _ = temp.keep();
        Ok(dir)
    }

    fn tool_dir(&self, debs: &[Sha256]) -> PathBuf {
        self.dir.join("tools").join(closure_digest(debs).to_string())
    }
}

/// Directories and files first, links last: no write can pass through a link.
fn write_tree(tree: &Tree, root: &Path) -> Result<()> {
    let host = |path: &[u8]| root.join(std::ffi::OsStr::from_bytes(path));
    let mut files = Vec::new();
    for (path, node) in tree.iter() {
        match &node.what {
            What::Directory => sys::fs::make_dir(&host(path))?,
            What::File(content) => files.push((path, node.mode, content)),
            _ => {}
        }
    }
    files.par_iter().try_for_each(|(path, mode, content)| write_file(&host(path), *mode, content))?;
    for (path, node) in tree.iter() {
        match &node.what {
            What::Directory | What::File(_) => {}
            What::HardLink(target) => {
                std::fs::hard_link(host(target), host(path))
                    .blame(Kind::Environment, || format!("linking {}", host(path).display()))?;
            }
            What::Symlink(target) => {
                let Some(target) = inside(path, target) else { continue };
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), host(path))
                    .blame(Kind::Environment, || format!("linking {}", host(path).display()))?;
            }
            _ => return Err(Fault::new(Kind::Integrity, format!("`{}` is a device", show(path))).into()),
        }
    }
    Ok(())
}

fn write_file(path: &Path, mode: u16, content: &Content) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
    let bytes = content.read()?;
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .blame(Kind::Environment, || format!("making {}", path.display()))?;
    file.write_all(&bytes).map_err(|error| cannot_write(error, path, content.size))
}

/// A link's target, relative and inside the root; `None` when it would leave it.
fn inside(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let depth = path.iter().filter(|c| **c == b'/').count();
    if let Some(absolute) = target.strip_prefix(b"/") {
        let mut relative = b"../".repeat(depth);
        relative.extend_from_slice(absolute);
        let steps_up = absolute.split(|c| *c == b'/').any(|part| part == b"..");
        return (!steps_up).then_some(relative);
    }
    let mut level = i64::try_from(depth).ok()?;
    for part in target.split(|c| *c == b'/') {
        level += match part {
            b".." => -1,
            b"" | b"." => 0,
            _ => 1,
        };
        if level < 0 {
            return None;
        }
    }
    Some(target.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let cases = [
            ("usr/bin/awk", "/etc/alternatives/awk", Some("../../etc/alternatives/awk")),
            ("usr/lib/x", "../share/x", Some("../share/x")),
            ("usr/lib/x", "../../../etc/shadow", None),
            ("x", "..", None),
            ("usr/x", "/../etc", None),
        ];
        for (path, target, want) in cases {
            assert_eq!(inside(path.as_bytes(), target.as_bytes()).as_deref(), want.map(str::as_bytes), "{target}");
        }
    }
}
