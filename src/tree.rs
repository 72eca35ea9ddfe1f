//! A file system as a value: every path with its mode, owner, extended attributes, content by digest, and origin.
//!
//! Paths are bytes without a leading slash; the root directory is the empty path. Order is byte order, so two equal
//! trees are walked alike. Nothing here touches the host's file system: content is a digest and somewhere to read from.

use crate::digest::{Hashing, Sha256};
use crate::error::{Fault, Kind, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;

/// Bytes that can be read by range. Implemented by memory here and by the store's files in `store`.
pub trait Source: Send + Sync {
    /// Reads exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// When the range cannot be read in full.
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

impl Source for Vec<u8> {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let range = self.get(start..).and_then(|rest| rest.get(..len));
        range.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// A regular file's bytes: known by digest, fetched when needed.
#[derive(Clone)]
pub struct Content {
    /// Of the whole content.
    pub digest: Sha256,
    /// In bytes.
    pub size: u64,
    source: Arc<dyn Source>,
    offset: u64,
}

impl Content {
    /// Content held in memory.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { digest: Sha256::of(&bytes), size: bytes.len() as u64, source: Arc::new(bytes), offset: 0 }
    }

    /// Content of a known digest inside a larger source.
    #[must_use]
    pub fn in_source(digest: Sha256, size: u64, source: Arc<dyn Source>, offset: u64) -> Self {
        Self { digest, size, source, offset }
    }

    /// All bytes, checked against the digest: a damaged store is found here and never gets into an image.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when the bytes differ from the digest, [`Kind::Environment`] when they cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let bytes = self.range(0, usize::try_from(self.size)?)?;
        self.check(Sha256::of(&bytes))?;
        Ok(bytes)
    }

    /// All bytes in pieces of `step` bytes, the last one shorter; while `each` has one, the next is read and hashed, so two
    /// are in memory. Whether they are what the digest says is only known when this returns: until then nothing of it may
    /// get into an image. While it waits this thread may do other work of the pool: hold no lock across it.
    ///
    /// # Errors
    /// As [`Content::read`]; those of `each`.
    pub fn read_by(&self, step: usize, mut each: impl FnMut(Vec<u8>) -> Result<()> + Send) -> Result<()> {
        let mut hashing = Hashing::new(io::sink());
        let mut at = 0;
        let mut next = || {
            let len = usize::try_from(self.size - at).map_or(step, |rest| rest.min(step));
            let bytes = self.range(at, len)?;
            hashing.write_all(&bytes)?;
            at += len as u64;
            Ok::<_, anyhow::Error>(bytes)
        };
        let mut left = self.size.div_ceil(step as u64);
        let mut ready = if left > 0 { next()? } else { Vec::new() };
        while left > 1 {
            left -= 1;
            let (used, bytes) = rayon::join(|| each(ready), &mut next);
            used?;
            ready = bytes?;
        }
        if left > 0 {
            each(ready)?;
        }
        self.check(hashing.finish().1)
    }

    fn range(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        self.source.read(self.offset + at, len).map_err(|error| {
            anyhow::Error::from(error).context(Fault::new(Kind::Environment, "reading file content from the store"))
        })
    }

    fn check(&self, found: Sha256) -> Result<()> {
        if found == self.digest {
            return Ok(());
        }
        let message = format!("content {} was damaged in the store: it now hashes to {found}", self.digest);
        Err(Fault::new(Kind::Integrity, message).hint("run `nodelith cache clean` and build again").into())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} {})", self.digest.short(), self.size)
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.size == other.size
    }
}

/// What a path is.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A directory; its entries are the paths below it.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target, byte for byte.
    Symlink(Vec<u8>),
    /// Another name of the regular file at this path, which is never itself a hard link.
    HardLink(Vec<u8>),
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One path's inode.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub what: What,
    /// Permission bits, 0o7777 at most.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Full attribute name ("security.capability") → value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Why the path is there: "deb systemd 257.13-1", "role flannel", "assemble accounts".
    pub origin: Arc<str>,
}

