//! What is written is read back by `erofs-rs`, which shares no code with the writer.

use super::{Body, EXTENT, Extent, Measured, Options, locate, measure, owner, pack, read_and_pack, write};
use crate::error::{Kind, kind_of};
use crate::tree::{Node, Tree, What};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

const EPOCH: u64 = 1_700_000_000;

fn origin() -> Arc<str> {
    Arc::from("test")
}

fn image(tree: &Tree) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let summary = write(tree, &Options::new(EPOCH, [7; 16]), &mut out).unwrap();
    let bytes = out.into_inner();
    assert_eq!(bytes.len() as u64, summary.size);
    bytes
}

/// Bytes that zstd cannot shorten, the same every time.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| step()).collect()
}

/// Bytes that shrink to about half.
fn prose(len: usize, seed: u64) -> Vec<u8> {
    noise(len, seed).into_iter().map(|byte| b"abcdefghijklmnop"[usize::from(byte & 15)]).collect()
}

fn same_as_read_back(tree: &Tree, bytes: &[u8]) {
    let fs = EroFS::new(SliceImage::new(bytes)).unwrap();
    let mut seen = 1;
    for entry in fs.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let path = entry.dir_entry.path();
        let path = path.as_bytes().strip_prefix(b"/").unwrap();
        let node = tree.get(path).unwrap_or_else(|| panic!("{} was invented", crate::tree::show(path)));
        same_inode(tree, path, node, &fs, entry.inode);
        seen += 1;
    }
    assert_eq!(seen, tree.len(), "paths were lost");
    measures_as_written(tree, bytes);
    let root = fs.get_inode(fs.super_block().root_inode_id()).unwrap();
    assert_eq!(root.permissions().mode(), u32::from(tree.get("").unwrap().mode));
}

fn measures_as_written(tree: &Tree, bytes: &[u8]) {
    let measured = measure(&mut Cursor::new(bytes)).unwrap();
    let size = |node: &Node| match &node.what {
        What::File(content) => Some(content.size),
        What::HardLink(target) => match &tree.get(target).unwrap().what {
            What::File(content) => Some(content.size),
            _ => None,
        },
        _ => None,
    };
    let wanted: BTreeMap<Vec<u8>, u64> =
        tree.iter().filter_map(|(path, node)| Some((path.to_vec(), size(node)?))).collect();
    assert_eq!(measured.iter().map(|(path, found)| (path.clone(), found.content)).collect::<BTreeMap<_, _>>(), wanted);
    assert!(measured.values().map(|found| found.stored).sum::<u64>() < bytes.len() as u64);
}

#[test]
fn a_large_file_is_packed_by_windows_as_if_at_once() {
    let content = |bytes: Vec<u8>| crate::tree::Content::from_bytes(bytes);
    let large = 8 << 20;
    for bytes in [prose(large + 1, 1), noise(large + 5000, 2), [prose(large, 3), noise(200_000, 4)].concat()] {
        assert_eq!(read_and_pack(&content(bytes.clone())).unwrap(), pack(bytes).unwrap());
    }
    let bytes = prose(large + 1, 1);
    let other = crate::digest::Sha256::of(b"other");
    let wrong = crate::tree::Content::in_source(other, bytes.len() as u64, Arc::new(bytes), 0);
    assert_eq!(kind_of(&read_and_pack(&wrong).unwrap_err()), Kind::Integrity);
}

#[test]
fn shared_data_is_measured_once() {
    let mut tree = Tree::new();
    tree.file("a", 0o644, noise(3 * 4096, 1), &origin()).unwrap();
    tree.file("b", 0o644, noise(3 * 4096, 1), &origin()).unwrap();
    tree.put("c", Node::new(What::HardLink(b"a".to_vec()), 0o644, &origin())).unwrap();
    tree.file("d", 0o644, b"0123456789".repeat(10_000), &origin()).unwrap();
    tree.file("e/empty", 0o644, b"", &origin()).unwrap();
    let measured = measure(&mut Cursor::new(image(&tree))).unwrap();
    let file = |content, stored| Measured { content, stored };
    assert_eq!(measured[&b"a"[..]], file(12_288, 12_288));
    assert_eq!((measured[&b"b"[..]], measured[&b"c"[..]]), (file(12_288, 0), file(12_288, 0)));
    // One block of zstd, and an index of 8 bytes for each of 25 logical clusters behind a head of 16.
    assert_eq!(measured[&b"d"[..]], file(100_000, 4096 + 16 + 25 * 8));
    assert_eq!(measured[&b"e/empty"[..]], file(0, 0));
    assert_eq!(kind_of(&measure(&mut Cursor::new(vec![0; 8192])).unwrap_err()), Kind::Integrity);
}

