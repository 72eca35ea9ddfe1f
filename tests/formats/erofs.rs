//! EROFS against erofs-utils: checked, extracted, and every path compared.

use crate::random::{Scope, cases, tree};
use crate::tools::{Tools, is_root, tools};
use crate::trees::{EPOCH, each_seed, image};
use nodelith::tree::{Content, Node, Tree, What, show};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

#[test]
fn fsck_and_extraction_agree() {
    let Some(tools) = tools() else { return };
    let scope = Scope { privileged: is_root() };
    each_seed(cases(150), |seed| {
        let tree = tree(seed, scope);
        extracted_is(tools, &tree, &image(&tree));
    });
}

/// Checks an image, extracts it, and compares what came out with the tree.
fn extracted_is(tools: &Tools, tree: &Tree, bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image");
    fs::write(&file, bytes).unwrap();
    let root = dir.path().join("root");
    let extract = format!("--extract={}", root.display());
    let keep = if is_root() { "--preserve" } else { "--no-preserve" };
    tools.must("fsck.erofs", &[&extract, &keep, &"--overwrite", &file]);
    let mut seen = 0;
    let mut inodes: BTreeMap<u64, u32> = BTreeMap::new();
    compare(tree, &root, b"", &mut seen, &mut inodes);
    assert_eq!(seen, tree.len(), "paths were lost");
    let originals = tree.iter().filter(|(_, node)| !matches!(node.what, What::HardLink(_))).count();
    assert_eq!(inodes.len(), originals, "names of one file are one inode, and no others");
}

fn compare(tree: &Tree, root: &Path, path: &[u8], seen: &mut usize, inodes: &mut BTreeMap<u64, u32>) {
    let name = show(path);
    let at = root.join(OsStr::from_bytes(path));
    let node = tree.get(path).unwrap_or_else(|| panic!("{name} was invented"));
    let node = if let What::HardLink(target) = &node.what { tree.get(target).unwrap() } else { node };
    let found = fs::symlink_metadata(&at).unwrap();
    *seen += 1;
    *inodes.entry(found.ino()).or_default() += 1;
    same_node(node, &at, &found, &name);
    if found.is_dir() {
        for entry in fs::read_dir(&at).unwrap() {
            let child = entry.unwrap().file_name();
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend(child.as_bytes());
            compare(tree, root, &below, seen, inodes);
        }
    }
}

fn same_node(node: &Node, at: &Path, found: &fs::Metadata, name: &str) {
    let kind = found.file_type();
    let device = |major: u32, minor: u32| rustix::fs::makedev(major, minor);
    match &node.what {
        What::Directory => assert!(kind.is_dir(), "{name}"),
        What::File(content) => {
            assert!(kind.is_file(), "{name}");
            assert!(fs::read(at).unwrap() == content.read().unwrap(), "{name}: {} bytes differ", content.size);
        }
        What::Symlink(target) => assert_eq!(fs::read_link(at).unwrap().as_os_str().as_bytes(), target, "{name}"),
        What::CharDevice(major, minor) => {
            assert!(kind.is_char_device() && found.rdev() == device(*major, *minor), "{name}");
        }
        What::BlockDevice(major, minor) => {
            assert!(kind.is_block_device() && found.rdev() == device(*major, *minor), "{name}");
        }
        What::Fifo => assert!(kind.is_fifo(), "{name}"),
        What::Socket => assert!(kind.is_socket(), "{name}"),
        What::HardLink(_) => panic!("{name}: a link to a link"),
    }
    if is_root() {
        assert_eq!((found.uid(), found.gid()), (node.uid, node.gid), "{name}");
        assert_eq!(found.mtime(), EPOCH as i64, "{name}");
        if !kind.is_symlink() {
            assert_eq!(found.mode() & 0o7777, u32::from(node.mode), "{name}");
        }
    }
}

#[test]
fn dump_reads_the_superblock_and_the_attributes() {
    let Some(tools) = tools() else { return };
    let mut tree = Tree::new();
    let mut node = Node::new(What::File(Content::from_bytes(vec![b'x'; 9000])), 0o644, &"test".into());
    node.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    tree.put("usr/bin/ping", node).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image(&tree)).unwrap();
    let said = tools.text("dump.erofs", &[&"-s", &file.path()]);
    let line = |key: &str| said.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{said}")).to_owned();
    assert!(line("inode count").ends_with(" 4"), "{said}");
    assert!(line("UUID").contains("07070707-0707-0707-0707-070707070707"), "{said}");
    let said = tools.text("dump.erofs", &[&"--path=/usr/bin/ping", &file.path()]);
    assert!(said.contains("9000"), "{said}");
}