impl Node {
    /// A node of root's, without attributes.
    #[must_use]
    pub fn new(what: What, mode: u16, origin: &Arc<str>) -> Self {
        Self { what, mode, uid: 0, gid: 0, xattrs: BTreeMap::new(), origin: Arc::clone(origin) }
    }
}

/// A file system in memory. The root directory is always there.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node::new(What::Directory, 0o755, &Arc::from("nodelith"));
        Self { nodes: BTreeMap::from([(Vec::new(), root)]) }
    }
}

impl Tree {
    /// A tree that holds only its root directory, 0755 root:root.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every path with its node, the root first, in byte order of the whole path.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    /// Number of paths, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never true: the root is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The node at exactly this path; symbolic links are not followed.
    #[must_use]
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// The node at exactly this path, to change it.
    pub fn get_mut(&mut self, path: impl AsRef<[u8]>) -> Option<&mut Node> {
        self.nodes.get_mut(path.as_ref())
    }

    /// Puts a node at a path, replacing what was there. Missing parents are made, 0755 root:root, of the node's origin.
    ///
    /// # Errors
    /// [`Kind::Build`] when the path is not clean (see [`clean`]), a parent is not a directory, or something else would
    /// replace a directory that is not empty.
    pub fn put(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<()> {
        let path = path.as_ref();
        clean(path)?;
        self.make_parents(path, &node.origin)?;
        if let Some(old) = self.get(path).filter(|old| old.what == What::Directory && node.what != What::Directory)
            && self.below(path).next().is_some()
        {
            let (path, new, old) = (show(path), &node.origin, &old.origin);
            let message =
                format!("`{path}` is a directory that is not empty (from {old}), and no directory (from {new})");
            return Err(Fault::new(Kind::Build, message).hint("leave one of the two out").into());
        }
        self.nodes.insert(path.to_vec(), node);
        Ok(())
    }

    /// Puts a regular file of root's.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn file(&mut self, path: &str, mode: u16, bytes: impl Into<Vec<u8>>, origin: &Arc<str>) -> Result<()> {
        self.put(path, Node::new(What::File(Content::from_bytes(bytes.into())), mode, origin))
    }