#[test]
fn an_image_that_was_cut_off_is_damaged() {
    let whole = image(&zoo());
    for len in [0, 1100, 4096, whole.len() / 2, whole.len() * 3 / 4] {
        let error = measure(&mut Cursor::new(&whole[..len])).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Integrity, "{len}: {error:#}");
    }
}

/// An image by hand: a superblock, and from block 1 on inodes of 32 bytes; the first is the root.
fn crafted(inodes: &[[u8; 32]], blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[1024..1028].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
    bytes[1036] = 12;
    bytes[1064..1068].copy_from_slice(&1u32.to_le_bytes());
    bytes.extend(inodes.concat());
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    for block in blocks {
        bytes.extend(block);
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
    }
    bytes
}

/// An inode without attributes whose data are whole blocks from `start` on.
fn plain(kind: u16, size: u32, start: u32) -> [u8; 32] {
    let mut inode = [0; 32];
    inode[4..6].copy_from_slice(&(kind << 12).to_le_bytes());
    inode[8..12].copy_from_slice(&size.to_le_bytes());
    inode[16..20].copy_from_slice(&start.to_le_bytes());
    inode
}

/// A block of a directory: names and numbers.
fn entries(entries: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let (mut heads, mut names) = (Vec::new(), Vec::<u8>::new());
    for (name, number) in entries {
        heads.extend(u64::from(*number).to_le_bytes());
        heads.extend(u16::try_from(entries.len() * 12 + names.len()).unwrap().to_le_bytes());
        heads.extend([0; 2]);
        names.extend(name);
    }
    heads.extend(names);
    heads
}

#[test]
fn a_small_image_does_not_take_the_time_and_memory_of_a_large_one() {
    let refused = |bytes: Vec<u8>, why: &str| {
        let error = measure(&mut Cursor::new(bytes)).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Integrity);
        assert!(format!("{error:#}").contains(why), "{error:#}");
    };
    let (dir, file) = (4, 8);
    // Directories of the same block, which names each of them.
    let all = entries(&(0..250).map(|at| (at.to_string().into_bytes(), at)).collect::<Vec<_>>());
    refused(crafted(&vec![plain(dir, 4096, 3); 250], &[all]), "overlap");
    // A chain of directories, the name of each of which fills most of a block.
    let chain: Vec<_> = (0..5u32).map(|at| plain(dir, 4096, 2 + at)).collect();
    let blocks: Vec<_> = (0..5u32).map(|at| entries(&[(vec![b'a'; 2000], at + 1)])).collect();
    refused(crafted(&chain, &blocks), "without end");
    // A file that claims to be as large as numbers go.
    let mut huge = plain(file, u32::MAX, 0);
    huge[0] = 1;
    huge[12..16].fill(0xff);
    let named = entries(&[(b"f".to_vec(), 1)]);
    refused(crafted(&[plain(dir, 4096, 2), huge, [0; 32]], &[named]), "reading the EROFS image");
}

