//! Packages → one tree, as dpkg would unpack them on a merged-/usr system, without what a node never reads.

use crate::error::{Fault, Kind, Result};
use crate::tree::{Node, Tree, What, show};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One package to merge.
pub(super) struct Part<'a> {
    /// The package's name.
    pub(super) name: &'a str,
    /// `deb systemd 257.13-1`.
    pub(super) origin: Arc<str>,
    /// The control file's text.
    pub(super) control: &'a str,
    /// Paths with their inodes, sorted.
    pub(super) nodes: Vec<(Vec<u8>, Node)>,
}

/// Top-level directories that are links into `usr` (Debian's UsrMerge).
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Below these nothing is kept: documentation, other package managers' and init systems' files, desktop data.
const DROPPED: &[&str] = &[
    "etc/apt",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/dpkg",
    "etc/init.d",
    "etc/kernel",
    "etc/logcheck",
    "etc/logrotate.d",
    "etc/rc0.d",
    "etc/rc1.d",
    "etc/rc2.d",
    "etc/rc3.d",
    "etc/rc4.d",
    "etc/rc5.d",
    "etc/rc6.d",
    "etc/rcS.d",
    "etc/update-motd.d",
    "usr/lib/systemd/catalog",
    "usr/share/applications",
    "usr/share/apport",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/doc-base",
    "usr/share/fish",
    "usr/share/icons",
    "usr/share/info",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pixmaps",
    "usr/share/zsh",
];

/// Merges packages in the given order.
///
/// # Errors
/// [`Kind::Build`] when two packages bring different files of one path and neither says that it replaces the other.
pub(super) fn merge(parts: &[Part<'_>]) -> Result<Tree> {
    let mut tree = Tree::new();
    let base: Arc<str> = Arc::from("assemble merge");
    for name in MERGED {
        tree.directory(&format!("usr/{name}"), 0o755, &base)?;
        tree.symlink(name, &format!("usr/{name}"), &base)?;
    }
    let mut owners: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        for (path, node) in &part.nodes {
            if dropped(path, &node.what) || MERGED.iter().any(|name| path == name.as_bytes()) {
                continue;
            }
            let path = placed(&tree, path);
            let mut node = node.clone();
            if let What::HardLink(target) = &node.what {
                node.what = What::HardLink(placed(&tree, target));
            }
            if node.what == What::Directory {
                // The first package decides; one that sees a link to a directory here means that directory.
                if tree.get(&path).is_none() {
                    tree.put(&path, node)?;
                }
                continue;
            }
            let same = tree.get(&path).is_some_and(|there| there.what == node.what);
            if let Some(other) = owners.get(&path).filter(|_| !same).map(|other| &parts[*other]) {
                if replaces(other.control, part.name) {
                    continue;
                }
                if !replaces(part.control, other.name) {
                    let message = format!("`{}` is in {} and in {}", show(&path), other.origin, part.origin);
                    let fault = Fault::new(Kind::Build, message);
                    return Err(fault.hint("leave one of the two packages out of the spec and its roles").into());
                }
            }
            owners.insert(path.clone(), at);
            tree.put(&path, node)?;
        }
    }
    Ok(tree)
}

/// Where a path of a package goes: through the links that are in the tree, but its own last part is not followed.
fn placed(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let Some(slash) = path.iter().rposition(|c| *c == b'/') else { return path.to_vec() };
    let Some(mut placed) = tree.resolve(&path[..slash]) else { return path.to_vec() };
    placed.extend_from_slice(&path[slash..]);
    placed
}

fn dropped(path: &[u8], what: &What) -> bool {
    let below = |dir: &str| path.strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    if let Some(name) = path.strip_prefix(b"usr/share/doc/") {
        // Licences ask to travel with the programs. A package's may be those of another of the same source, by a link.
        let link = matches!(what, What::Symlink(_)) && !name.contains(&b'/');
        return !path.ends_with(b"/copyright") && !link;
    }
    DROPPED.iter().any(|dir| below(dir))
}

/// Whether a control file says that its package replaces files of another.
fn replaces(control: &str, other: &str) -> bool {
    let mut field = String::new();
    let mut inside = false;
    for line in control.lines() {
        if let Some(rest) = line.strip_prefix("Replaces:") {
            inside = true;
            field.push_str(rest);
        } else if inside && line.starts_with([' ', '\t']) {
            field.push_str(line);
        } else {
            inside = false;
        }
    }
    field.split(',').filter_map(|relation| relation.split_whitespace().next()).any(|name| name == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part<'a>(name: &'a str, control: &'a str, files: &[(&str, What)]) -> Part<'a> {
        let origin: Arc<str> = Arc::from(format!("deb {name} 1"));
        let nodes =
            files.iter().map(|(path, what)| (path.as_bytes().to_vec(), Node::new(what.clone(), 0o644, &origin)));
        Part { name, nodes: nodes.collect(), origin, control }
    }

    fn file(text: &str) -> What {
        What::File(crate::tree::Content::from_bytes(text.into()))
    }

    #[test]
    fn what_is_below_a_merged_directory_goes_to_usr() {
        let tree =
            merge(&[part("a", "", &[("bin", What::Directory), ("bin/x", file("1")), ("lib/y", file("2"))])]).unwrap();
        assert_eq!(tree.get("usr/bin/x").unwrap().what, file("1"));
        assert_eq!(tree.get("usr/lib/y").unwrap().what, file("2"));
        assert_eq!(tree.get("bin").unwrap().what, What::Symlink(b"usr/bin".to_vec()));
    }

    #[test]
    fn two_owners_of_a_path_need_replaces() {
        let both = |first: &str, second: &str| {
            merge(&[part("a", first, &[("etc/x", file("1"))]), part("b", second, &[("etc/x", file("2"))])])
        };
        let error = both("", "").unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Build);
        assert!(error.to_string().contains("`etc/x` is in deb a 1 and in deb b 1"));
        assert_eq!(both("", "Replaces: z,\n a (<< 2)\n").unwrap().get("etc/x").unwrap().what, file("2"));
        assert_eq!(both("Replaces: b\n", "").unwrap().get("etc/x").unwrap().what, file("1"));
    }

    #[test]
    fn documents_go_and_licences_stay() {
        let files = [
            ("usr/share/doc/a/copyright", file("c")),
            ("usr/share/doc/a/README", file("r")),
            ("usr/share/doc/a/NEWS", What::Symlink(b"../b/NEWS".to_vec())),
            ("usr/share/doc/b", What::Symlink(b"a".to_vec())),
            ("usr/share/man/x", file("m")),
        ];
        let tree = merge(&[part("a", "", &files)]).unwrap();
        assert!(tree.get("usr/share/doc/a/copyright").is_some());
        assert!(tree.content("usr/share/doc/b/copyright").is_some());
        for gone in ["usr/share/doc/a/README", "usr/share/doc/a/NEWS", "usr/share/man"] {
            assert!(tree.get(gone).is_none(), "{gone}");
        }
    }
}