    /// Puts a symbolic link of root's.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn symlink(&mut self, path: &str, target: &str, origin: &Arc<str>) -> Result<()> {
        self.put(path, Node::new(What::Symlink(target.into()), 0o777, origin))
    }

    /// Puts a directory of root's, unless one is there already: then only its mode changes.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn directory(&mut self, path: &str, mode: u16, origin: &Arc<str>) -> Result<()> {
        if let Some(node) = self.nodes.get_mut(path.as_bytes())
            && node.what == What::Directory
        {
            node.mode = mode;
            return Ok(());
        }
        self.put(path, Node::new(What::Directory, mode, origin))
    }

    /// Removes a path and everything below it; says whether it was there.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let below: Vec<_> = self.below(path).map(|(path, _)| path.to_vec()).collect();
        for path in &below {
            self.nodes.remove(path);
        }
        self.nodes.remove(path).is_some()
    }

    /// Every path strictly below a directory, at any depth.
    pub fn below<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Node)> + use<'a> {
        let mut prefix = path.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let start = prefix.clone();
        self.nodes
            .range(start..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| !path.is_empty())
            .map(|(path, node)| (path.as_slice(), node))
    }

    /// The path that remains after every symbolic link in it is followed inside the tree, the last one too.
    /// The result need not exist.
    #[must_use]
    pub fn resolve(&self, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.follow(path).map(|(end, _)| end)
    }

    /// As [`Tree::resolve`], and the paths of the links that were followed, in their order.
    #[must_use]
    pub fn follow(&self, path: impl AsRef<[u8]>) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        let mut todo: Vec<Vec<u8>> = path.as_ref().split(|c| *c == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut done: Vec<u8> = Vec::new();
        let mut links = Vec::new();
        while let Some(part) = todo.pop() {
            match part.as_slice() {
                b"" | b"." => {}
                b".." => done.truncate(done.iter().rposition(|c| *c == b'/').unwrap_or(0)),
                name => {
                    let mut next = done.clone();
                    if !next.is_empty() {
                        next.push(b'/');
                    }
                    next.extend_from_slice(name);
                    if let Some(Node { what: What::Symlink(target), .. }) = self.nodes.get(&next) {
                        // The kernel's own limit; a loop must end in an error, not in a hang.
                        if links.len() >= 40 {
                            return None;
                        }
                        if target.first() == Some(&b'/') {
                            done.clear();
                        }
                        todo.extend(target.split(|c| *c == b'/').rev().map(<[u8]>::to_vec));
                        links.push(next);
                    } else {
                        done = next;
                    }
                }
            }
        }
        Some((done, links))
    }

    /// The content of the regular file at a path, links followed.
    #[must_use]
    pub fn content(&self, path: impl AsRef<[u8]>) -> Option<&Content> {
        let path = self.resolve(path)?;
        match &self.get(&path)?.what {
            What::File(content) => Some(content),
            What::HardLink(target) => match &self.get(target)?.what {
                What::File(content) => Some(content),
                _ => None,
            },
            _ => None,
        }
    }

    /// The digest of all that the tree is, origins aside; no content is read for it.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        let mut told = Vec::new();
        let mut say = |kind: u8, value: &[u8]| {
            told.push(kind);
            told.extend_from_slice(&(value.len() as u64).to_le_bytes());
            told.extend_from_slice(value);
        };
        for (path, node) in &self.nodes {
            say(b'/', path);
            say(b'm', format!("{:o} {} {}", node.mode, node.uid, node.gid).as_bytes());
            node.xattrs.iter().for_each(|(name, value)| {
                say(b'x', name);
                say(b'=', value);
            });
            match &node.what {
                What::Directory => say(b'd', b""),
                What::File(content) => say(b'f', format!("{} {}", content.digest, content.size).as_bytes()),
                What::Symlink(target) => say(b'l', target),
                What::HardLink(target) => say(b'h', target),
                What::CharDevice(major, minor) => say(b'c', format!("{major} {minor}").as_bytes()),
                What::BlockDevice(major, minor) => say(b'b', format!("{major} {minor}").as_bytes()),
                What::Fifo => say(b'p', b""),
                What::Socket => say(b's', b""),
            }
        }
        Sha256::of(&told)
    }

    fn make_parents(&mut self, path: &[u8], origin: &Arc<str>) -> Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, c)| **c == b'/') {
            let parent = &path[..at];
            match self.nodes.get(parent) {
                None => {
                    self.nodes.insert(parent.to_vec(), Node::new(What::Directory, 0o755, origin));
                }
                Some(Node { what: What::Directory, .. }) => {}
                Some(other) => {
                    let (path, parent) = (show(path), show(parent));
                    let message =
                        format!("`{path}` needs the directory `{parent}`, which is not one (from {})", other.origin);
                    return Err(Fault::new(Kind::Build, message).into());
                }
            }
        }
        Ok(())
    }
}

/// Refuses a path that is not relative, or has an empty, `.` or `..` part, a NUL, or a part over 255 bytes.
///
/// # Errors
/// [`Kind::Build`], naming the path.
pub fn clean(path: &[u8]) -> Result<()> {
    let bad = |part: &[u8]| part.is_empty() || part == b"." || part == b".." || part.len() > 255 || part.contains(&0);
    if !path.is_empty() && path.split(|c| *c == b'/').any(bad) {
        return Err(Fault::new(Kind::Build, format!("`{}` is not a clean path", show(path))).into());
    }
    Ok(())
}

