//! Initrd: a `Tree` as a "newc" cpio archive, which the kernel unpacks into its first root file system.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux.

use crate::error::{Blame, Fault, Kind, Result};
use crate::tree::{Content, Node, Tree, What, show};
use cpio::newc::{Builder, trailer};
use std::collections::HashMap;
use std::io::Write as _;

/// zstd's level for the initrd: it is unpacked on every boot, and decompression costs the same at each level.
const LEVEL: i32 = 3;

/// Names [`archive`] and [`compress`] with all that decides their result besides the tree and the epoch, for whoever
/// keeps results by [`Tree::digest`]. A test holds the archive's bytes to the first number.
#[must_use]
pub fn version() -> String {
    format!("initrd-2-zstd-{}", zstd::zstd_safe::version_number())
}

/// Compresses an archive as one zstd frame (the kernel needs `CONFIG_RD_ZSTD`).
///
/// # Errors
/// [`Kind::Internal`] when zstd fails.
pub fn compress(archive: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(archive, LEVEL).blame(Kind::Internal, || "compressing the initrd".into())
}

/// Bytes of a tree's archive, or a little more; compressing never adds over 1 %.
#[must_use]
pub fn size(tree: &Tree) -> u64 {
    let of = |(path, node): (&[u8], &Node)| {
        let body = match &node.what {
            What::File(content) => content.size,
            What::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        // Header, the NUL behind the name, padding of name and body.
        110 + path.len() as u64 + 8 + body
    };
    tree.iter().map(of).sum::<u64>() + 256
}

/// Archives a tree. Everything belongs to root, modes are the tree's, times are `epoch`. Attributes are left out: the
/// format has no place for them.
///
/// # Errors
/// [`Kind::Build`] for a path that is not UTF-8 or a file over 4 GiB; what reading a file's content says.
pub fn archive(tree: &Tree, epoch: u64) -> Result<Vec<u8>> {
    let mtime = u32::try_from(epoch)?;
    let links = count_links(tree)?;
    let mut numbers = HashMap::new();
    let mut out = Vec::new();
    for (path, node) in tree.iter() {
        let name = if path.is_empty() { Ok(".") } else { std::str::from_utf8(path) };
        let doing = || format!("putting `{}` into the initrd", show(path));
        let name = name.blame(Kind::Build, doing)?;
        let (path, node) = original(tree, path, node)?;
        let next = u32::try_from(numbers.len())? + 1;
        // The first name of a file carries its bytes; the kernel links later ones to it by inode number.
        let is_first = !numbers.contains_key(path);
        let ino = *numbers.entry(path).or_insert(next);
        let nlink = links.get(path).copied().unwrap_or(1);
        let (format, body, device) = parts(node);
        let body = if is_first { body.bytes()? } else { Vec::new() };
        let size = u32::try_from(body.len()).blame(Kind::Build, doing)?;
        let builder =
            Builder::new(name).ino(ino).nlink(nlink).mtime(mtime).mode(format | u32::from(node.mode & 0o7777));
        let mut writer = builder.rdev_major(device.0).rdev_minor(device.1).write(out, size);
        writer.write_all(&body).blame(Kind::Internal, doing)?;
        out = writer.finish().blame(Kind::Internal, doing)?;
    }
    trailer(out).blame(Kind::Internal, || "ending the initrd".into())
}

/// The first path, in the order of the archives, at which two of them differ; `None` when they are equal.
///
/// # Errors
/// [`Kind::Integrity`] when one of them cannot be read up to there.
pub fn difference(one: &[u8], other: &[u8]) -> Result<Option<String>> {
    let (mut one, mut other) = (one, other);
    while one != other {
        let (mine, theirs) = (entry(one)?, entry(other)?);
        let (Some((name, len)), Some((other_name, other_len))) = (mine, theirs) else {
            return Ok(mine.or(theirs).map(|(name, _)| name.to_owned()).or_else(|| Some("behind its end".into())));
        };
        if one[..len] != other[..other_len] {
            return Ok(Some(name.min(other_name).to_owned()));
        }
        (one, other) = (&one[len..], &other[other_len..]);
    }
    Ok(None)
}

/// The name of an archive's first entry, and how many bytes the entry takes; `None` at its end.
fn entry(archive: &[u8]) -> Result<Option<(&str, usize)>> {
    let refuse = || Fault::new(Kind::Integrity, "the initrd is no cpio archive");
    let field = |number: usize| -> Option<usize> {
        let text = std::str::from_utf8(archive.get(6 + 8 * number..14 + 8 * number)?).ok()?;
        usize::try_from(u32::from_str_radix(text, 16).ok()?).ok()
    };
    let read = || -> Option<(&str, usize)> {
        let (body, name) = (field(6)?, field(11)?);
        let end = 110usize.checked_add(name)?;
        let name = archive.get(110..end)?.split(|c| *c == 0).next()?;
        let len = end.next_multiple_of(4).checked_add(body)?.next_multiple_of(4);
        (archive.starts_with(b"070701") && len <= archive.len()).then_some((std::str::from_utf8(name).ok()?, len))
    };
    let (name, len) = read().ok_or_else(refuse)?;
    Ok((name != "TRAILER!!!").then_some((name, len)))
}

/// What follows an entry's header.
enum Bytes<'a> {
    Here(&'a [u8]),
    Of(&'a Content),
}

impl Bytes<'_> {
    fn bytes(self) -> Result<Vec<u8>> {
        match self {
            Self::Here(bytes) => Ok(bytes.to_vec()),
            Self::Of(content) => content.read(),
        }
    }
}

/// File type, bytes, device number.
fn parts(node: &Node) -> (u32, Bytes<'_>, (u32, u32)) {
    let nothing = Bytes::Here(&[]);
    match &node.what {
        What::Directory => (0o040_000, nothing, (0, 0)),
        What::File(content) => (0o100_000, Bytes::Of(content), (0, 0)),
        What::Symlink(target) => (0o120_000, Bytes::Here(target), (0, 0)),
        What::CharDevice(major, minor) => (0o020_000, nothing, (*major, *minor)),
        What::BlockDevice(major, minor) => (0o060_000, nothing, (*major, *minor)),
        What::Fifo => (0o010_000, nothing, (0, 0)),
        // `original` has replaced a hard link by what it links to.
        What::Socket | What::HardLink(_) => (0o140_000, nothing, (0, 0)),
    }
}

/// The path and node that a hard link stands for; any other path stands for itself.
fn original<'a>(tree: &'a Tree, path: &'a [u8], node: &'a Node) -> Result<(&'a [u8], &'a Node)> {
    let What::HardLink(target) = &node.what else { return Ok((path, node)) };
    match tree.get(target) {
        Some(node) if matches!(node.what, What::File(_)) => Ok((target, node)),
        _ => {
            let message = format!("`{}` links to `{}`, which is no regular file", show(path), show(target));
            Err(Fault::new(Kind::Build, message).into())
        }
    }
}

