//! What was built from what: every input and output by digest, the root hash, and the origin of every path.
//!
//! The text is canonical JSON (sorted, one path a line), so two builds of one lock have equal manifests.

use crate::digest::Sha256;
use crate::error::{Blame as _, Fault, Kind, Result};
use crate::lock::{Binary, Lock, Package};
use crate::spec::requests::Use;
use crate::spec::{Skew, Version};
use crate::sys;
use crate::tree::{Tree, What, show};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the manifest's format.
pub const SCHEMA: u32 = 1;

/// The manifest's name beside the image's files.
pub const FILE: &str = "manifest.json";

/// What [`FILE`] holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The image's name.
    pub name: String,
    /// The version of nodelith that built it.
    pub nodelith: String,
    /// Every time stamp in the image, seconds since 1970.
    pub epoch: u64,
    /// Of the canonical lock text: names all inputs at once.
    pub lock: Sha256,
    /// A machine's dm-verity root hash, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root_hash: Option<String>,
    /// A machine's kernel command line.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cmdline: Option<String>,
    /// A container's reference, `nodelith.dev/pause:1`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
    /// Of a container's OCI manifest: what container tools call the image's digest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Sha256>,
    /// The containers that a machine preloads: reference → digest of the OCI manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub containers: BTreeMap<String, Sha256>,
    /// Listeners beyond loopback that the roles declare, `udp 8472 kernel`.
    pub listeners: Vec<String>,
    /// The certificates that the roles declare: name → provisioner.
    pub certificates: BTreeMap<String, String>,
    /// Files beside the manifest.
    pub outputs: Vec<Output>,
    /// Debian packages that went into the image, the initrd or the stub.
    pub packages: Vec<Package>,
    /// Programs from other sources.
    pub binaries: Vec<Binary>,
    /// How far versions of programs may be from those of others, on this machine or another one, by the program's id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub skew: BTreeMap<String, Vec<Skew>>,
    /// Every path of the root file system.
    pub paths: BTreeMap<String, Entry>,
}

/// A file that the build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name beside the manifest.
    pub file: String,
    /// In bytes; of a sparse file, its length.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Sha256,
}

/// A path of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `d`, `f`, `l`, `h`, `c`, `b`, `p` or `s`, as in `find -type`, with `h` for a hard link; then the mode in octal.
    pub mode: String,
    /// `uid:gid`.
    pub owner: String,
    /// Of a regular file's content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Sha256>,
    /// Where a symbolic or hard link goes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// Why it is there.
    pub origin: String,
}

/// The entries of a tree, by path; the root directory is `/`.
#[must_use]
pub fn paths(tree: &Tree) -> BTreeMap<String, Entry> {
    let entry = |(path, node): (&[u8], &crate::tree::Node)| {
        let (letter, sha256, target) = match &node.what {
            What::Directory => ('d', None, None),
            What::File(content) => ('f', Some(content.digest), None),
            What::Symlink(target) => ('l', None, Some(show(target))),
            What::HardLink(target) => ('h', None, Some(show(target))),
            What::CharDevice(..) => ('c', None, None),
            What::BlockDevice(..) => ('b', None, None),
            What::Fifo => ('p', None, None),
            What::Socket => ('s', None, None),
        };
        let mode = format!("{letter}{:04o}", node.mode);
        let owner = format!("{}:{}", node.uid, node.gid);
        let entry = Entry { mode, owner, sha256, target, origin: node.origin.to_string() };
        (format!("/{}", show(path)), entry)
    };
    tree.iter().map(entry).collect()
}

/// What a mounted root must hold, as two digests that `find` and `sha256sum` can tell too: of every path with type, mode,
/// owner and where a symbolic link goes (`%y%04m %U:%G %P %l`), and of every file's bytes (`sha256sum --zero`). Each line
/// ends with a NUL, and the lines are sorted as bytes.
#[must_use]
pub fn seen_from_inside(paths: &BTreeMap<String, Entry>) -> [Sha256; 2] {
    let digest = |mut lines: Vec<String>| {
        lines.sort();
        Sha256::of(lines.concat().as_bytes())
    };
    let (mut tree, mut files) = (Vec::new(), Vec::new());
    for (path, entry) in paths {
        // A hard link is another name of its file: that one's mode and owner are what is seen.
        let other = entry.target.as_ref().filter(|_| entry.mode.starts_with('h'));
        let entry = other.and_then(|target| paths.get(&format!("/{target}"))).unwrap_or(entry);
        let (path, target) = (path.trim_start_matches('/'), entry.target.as_deref().unwrap_or_default());
        tree.push(format!("{} {} {path} {target}\0", entry.mode, entry.owner));
        files.extend(entry.sha256.map(|sha256| format!("{sha256}  {path}\0")));
    }
    [digest(tree), digest(files)]
}

/// Whether a directory holds an image.
#[must_use]
pub fn stands(dir: &Path) -> bool {
    dir.join(FILE).is_file()
}

