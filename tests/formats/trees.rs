//! Random trees, read back by `erofs-rs`.

use crate::random::{Scope, cases, tree};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;
use nodelith::format::erofs::{Options, write};
use nodelith::tree::{Node, Tree, What, show};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::os::unix::fs::PermissionsExt as _;

/// The modification time of everything.
pub const EPOCH: u64 = 1_700_000_000;

/// A tree as an image.
pub fn image(tree: &Tree) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let summary = write(tree, &Options::new(EPOCH, [7; 16]), &mut out).unwrap();
    assert_eq!(out.get_ref().len() as u64, summary.size);
    out.into_inner()
}

/// Runs a check for each seed on all cores; a failure names its seed.
pub fn each_seed(count: u64, check: impl Fn(u64) + Sync) {
    (0..count).into_par_iter().for_each(|seed| {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
        assert!(outcome.is_ok(), "seed {seed} fails: `random::tree({seed}, …)` is the tree");
    });
}

#[test]
fn any_tree_comes_back() {
    each_seed(cases(60), |seed| {
        let tree = tree(seed, Scope { privileged: true });
        same(&tree, &image(&tree));
    });
}

fn same(tree: &Tree, bytes: &[u8]) {
    let fs = EroFS::new(SliceImage::new(bytes)).unwrap();
    let mut seen = 1;
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut links = Vec::new();
    for entry in fs.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let path = entry.dir_entry.path();
        let path = path.as_bytes().strip_prefix(b"/").unwrap();
        let node = tree.get(path).unwrap_or_else(|| panic!("{} was invented", show(path)));
        if !entry.inode.file_type().is_dir() {
            *names.entry(entry.inode.id()).or_default() += 1;
            links.push((path.to_vec(), entry.inode.id(), entry.inode.nlink()));
        }
        same_inode(tree, path, node, &fs, entry.inode);
        seen += 1;
    }
    assert_eq!(seen, tree.len(), "paths were lost");
    for (path, id, nlink) in links {
        assert_eq!(nlink, names[&id], "links of {}", show(&path));
    }
}

fn same_inode(tree: &Tree, path: &[u8], node: &Node, fs: &EroFS<SliceImage<'_>>, inode: Inode) {
    let name = show(path);
    let node = if let What::HardLink(target) = &node.what { tree.get(target).unwrap() } else { node };
    assert_eq!(inode.permissions().mode() & 0o7777, u32::from(node.mode), "{name}");
    assert_eq!((inode.uid(), inode.gid()), (node.uid, node.gid), "{name}");
    assert_eq!(inode.modified_unix(), (EPOCH as i64, 0), "{name}");
    let xattrs: BTreeMap<Vec<u8>, Vec<u8>> =
        fs.xattrs_inode(inode).unwrap().into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert!(xattrs == node.xattrs, "attributes of {name}");
    let kind = inode.file_type();
    match &node.what {
        What::Directory => assert!(kind.is_dir(), "{name}"),
        What::File(content) => {
            let mut bytes = Vec::new();
            fs.open_inode_file(inode).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == content.read().unwrap(), "{name}: content of {} bytes differs", content.size);
        }
        What::Symlink(target) => assert_eq!(fs.read_link_inode(inode).unwrap().as_bytes(), target, "{name}"),
        What::CharDevice(major, minor) => {
            assert!(kind.is_char_device() && inode.device() == Some((*major, *minor)), "{name}");
        }
        What::BlockDevice(major, minor) => {
            assert!(kind.is_block_device() && inode.device() == Some((*major, *minor)), "{name}");
        }
        What::Fifo => assert!(kind.is_fifo(), "{name}"),
        What::Socket => assert!(kind.is_socket(), "{name}"),
        What::HardLink(_) => panic!("{name}: a link to a link"),
    }
}