fn same_inode(tree: &Tree, path: &[u8], node: &Node, fs: &EroFS<SliceImage<'_>>, inode: erofs_rs::types::Inode) {
    let name = crate::tree::show(path);
    let node = if let What::HardLink(target) = &node.what { tree.get(target).unwrap() } else { node };
    assert_eq!(inode.permissions().mode() & 0o7777, u32::from(node.mode), "{name}");
    assert_eq!((inode.uid(), inode.gid()), (node.uid, node.gid), "{name}");
    assert_eq!(inode.modified_unix(), (EPOCH as i64, 0), "{name}");
    let xattrs: BTreeMap<Vec<u8>, Vec<u8>> =
        fs.xattrs_inode(inode).unwrap().into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(xattrs, node.xattrs, "{name}");
    let kind = inode.file_type();
    match &node.what {
        What::Directory => assert!(kind.is_dir(), "{name}"),
        What::File(content) => {
            let mut bytes = Vec::new();
            fs.open_inode_file(inode).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == content.read().unwrap(), "{name}: content of {} bytes differs", bytes.len());
        }
        What::Symlink(target) => assert_eq!(fs.read_link_inode(inode).unwrap().as_bytes(), target, "{name}"),
        What::CharDevice(major, minor) => {
            assert!(kind.is_char_device());
            assert_eq!(inode.device(), Some((*major, *minor)), "{name}");
        }
        What::BlockDevice(major, minor) => {
            assert!(kind.is_block_device());
            assert_eq!(inode.device(), Some((*major, *minor)), "{name}");
        }
        What::Fifo => assert!(kind.is_fifo()),
        What::Socket => assert!(kind.is_socket()),
        What::HardLink(_) => panic!("{name}: a link to a link"),
    }
}

/// One of everything.
fn zoo() -> Tree {
    let o = origin();
    let mut tree = Tree::new();
    for len in [0, 1, 4000, 4031, 4032, 4033, 4064, 4065, 4095, 4096, 4097, 8192, 20_000, EXTENT, EXTENT + 1, 700_001] {
        tree.file(&format!("prose/{len}"), 0o644, prose(len, len as u64), &o).unwrap();
        tree.file(&format!("noise/{len}"), 0o600, noise(len, len as u64), &o).unwrap();
    }
    let mixed = [prose(EXTENT, 1), noise(EXTENT, 2), vec![0; EXTENT], prose(5, 3)].concat();
    tree.file("mixed", 0o4755, mixed.clone(), &o).unwrap();
    tree.file("twin", 0o640, mixed, &o).unwrap();
    for at in 0..3000 {
        tree.file(&format!("many/{at:-<40}"), 0o644, vec![b'x'; at % 7], &o).unwrap();
    }
    tree.file(&format!("long/{}", "n".repeat(255)), 0o644, "long", &o).unwrap();
    tree.file("long/--before-dot", 0o644, "sorts before `.`", &o).unwrap();
    tree.put("bin/su", Node::new(What::HardLink(b"mixed".to_vec()), 0, &o)).unwrap();
    tree.symlink("lib", "usr/lib", &o).unwrap();
    tree.symlink("far", &"t/".repeat(2040), &o).unwrap();
    tree.put("dev/null", Node::new(What::CharDevice(1, 3), 0o666, &o)).unwrap();
    tree.put("dev/vda", Node::new(What::BlockDevice(254, 0x12345), 0o660, &o)).unwrap();
    tree.put("run/pipe", Node::new(What::Fifo, 0o600, &o)).unwrap();
    tree.put("run/socket", Node::new(What::Socket, 0o600, &o)).unwrap();
    for (path, uid, value) in [("capable", 0, 20), ("attributed", 70_000, 4000), ("crowded", 1000, 60_000)] {
        let mut node = Node::new(tree.get("prose/20000").unwrap().what.clone(), 0o755, &o);
        (node.uid, node.gid) = (uid, uid + 1);
        node.xattrs.insert(b"security.capability".to_vec(), noise(value, 5));
        node.xattrs.insert(b"user.empty".to_vec(), Vec::new());
        node.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        tree.put(path, node).unwrap();
    }
    let root = tree.get_mut("").unwrap();
    root.mode = 0o1777;
    root.xattrs.insert(b"user.root".to_vec(), b"yes".to_vec());
    tree
}

#[test]
fn one_of_everything_comes_back() {
    let tree = zoo();
    same_as_read_back(&tree, &image(&tree));
}

#[test]
fn links_are_counted() {
    let tree = zoo();
    let bytes = image(&tree);
    let fs = EroFS::new(SliceImage::new(&bytes)).unwrap();
    let nlink = |wanted: &str| {
        fs.walk_dir("/")
            .unwrap()
            .map(Result::unwrap)
            .find_map(|entry| (entry.dir_entry.path().as_bytes() == wanted.as_bytes()).then(|| entry.inode.nlink()))
    };
    assert_eq!(nlink("/mixed"), Some(2));
    assert_eq!(nlink("/bin/su"), Some(2));
    assert_eq!(nlink("/twin"), Some(1));
    assert_eq!(nlink("/many"), Some(2));
    let root = fs.get_inode(fs.super_block().root_inode_id()).unwrap();
    assert_eq!(root.nlink(), 2 + 7);
}