impl Manifest {
    /// What a lock says of the image's own inputs; tools of the host side are left out.
    #[must_use]
    pub fn inputs(lock: &Lock) -> Vec<Package> {
        let in_image =
            |package: &&Package| package.uses.iter().any(|usage| matches!(usage, Use::Image | Use::Initrd | Use::Stub));
        lock.packages.iter().filter(in_image).cloned().collect()
    }

    /// The canonical text.
    ///
    /// # Errors
    /// Never in practice: every field is representable.
    pub fn to_text(&self) -> Result<String> {
        let mut head = self.clone();
        head.paths.clear();
        let head = serde_json::to_string_pretty(&head)?;
        let lines = self.paths.iter().map(|(path, entry)| {
            Ok(format!("    {}: {}", serde_json::to_string(path)?, serde_json::to_string(entry)?))
        });
        let lines: Vec<String> = lines.collect::<Result<_>>()?;
        let empty = "\"paths\": {}";
        Ok(head.replacen(empty, &format!("\"paths\": {{\n{}\n  }}", lines.join(",\n")), 1) + "\n")
    }

    /// Reads a manifest's text.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when it is not a manifest.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).blame(Kind::Integrity, || "reading a manifest".into())
    }

    /// The manifest of the image in a directory, and the digest of its text, which stands for the image.
    ///
    /// # Errors
    /// [`Kind::Usage`] when there is no image, [`Kind::Integrity`] when its manifest is damaged.
    pub fn of_image(dir: &Path) -> Result<(Self, Sha256)> {
        if !stands(dir) {
            let fault = Fault::new(Kind::Usage, format!("there is no image in {}", dir.display()));
            let name = dir.file_name().map_or("NAME".into(), |name| name.to_string_lossy());
            let hint = format!("run `nodelith build image-specs/{name}.toml`, or pass the directory that a build made");
            return Err(fault.hint(hint).into());
        }
        let path = dir.join(FILE);
        let text = sys::fs::read_text(&path)?;
        let damaged = || Fault::new(Kind::Integrity, format!("{} is damaged", path.display())).hint("build it again");
        let manifest = Self::parse(&text).map_err(|why| why.context(damaged()))?;
        Ok((manifest, Sha256::of(text.as_bytes())))
    }

    /// Why a program of this image must not meet one of another image, or of the same, if so.
    #[must_use]
    pub fn unfit(&self, other: &Self) -> Option<String> {
        let named = |binaries: &[Binary], id: &str| binaries.iter().find(|binary| binary.id == id).cloned();
        self.skew.iter().flat_map(|(id, skews)| skews.iter().map(move |skew| (id, skew))).find_map(|(id, skew)| {
            let (mine, theirs) = (named(&self.binaries, id)?, named(&other.binaries, &skew.of)?);
            let wrong = skew.unfit(Version::of_origin(&mine.from), Version::of_origin(&theirs.from))?;
            let said = |image: &Self, binary: &Binary| format!("`{}` of {} is {}", binary.id, image.name, binary.from);
            Some(format!("{}, {}: {wrong}", said(self, &mine), said(other, &theirs)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_round_trips_with_one_path_a_line() {
        let mut tree = Tree::new();
        let origin = std::sync::Arc::from("deb x 1");
        tree.file("usr/bin/x", 0o755, b"1", &origin).unwrap();
        tree.symlink("bin", "usr/bin", &origin).unwrap();
        let manifest = Manifest {
            schema: SCHEMA,
            name: "worker".into(),
            nodelith: "0".into(),
            epoch: 1,
            lock: Sha256::of(b""),
            root_hash: Some("00".into()),
            cmdline: Some("ro".into()),
            reference: None,
            digest: None,
            containers: BTreeMap::new(),
            listeners: Vec::new(),
            certificates: BTreeMap::new(),
            outputs: vec![Output { file: "worker.raw".into(), size: 1, sha256: Sha256::of(b"r") }],
            packages: Vec::new(),
            binaries: Vec::new(),
            skew: BTreeMap::new(),
            paths: paths(&tree),
        };
        let text = manifest.to_text().unwrap();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest);
        assert_eq!(text.lines().filter(|line| line.contains("deb x 1")).count(), 4);
    }

    #[test]
    fn a_root_is_what_find_and_sha256sum_would_say_of_it() {
        let mut tree = Tree::new();
        let origin = std::sync::Arc::from("x");
        tree.file("b", 0o4755, b"1", &origin).unwrap();
        tree.symlink("a", "b", &origin).unwrap();
        tree.put("c", crate::tree::Node::new(What::HardLink(b"b".to_vec()), 0o4755, &origin)).unwrap();
        let one = Sha256::of(b"1");
        let [found_tree, found_files] = seen_from_inside(&paths(&tree));
        assert_eq!(found_tree, Sha256::of(b"d0755 0:0  \0f4755 0:0 b \0f4755 0:0 c \0l0777 0:0 a b\0"));
        assert_eq!(found_files, Sha256::of(format!("{one}  b\0{one}  c\0").as_bytes()));
    }
}