/// A path for people: control characters and broken UTF-8 escaped, so that a hostile name cannot drive a terminal.
#[must_use]
pub fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Arc<str> {
        Arc::from("test")
    }

    #[test]
    fn parents_are_made_and_must_be_directories() {
        let mut tree = Tree::new();
        tree.file("usr/bin/true", 0o755, b"x", &origin()).unwrap();
        assert_eq!(tree.get("usr/bin").unwrap().what, What::Directory);
        assert!(tree.file("usr/bin/true/no", 0o644, b"", &origin()).is_err());
    }

    #[test]
    fn only_an_empty_directory_is_replaced_by_something_else() {
        let mut tree = Tree::new();
        tree.directory("a", 0o755, &origin()).unwrap();
        tree.symlink("a", "b", &origin()).unwrap();
        tree.file("d/file", 0o644, "", &origin()).unwrap();
        let error = tree.symlink("d", "a", &Arc::from("role x")).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Build);
        assert!(error.to_string().contains("(from test)") && error.to_string().contains("(from role x)"), "{error}");
        assert_eq!(tree.get("d").unwrap().what, What::Directory);
        tree.put("d", Node::new(What::Directory, 0o700, &origin())).unwrap();
        assert!(tree.get("d/file").is_some());
    }

    #[test]
    fn unclean_paths_are_refused() {
        let mut tree = Tree::new();
        for bad in ["/etc", "a//b", "a/../b", "./a", "a/", "a\0b", &"n".repeat(256)] {
            assert!(tree.file(bad, 0o644, b"", &origin()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links_are_followed_inside_the_tree_and_loops_end() {
        let mut tree = Tree::new();
        tree.symlink("lib", "usr/lib", &origin()).unwrap();
        tree.file("usr/lib/x", 0o644, b"1", &origin()).unwrap();
        tree.symlink("etc/x", "/lib/../lib/x", &origin()).unwrap();
        tree.symlink("loop", "loop", &origin()).unwrap();
        let links = [&b"etc/x"[..], b"lib"].map(<[u8]>::to_vec);
        assert_eq!(tree.follow("etc/x").unwrap(), (b"usr/lib/x".to_vec(), links.to_vec()));
        assert_eq!(tree.content("etc/x").unwrap().size, 1);
        assert_eq!(tree.resolve("loop"), None);
    }

    #[test]
    fn below_is_only_below() {
        let mut tree = Tree::new();
        for path in ["a/b", "a-c", "ab/c"] {
            tree.file(path, 0o644, b"", &origin()).unwrap();
        }
        let below: Vec<_> = tree.below(b"a").map(|(path, _)| path.to_vec()).collect();
        assert_eq!(below, [b"a/b".to_vec()]);
        assert!(tree.remove("a"));
        assert_eq!(tree.get("a/b"), None);
    }

    #[test]
    fn the_digest_is_of_all_but_the_origins() {
        let tree = || {
            let mut tree = Tree::new();
            tree.file("a/file", 0o644, b"1", &origin()).unwrap();
            tree.symlink("link", "a", &origin()).unwrap();
            tree
        };
        let plain = tree().digest();
        let changes: [fn(&mut Tree); 8] = [
            |tree| tree.get_mut("a/file").unwrap().mode = 0o600,
            |tree| tree.get_mut("a/file").unwrap().uid = 1,
            |tree| tree.get_mut("a").unwrap().gid = 1,
            |tree| drop(tree.get_mut("a").unwrap().xattrs.insert(b"user.a".to_vec(), Vec::new())),
            |tree| tree.file("a/file", 0o644, b"2", &origin()).unwrap(),
            |tree| tree.symlink("link", "b", &origin()).unwrap(),
            |tree| tree.put("link", Node::new(What::HardLink(b"a".to_vec()), 0o777, &origin())).unwrap(),
            |tree| assert!(tree.remove("link")),
        ];
        let mut digests = std::collections::BTreeSet::from([plain]);
        for change in changes {
            let mut changed = tree();
            change(&mut changed);
            digests.insert(changed.digest());
        }
        assert_eq!(digests.len(), 9);
        let mut other = tree();
        other.get_mut("a").unwrap().origin = Arc::from("somewhere else");
        assert_eq!(other.digest(), plain);
    }

    #[test]
    fn changed_content_is_refused() {
        let source: Arc<dyn Source> = Arc::new(b"abcd".to_vec());
        let good = Content::in_source(Sha256::of(b"bc"), 2, Arc::clone(&source), 1);
        assert_eq!(good.read().unwrap(), b"bc");
        let bad = Content::in_source(Sha256::of(b"bc"), 2, source, 2);
        assert_eq!(crate::error::kind_of(&bad.read().unwrap_err()), Kind::Integrity);
    }
}