#[test]
fn threads_do_not_show_and_epoch_and_uuid_do() {
    let tree = zoo();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| image(&tree))
    };
    let one = with(1);
    assert!(one == with(3));
    assert!(one == image(&tree));
    let mut other = Cursor::new(Vec::new());
    write(&tree, &Options::new(EPOCH + 1, [7; 16]), &mut other).unwrap();
    assert!(one != other.into_inner());
}

#[test]
fn equal_files_are_stored_once() {
    let o = origin();
    let mut tree = Tree::new();
    tree.file("a", 0o644, noise(1 << 20, 1), &o).unwrap();
    let alone = image(&tree).len();
    tree.file("b", 0o755, noise(1 << 20, 1), &o).unwrap();
    assert_eq!(image(&tree).len(), alone);
}

#[test]
fn superblock_checksum_covers_the_block() {
    let bytes = image(&Tree::new());
    let mut block = bytes[1024..4096].to_vec();
    let stored = u32::from_le_bytes(block[4..8].try_into().unwrap());
    block[4..8].fill(0);
    assert_eq!(stored, !crc32c::crc32c(&block));
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let o = origin();
    let refused = |change: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::new();
        tree.file("f", 0o644, "x", &o).unwrap();
        change(&mut tree);
        let error = write(&tree, &Options::new(0, [0; 16]), &mut Cursor::new(Vec::new())).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Build, "{error:#}");
        format!("{error:#}")
    };
    let said = refused(&|tree| {
        tree.get_mut("f").unwrap().xattrs.insert(b"btrfs.x".to_vec(), Vec::new());
    });
    assert!(said.contains("`f`") && said.contains("btrfs.x"), "{said}");
    let named =
        |name: Vec<u8>| move |tree: &mut Tree| drop(tree.get_mut("f").unwrap().xattrs.insert(name.clone(), Vec::new()));
    // Longer by one than Linux takes, though what stands behind the class would fit.
    assert!(refused(&named([&b"user."[..], &[b'n'; 251]].concat())).contains("over 255 bytes"));
    assert!(refused(&named(b"user.a\0b".to_vec())).contains("zero byte"));
    refused(&|tree| tree.put("d", Node::new(What::CharDevice(1, 1 << 20), 0, &o)).unwrap());
    refused(&|tree| tree.put("h", Node::new(What::HardLink(b"gone".to_vec()), 0, &o)).unwrap());
    refused(&|tree| tree.put("h", Node::new(What::HardLink(Vec::new()), 0, &o)).unwrap());
}

#[test]
fn packing_is_pure_and_plain_when_it_does_not_pay() {
    let bytes = prose(3 * EXTENT + 77, 9);
    let body = pack(bytes.clone()).unwrap();
    assert_eq!(body, pack(bytes.clone()).unwrap());
    // A context that has compressed something else gives the same frame as a fresh one.
    let Body::Extents(extents) = &body else { panic!("prose shrinks") };
    for (extent, chunk) in extents.iter().zip(bytes.chunks(EXTENT)) {
        match extent {
            Extent::Zstd { frame, .. } => assert_eq!(frame, zstd::bulk::compress(chunk, 3).unwrap().as_slice()),
            Extent::Plain(plain) => assert_eq!(plain, chunk),
        }
    }
    assert!(matches!(pack(noise(EXTENT, 1)).unwrap(), Body::Flat(_)));
    assert!(matches!(pack(vec![0; 4096]).unwrap(), Body::Flat(_)));
}

