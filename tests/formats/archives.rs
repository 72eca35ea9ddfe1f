//! The UKI against objdump, the initrd against cpio and bsdtar.

use crate::random::{Random, Scope, tree};
use crate::sample::sample_stub;
use crate::tools::{Tools, is_root, tools};
use nodelith::format::{cpio, pe};
use nodelith::tree::{Content, Node, Tree, What, show};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Sections as `objdump -h` tells them: name → size, address, offset in the file.
pub fn sections(tools: &Tools, path: &Path) -> BTreeMap<String, (u64, u64, u64)> {
    let said = tools.text("objdump", &[&"-h", &path]);
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [number, name, size, address, _, offset, ..] = words[..] else { return None };
        number.parse::<u32>().ok()?;
        Some((name.to_owned(), (hex(size)?, hex(address)?, hex(offset)?)))
    };
    said.lines().filter_map(row).collect()
}

/// A section's bytes, by the table that objdump reads.
pub fn section<'a>(file: &'a [u8], table: &BTreeMap<String, (u64, u64, u64)>, name: &str) -> &'a [u8] {
    let (size, _, offset) = table[name];
    &file[offset as usize..][..size as usize]
}

#[test]
fn objdump_finds_every_section_whole() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uki.efi");
    let stub = sample_stub(5);
    let mut random = Random::new(5);
    for (initrd, kernel) in [(1, 1), (511, 512), (4096, 4097), (1_000_003, 77_777), (65_536, 0x10_0000)] {
        let (initrd, kernel) = (random.noise(initrd), random.noise(kernel));
        let uki =
            pe::Uki { stub: &stub, os_release: "ID=x\n", cmdline: "a b", uname: "6", initrd: &initrd, kernel: &kernel };
        let bytes = pe::uki(&uki).unwrap();
        fs::write(&path, &bytes).unwrap();
        let table = sections(tools, &path);
        let wanted: [(&str, &[u8]); 5] =
            [(".osrel", b"ID=x\n"), (".cmdline", b"a b"), (".uname", b"6"), (".initrd", &initrd), (".linux", &kernel)];
        assert_eq!(table.len(), 6, "{table:?}");
        for (name, content) in wanted {
            // The size in the file is rounded up to its alignment, with zeros.
            let found = section(&bytes, &table, name);
            assert!(found.starts_with(content) && found[content.len()..].iter().all(|byte| *byte == 0), "{name}");
        }
    }
}

/// A tree that an archive can hold: names in UTF-8, and no sockets, which no initrd has.
fn archivable(seed: u64, scope: Scope) -> Tree {
    let mut out = Tree::new();
    let origin = "test".into();
    let plain = |path: &[u8]| path.iter().all(|c| c.is_ascii_graphic() && !b"\\*?[".contains(c));
    for (path, node) in tree(seed, scope).iter().filter(|(path, _)| !path.is_empty()) {
        let links = if let What::HardLink(target) = &node.what { out.get(target).is_some() } else { true };
        let fits = plain(path) && !matches!(node.what, What::Socket) && links;
        if fits && out.get(path).is_none() {
            let _ = out.put(path, node.clone());
        }
    }
    out.put("always", Node::new(What::File(Content::from_bytes(b"here".to_vec())), 0o644, &origin)).unwrap();
    out
}

#[test]
fn cpio_and_bsdtar_list_and_extract_the_initrd() {
    let Some(tools) = tools() else { return };
    for seed in 0..25 {
        let tree = archivable(seed, Scope { privileged: is_root() });
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let bytes = cpio::archive(&tree, 1_700_000_000).unwrap();
        fs::write(at("archive"), &bytes).unwrap();
        let wanted: BTreeSet<String> =
            tree.iter().map(|(path, _)| if path.is_empty() { ".".into() } else { show(path) }).collect();
        let listed = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(listed(tools.text("cpio", &[&"-t", &"--quiet", &"-F", &at("archive")])), wanted, "seed {seed}");
        assert_eq!(listed(tools.text("bsdtar", &[&"-t", &"-f", &at("archive")])), wanted, "seed {seed}");
        fs::create_dir(at("root")).unwrap();
        tools.must("bsdtar", &[&"-x", &"-p", &"-f", &at("archive"), &"-C", &at("root")]);
        let mut inodes: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (path, node) in tree.iter() {
            let found = at("root").join(show(path));
            let (path, node) = match &node.what {
                What::HardLink(target) => (target.as_slice(), tree.get(target).unwrap()),
                _ => (path, node),
            };
            extracted_is(&found, node, seed);
            let ino = fs::symlink_metadata(&found).unwrap().ino();
            assert_eq!(*inodes.entry(path).or_insert(ino), ino, "seed {seed}: {} is one file", found.display());
        }
    }
}

fn extracted_is(found: &Path, node: &Node, seed: u64) {
    let name = format!("seed {seed}: {}", found.display());
    let metadata = fs::symlink_metadata(found).unwrap_or_else(|error| panic!("{name}: {error}"));
    match &node.what {
        What::Directory => assert!(metadata.is_dir(), "{name}"),
        What::File(content) => {
            assert!(metadata.is_file() && fs::read(found).unwrap() == content.read().unwrap(), "{name}");
        }
        What::Symlink(target) => {
            use std::os::unix::ffi::OsStrExt as _;
            assert_eq!(fs::read_link(found).unwrap().as_os_str().as_bytes(), target, "{name}");
        }
        What::CharDevice(major, minor) | What::BlockDevice(major, minor) => {
            assert_eq!(metadata.rdev(), rustix::fs::makedev(*major, *minor), "{name}");
        }
        _ => {}
    }
    if is_root() && !metadata.is_symlink() {
        assert_eq!(metadata.mode() & 0o7777, u32::from(node.mode), "{name}");
        // The directory that it was extracted into was there before.
        assert!(found.ends_with("root") || metadata.mtime() == 1_700_000_000, "{name}");
    }
}