fn count_links(tree: &Tree) -> Result<HashMap<&[u8], u32>> {
    let mut links = HashMap::new();
    for (path, node) in tree.iter() {
        *links.entry(original(tree, path, node)?.0).or_insert(0) += 1;
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use std::sync::Arc;

    fn tree() -> Tree {
        let origin = Arc::from("test");
        let mut tree = Tree::new();
        tree.file("usr/bin/init", 0o755, "#!init", &origin).unwrap();
        tree.put("a-link", Node::new(What::HardLink(b"usr/bin/init".to_vec()), 0, &origin)).unwrap();
        tree.symlink("init", "usr/bin/init", &origin).unwrap();
        let mut node = Node::new(What::CharDevice(5, 1), 0o600, &origin);
        node.uid = 1000;
        tree.put("dev/console", node).unwrap();
        tree
    }

    #[test]
    fn comes_back_in_order_with_links_and_devices() {
        let bytes = archive(&tree(), 77).unwrap();
        assert_eq!(bytes, archive(&tree(), 77).unwrap());
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            let mut content = Vec::new();
            rest = reader.to_writer(&mut content).unwrap();
            assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 77));
            found.push((
                entry.name().to_owned(),
                entry.mode(),
                entry.ino(),
                entry.nlink(),
                content,
                entry.rdev_minor(),
            ));
        }
        let names: Vec<_> = found.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, [".", "a-link", "dev", "dev/console", "init", "usr", "usr/bin", "usr/bin/init"]);
        let (link, console, init, file) = (&found[1], &found[3], &found[4], &found[7]);
        // Two names, one inode, the bytes with the first.
        assert_eq!((link.1, link.2, link.3), (0o100_755, file.2, 2));
        assert_eq!((link.4.as_slice(), file.4.as_slice()), (&b"#!init"[..], &b""[..]));
        assert_eq!((console.1, console.5), (0o020_600, 1));
        assert_eq!((init.1, init.4.as_slice()), (0o120_777, &b"usr/bin/init"[..]));
    }

    /// Whoever changes the archive's bytes changes the number in [`version`], and then this digest.
    #[test]
    fn the_archive_is_that_of_its_version() {
        assert!(version().starts_with("initrd-2-"));
        assert_eq!(
            Sha256::of(&archive(&tree(), 77).unwrap()).to_string(),
            "9cb50da09391b8d0f1db7c400eaeac418137965e51806a802c91a569e43fa036"
        );
    }

    #[test]
    fn trees_have_one_digest_if_they_have_one_archive() {
        let origin = Arc::from("test");
        let digests = |tree: &Tree| (tree.digest(), Sha256::of(&archive(tree, 77).unwrap()));
        let base = digests(&tree());
        assert_eq!(digests(&tree()), base);
        let changes: [&dyn Fn(&mut Tree); 6] = [
            &|tree| tree.file("usr/bin/init", 0o755, "#!inix", &origin).unwrap(),
            &|tree| tree.file("usr/bin/init", 0o700, "#!init", &origin).unwrap(),
            &|tree| tree.symlink("init", "usr/bin/inix", &origin).unwrap(),
            &|tree| tree.put("a-link", Node::new(What::Fifo, 0, &origin)).unwrap(),
            &|tree| tree.put("dev/console", Node::new(What::CharDevice(5, 2), 0o600, &origin)).unwrap(),
            &|tree| tree.directory("new", 0o755, &origin).unwrap(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut tree = tree();
            change(&mut tree);
            let changed = digests(&tree);
            assert!(changed.0 != base.0 && changed.1 != base.1, "change {at}");
        }
    }

    #[test]
    fn compressed_is_the_same_archive() {
        let plain = archive(&tree(), 1).unwrap();
        let packed = compress(&archive(&tree(), 1).unwrap()).unwrap();
        assert_eq!(zstd::bulk::decompress(&packed, 1 << 20).unwrap(), plain);
        assert!((plain.len() as u64..plain.len() as u64 + 512).contains(&size(&tree())));
    }

    #[test]
    fn the_first_difference_is_named() {
        let one = archive(&tree(), 1).unwrap();
        assert_eq!(difference(&one, &one).unwrap(), None);
        let differs = |change: &dyn Fn(&mut Tree)| {
            let mut tree = tree();
            change(&mut tree);
            difference(&one, &archive(&tree, 1).unwrap()).unwrap().unwrap()
        };
        assert_eq!(differs(&|tree| tree.get_mut("dev/console").unwrap().mode = 0o666), "dev/console");
        assert_eq!(differs(&|tree| tree.symlink("init", "usr/bin/tini", &Arc::from("x")).unwrap()), "init");
        assert_eq!(differs(&|tree| tree.symlink("b", "usr", &Arc::from("x")).unwrap()), "b");
        assert_eq!(differs(&|tree| tree.symlink("z", "usr", &Arc::from("x")).unwrap()), "z");
        for end in [0, 5, 109, 120] {
            assert!(difference(&one, &one[..end]).is_err(), "{end}");
        }
        let mut bad = one.clone();
        bad[54..62].copy_from_slice(b"ffffffff");
        assert!(difference(&one, &bad).is_err());
    }

    #[test]
    fn names_that_the_format_cannot_hold_are_refused() {
        let mut tree = tree();
        tree.put(b"\xff", Node::new(What::Fifo, 0o600, &Arc::from("test"))).unwrap();
        assert_eq!(crate::error::kind_of(&archive(&tree, 0).unwrap_err()), Kind::Build);
    }
}