#[test]
fn damage_at_a_located_place_hits_that_file_only() {
    let tree = zoo();
    let clean = image(&tree);
    let short = format!("many/{:-<40}", 8);
    let paths = ["mixed", "noise/8192", "prose/4000", "noise/4097", "prose/700001", &short];
    for path in paths {
        let (offset, len) = locate(&mut Cursor::new(&clean), path.as_bytes()).unwrap();
        let mut dirty = clean.clone();
        dirty[(offset + len / 2) as usize] ^= 0x55;
        let fs = EroFS::new(SliceImage::new(&dirty)).unwrap();
        for other in paths {
            let mut bytes = Vec::new();
            let read = fs.open(format!("/{other}")).unwrap().read_to_end(&mut bytes);
            let intact = read.is_ok() && bytes == tree.content(other).unwrap().read().unwrap();
            assert_eq!(intact, other != path, "{other} after damage to {path}");
        }
    }
    assert!(locate(&mut Cursor::new(&clean), b"not/there").is_err());
    assert!(locate(&mut Cursor::new(vec![0; 8192]), b"x").is_err());
}

#[test]
fn every_byte_is_told_to_its_path() {
    let tree = zoo();
    let bytes = image(&tree);
    for path in ["mixed", "noise/8192", "prose/4000", "many/8---------------------------------------", "crowded"] {
        let (offset, len) = locate(&mut Cursor::new(&bytes), path.as_bytes()).unwrap();
        for at in [offset, offset + len - 1] {
            let found = owner(&mut Cursor::new(&bytes), at).unwrap().unwrap();
            // Equal contents are stored once, and told to the first path that has them.
            let wanted = tree.content(path).unwrap();
            assert_eq!(tree.content(&found), Some(wanted), "{path} at {at} is told to {}", crate::tree::show(&found));
        }
    }
    assert_eq!(owner(&mut Cursor::new(&bytes), 1030).unwrap(), None, "the superblock is nobody's");
    assert_eq!(owner(&mut Cursor::new(&bytes), u64::MAX).unwrap(), None);
}

fn any_node() -> impl Strategy<Value = (What, u16, u32, BTreeMap<Vec<u8>, Vec<u8>>)> {
    let what = prop_oneof![
        3 => (0..300_000usize, any::<u64>(), any::<bool>()).prop_map(|(len, seed, dense)| {
            let bytes = if dense { noise(len, seed) } else { prose(len, seed) };
            What::File(crate::tree::Content::from_bytes(bytes))
        }),
        3 => (0..5000usize, any::<u64>()).prop_map(|(len, seed)| What::File(crate::tree::Content::from_bytes(noise(len, seed)))),
        2 => Just(What::Directory),
        1 => "[a-z/]{1,200}".prop_map(|target| What::Symlink(target.into_bytes())),
        1 => (0..4096u32, 0..(1u32 << 20)).prop_map(|(major, minor)| What::CharDevice(major, minor)),
    ];
    let xattrs = proptest::collection::btree_map(
        "(user|security|trusted)\\.[a-z]{1,30}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..300),
        0..3,
    );
    (what, 0..0o10000u16, prop_oneof![0..70_000u32, any::<u32>()], xattrs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_comes_back(nodes in proptest::collection::vec(("[a-c.]{1,3}(/[a-c.-]{1,200}){0,2}", any_node()), 0..40)) {
        let mut tree = Tree::new();
        for (path, (what, mode, uid, xattrs)) in nodes {
            let mut node = Node::new(what, mode, &origin());
            (node.uid, node.gid, node.xattrs) = (uid, uid / 2, xattrs);
            // Paths that are unclean or lie below a file are not the writer's concern.
            if tree.get(&path).is_none() {
                let _ = tree.put(&path, node);
            }
        }
        same_as_read_back(&tree, &image(&tree));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn fsck_finds_nothing() {
    let fsck = |args: &[&std::ffi::OsStr]| {
        let mut command = crate::sys::cmd::command("fsck.erofs");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        crate::sys::cmd::output(command.args(args), Kind::Build)
    };
    let knows_zstd = |said: Vec<u8>| said.windows(4).any(|word| word == b"zstd");
    if !fsck(&["--version".as_ref()]).is_ok_and(knows_zstd) {
        eprintln!("skipped: no fsck.erofs that knows zstd (erofs-utils 1.8) is installed");
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), &image(&zoo())).unwrap();
    // Without a directory `--extract` only decompresses everything.
    fsck(&["--extract".as_ref(), file.path().as_ref()]).unwrap();
}
