//! Tools: a closure of packages extracted to the host's file system, to be run from there.
//!
//! Only here do a package's paths become paths of the host. Every path was checked when the package was unpacked; on top,
//! the tree of the whole closure is put together in memory first (so no path leads through a link of another package),
//! links are written last (so nothing is written through one), and modes lose set-id bits. A link whose target, read as
//! text, leaves the root is not made. By way of other links one may still lead out (`u/d → ..`, `l → u/d/..`): whoever
//! runs a tool trusts its packages anyway.

use super::{Check, Store, cannot_write, hash_file, sealed, unsealed};
use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::sys;
use crate::sys::fs::FileKind;
use crate::tree::{Content, Node, Tree, What, show};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Written last into an extracted tool: what it must hold.
const LISTING: &str = ".nodelith-listing";

/// All that was extracted, by path.
type Listing = BTreeMap<String, Listed>;

/// What a path of an extracted tool must be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Listed {
    Directory,
    File { sha256: Sha256, executable: bool },
    Symlink(String),
}

impl Listed {
    fn is_at(&self, path: &Path) -> bool {
        let Ok(kind) = sys::fs::kind(path) else { return false };
        match self {
            Self::Directory => kind == FileKind::Directory,
            Self::Symlink(target) => matches!(kind, FileKind::Symlink(found) if found == *target),
            Self::File { sha256, executable } => {
                kind == FileKind::File { executable: *executable }
                    && hash_file(path).is_ok_and(|(found, _)| found == *sha256)
            }
        }
    }
}

/// The digest that names a closure of packages: over the digests of all of them, in any order.
#[must_use]
pub fn closure_digest(debs: &[Sha256]) -> Sha256 {
    let mut sorted = debs.to_vec();
    sorted.sort();
    let text: String = std::iter::once("tool 1\n".into()).chain(sorted.iter().map(|deb| format!("{deb}\n"))).collect();
    Sha256::of(text.as_bytes())
}

/// Refuses a tool of which anything is not as it was extracted. What lies there besides is no damage: some programs keep
/// caches beside their files.
///
/// # Errors
/// [`Kind::Integrity`], naming the first such path.
pub fn verify_tool(dir: &Path) -> Result<()> {
    let damaged = |path: &str| {
        let message = format!("{} was damaged in the store", dir.join(path).display());
        Fault::new(Kind::Integrity, message).hint("run `nodelith cache clean` and build again")
    };
    let listing = sys::fs::read(&dir.join(LISTING)).ok();
    let listing: Option<Listing> = listing.and_then(|bytes| serde_json::from_slice(unsealed(&bytes)?).ok());
    let listing = listing.ok_or_else(|| damaged(LISTING))?;
    match listing.par_iter().find_first(|(path, listed)| !listed.is_at(&dir.join(path))) {
        Some((path, _)) => Err(damaged(path).into()),
        None => Ok(()),
    }
}

impl Store {
    /// The directory of a tool that was extracted before. A damaged one counts as missing with [`Check::Now`]; with
    /// [`Check::Later`], [`verify_tool`] has to be asked before anything of it is run.
    #[must_use]
    pub fn extracted(&self, debs: &[Sha256], check: Check) -> Option<PathBuf> {
        let dir = self.tool_dir(debs);
        let sound = match check {
            Check::Now => verify_tool(&dir).is_ok(),
            Check::Later => dir.join(LISTING).is_file(),
        };
        sound.then_some(dir)
    }

    /// Extracts packages (objects of this store) into one directory and returns it. What is damaged there is replaced.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when a package is unsound; [`Kind::Environment`] when there is no room.
    pub fn extract(&self, debs: &[Sha256]) -> Result<PathBuf> {
        let digest = closure_digest(debs);
        let _lock = self.lock(&format!("{digest}.tool"))?;
        if let Some(dir) = self.extracted(debs, Check::Now) {
            return Ok(dir);
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
        let listing = write_tree(&tree, temp.path())?;
        sys::fs::write_scratch(&temp.path().join(LISTING), &sealed(&serde_json::to_vec(&listing)?))?;
        // Not synced: before it is run another time it is checked, and extracted again when the medium lost some of it.
        let dir = self.tool_dir(debs);
        sys::fs::remove(&dir)?;
        sys::fs::rename(temp.path(), &dir)?;
        // Renamed away: there is nothing left for the guard to remove.
        let _ = temp.keep();
        Ok(dir)
    }

    fn tool_dir(&self, debs: &[Sha256]) -> PathBuf {
        self.dir.join("tools").join(closure_digest(debs).to_string())
    }
}

/// Writes a tree and lists what was written. Directories and files first, links last: no write can pass through a link.
fn write_tree(tree: &Tree, root: &Path) -> Result<Listing> {
    let host = |path: &[u8]| root.join(std::ffi::OsStr::from_bytes(path));
    let mut files = Vec::new();
    for (path, node) in tree.iter() {
        match &node.what {
            What::Directory => sys::fs::make_dir(&host(path))?,
            What::File(content) => files.push((path, runs(node), content)),
            _ => {}
        }
    }
    files.par_iter().try_for_each(|(path, runs, content)| write_file(&host(path), *runs, content))?;
    let mut listing = Listing::new();
    for (path, node) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        let listed = match &node.what {
            What::Directory => Listed::Directory,
            What::File(content) => Listed::File { sha256: content.digest, executable: runs(node) },
            What::HardLink(target) => {
                std::fs::hard_link(host(target), host(path))
                    .blame(Kind::Environment, || format!("linking {}", host(path).display()))?;
                let Some(Node { what: What::File(content), .. }) = tree.get(target) else { continue };
                Listed::File { sha256: content.digest, executable: tree.get(target).is_some_and(runs) }
            }
            What::Symlink(target) => {
                let Some(target) = inside(path, target) else { continue };
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), host(path))
                    .blame(Kind::Environment, || format!("linking {}", host(path).display()))?;
                Listed::Symlink(String::from_utf8_lossy(&target).into_owned())
            }
            _ => return Err(Fault::new(Kind::Integrity, format!("`{}` is a device", show(path))).into()),
        };
        listing.insert(String::from_utf8_lossy(path).into_owned(), listed);
    }
    Ok(listing)
}

/// Whether a file is a program.
fn runs(node: &Node) -> bool {
    node.mode & 0o111 != 0
}

fn write_file(path: &Path, runs: bool, content: &Content) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = if runs { 0o755 } else { 0o644 };
    let bytes = content.read()?;
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .blame(Kind::Environment, || format!("making {}", path.display()))?;
    file.write_all(&bytes).map_err(|error| cannot_write(error, path, content.size))
}

/// A link's target, relative, and as text inside the root; `None` when it would leave it.
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
