//! Debian binary packages, deb(5): an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`.
//!
//! A package is untrusted even when its digest is right: every path is checked here once, so that whoever takes an
//! [`Entry`] can rely on clean paths, parents that are directories, hard links that point backwards, and no devices.

use crate::digest::{Hashing, Sha256};
use crate::error::{Blame, Fault, Kind, Result};
use crate::format::xz;
use crate::tree::{clean, show};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// The largest `data.tar` that is unpacked, in bytes. The largest package of Debian trixie that a node could want is
/// below 1 GiB; a few megabytes of xz can claim to be thousands of gigabytes.
pub const MAX_TAR: u64 = 4 << 30;

/// The largest `control.tar`, in bytes: a control file, checksums and scripts. What it holds is read into memory.
const MAX_CONTROL: u64 = 16 << 20;

/// What is read of `debian-binary`, in bytes: a version and an end of line.
const MAX_VERSION: u64 = 64;

/// How many bytes may stand between the content of a member of `data.tar` and that of the next, whose long names and
/// extended attributes they are: they are read into memory.
const MAX_BETWEEN: u64 = 1 << 20;

/// One path of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Without leading `./`; clean.
    pub path: String,
    /// What it is.
    pub what: EntryWhat,
    /// Permission bits, 0o7777 at most.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Extended attributes by full name, from PAX records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a path of a package is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryWhat {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Of its content.
        sha256: Sha256,
        /// In bytes.
        size: u64,
        /// Where its content begins in the tar archive.
        offset: u64,
    },
    /// A symbolic link and its target.
    Symlink(String),
    /// Another name of a regular file of the same package.
    HardLink(String),
}

fn refuse(message: impl Into<String>) -> anyhow::Error {
    Fault::new(Kind::Integrity, message).into()
}

/// Reads a package: hands the decompressed `data.tar` to `sink` piece by piece and returns the control file's text.
///
/// # Errors
/// [`Kind::Integrity`] when it is not a package or its tar archive exceeds [`MAX_TAR`]; whatever `sink` returns.
pub fn read(mut deb: impl Read, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<String> {
    let mut magic = [0; 8];
    deb.read_exact(&mut magic).blame(Kind::Integrity, || "reading the package's head".into())?;
    if &magic != b"!<arch>\n" {
        return Err(refuse("this is not a Debian package: no ar archive"));
    }
    let mut control = None;
    while let Some((name, size)) = member(&mut deb)? {
        let mut body = (&mut deb).take(size);
        if name == "debian-binary" {
            let mut version = String::new();
            let mut head = (&mut body).take(MAX_VERSION);
            head.read_to_string(&mut version).blame(Kind::Integrity, || "reading debian-binary".into())?;
            if !version.starts_with("2.") {
                return Err(refuse(format!("package format `{}` is not 2.x", version.trim().escape_debug())));
            }
        } else if name.starts_with("control.tar") {
            control = Some(control_file(decompress(&name, &mut body)?)?);
        } else if name.starts_with("data.tar") {
            copy(decompress(&name, &mut body)?, sink)?;
            return control.ok_or_else(|| refuse("the package has no control.tar before its data.tar"));
        }
        // Members that begin with `_` may be added by anyone and are to be ignored, deb(5).
        let rest = io::copy(&mut body, &mut io::sink()).blame(Kind::Integrity, || format!("reading {name}"))?;
        let left = body.limit();
        if left > 0 {
            return Err(refuse(format!("{name} claims {size} bytes but ends {left} bytes before, after {rest}")));
        }
        if size % 2 == 1 {
            deb.read_exact(&mut [0]).blame(Kind::Integrity, || format!("reading behind {name}"))?;
        }
    }
    Err(refuse("the package has no data.tar"))
}

/// The next member's name and size; `None` at the end.
fn member(ar: &mut impl Read) -> Result<Option<(String, u64)>> {
    let mut header = Vec::new();
    ar.take(60).read_to_end(&mut header).blame(Kind::Integrity, || "reading a member's header".into())?;
    if header.is_empty() {
        return Ok(None);
    }
    let text = |range: std::ops::Range<usize>| header.get(range).and_then(|field| std::str::from_utf8(field).ok());
    let parts = (text(0..16), text(48..58), header.get(58..60));
    let (Some(name), Some(size), Some(b"`\n")) = parts else {
        return Err(refuse("a member's header is broken or cut short"));
    };
    let size = size.trim_end().parse().blame(Kind::Integrity, || "reading a member's size".into())?;
    Ok(Some((name.trim_end().trim_end_matches('/').to_owned(), size)))
}

fn decompress<'a>(name: &str, body: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
    Ok(match name.rsplit_once('.').map_or("", |(_, suffix)| suffix) {
        "xz" => Box::new(xz::reader(body)?),
        "zst" => Box::new(zstd::stream::read::Decoder::new(body)?),
        "gz" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "tar" => Box::new(body),
        other => return Err(refuse(format!("{name}: compression `{}` is unknown", other.escape_debug()))),
    })
}

fn copy(mut from: impl Read, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 1 << 17];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).blame(Kind::Integrity, || "decompressing data.tar".into()),
        };
        total += n as u64;
        if total > MAX_TAR {
            return Err(refuse(format!("data.tar decompresses to more than {} GiB", MAX_TAR >> 30)));
        }
        sink(&buffer[..n])?;
    }
}

fn control_file(from: impl Read) -> Result<String> {
    let doing = || "reading control.tar".into();
    let mut tar = Vec::new();
    from.take(MAX_CONTROL + 1).read_to_end(&mut tar).blame(Kind::Integrity, doing)?;
    if tar.len() as u64 > MAX_CONTROL {
        return Err(refuse(format!("control.tar decompresses to more than {} MiB", MAX_CONTROL >> 20)));
    }
    for entry in tar::Archive::new(&tar[..]).entries().blame(Kind::Integrity, doing)? {
        let mut entry = entry.blame(Kind::Integrity, doing)?;
        if matches!(&*entry.path_bytes(), b"./control" | b"control") {
            let mut text = String::new();
            entry.read_to_string(&mut text).blame(Kind::Integrity, doing)?;
            return Ok(text);
        }
    }
    Err(refuse("control.tar holds no control file"))
}

/// Lists a package's `data.tar`, sorted by path, every file hashed.
///
/// # Errors
/// [`Kind::Integrity`], naming the path, for anything that has no place in a package: an absolute path or one with
/// `..`, a path through something that is not a directory, a device, a path twice, content cut short, names or
/// attributes without end.
pub fn index(tar: impl Read) -> Result<Vec<Entry>> {
    let doing = || "reading data.tar".into();
    let left = Cell::new(MAX_BETWEEN);
    let mut archive = tar::Archive::new(Rationed { from: tar, left: &left });
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut members = archive.entries().blame(Kind::Integrity, doing)?;
    loop {
        left.set(MAX_BETWEEN);
        let Some(member) = members.next() else { break };
        let mut member = member.blame(Kind::Integrity, doing)?;
        // What this one has is hashed as it comes.
        left.set(u64::MAX);
        let Some(entry) = entry(&mut member)? else { continue };
        let path = show(entry.path.as_bytes());
        match entries.get(&entry.path) {
            None => {}
            Some(old) if old.what == EntryWhat::Directory && entry.what == EntryWhat::Directory => {}
            Some(_) => return Err(refuse(format!("the package has `{path}` twice"))),
        }
        if let EntryWhat::HardLink(target) = &entry.what
            && !matches!(entries.get(target), Some(Entry { what: EntryWhat::File { .. }, .. }))
        {
            return Err(refuse(format!("`{path}` is a hard link to `{}`, no earlier file", show(target.as_bytes()))));
        }
        entries.insert(entry.path.clone(), entry);
    }
    for path in entries.keys() {
        for (at, _) in path.match_indices('/') {
            match entries.get(&path[..at]) {
                None | Some(Entry { what: EntryWhat::Directory, .. }) => {}
                Some(_) => {
                    let (path, parent) = (show(path.as_bytes()), show(&path.as_bytes()[..at]));
                    return Err(refuse(format!("`{path}` leads through `{parent}`, which is not a directory")));
                }
            }
        }
    }
    Ok(entries.into_values().collect())
}

/// A reader that gives no more bytes than are left.
struct Rationed<'a, R> {
    from: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(format!("more than {} KiB between two members", MAX_BETWEEN >> 10)));
        }
        let n = (&mut self.from).take(left).read(buffer)?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}

/// One member of a tar archive, `None` for the root directory itself.
fn entry(member: &mut tar::Entry<'_, impl Read>) -> Result<Option<Entry>> {
    let Some(path) = inner_path(&member.path_bytes())? else { return Ok(None) };
    let shown = show(path.as_bytes());
    let doing = || format!("reading `{shown}`");
    let target = member.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
    let what = match member.header().entry_type() {
        tar::EntryType::Directory => EntryWhat::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            let (size, offset) = (member.size(), member.raw_file_position());
            let mut reader = Hashing::new(&mut *member);
            io::copy(&mut reader, &mut io::sink()).blame(Kind::Integrity, doing)?;
            let (_, sha256, found) = reader.finish();
            if found != size {
                return Err(refuse(format!("`{shown}` claims {size} bytes but has {found}")));
            }
            EntryWhat::File { sha256, size, offset }
        }
        tar::EntryType::Symlink if !target.is_empty() => {
            EntryWhat::Symlink(String::from_utf8(target).blame(Kind::Integrity, doing)?)
        }
        tar::EntryType::Link => match inner_path(&target)? {
            Some(target) => EntryWhat::HardLink(target),
            None => return Err(refuse(format!("`{shown}` is a hard link to the root"))),
        },
        other => return Err(refuse(format!("`{shown}` is a {other:?}, which no package may carry"))),
    };
    let xattrs = xattrs(member)?;
    let header = member.header();
    let mode = header.mode().blame(Kind::Integrity, doing)? & 0o7777;
    let id = |id: io::Result<u64>| u32::try_from(id?).map_err(io::Error::other);
    let (uid, gid) = (id(header.uid()).blame(Kind::Integrity, doing)?, id(header.gid()).blame(Kind::Integrity, doing)?);
    Ok(Some(Entry { path, what, mode: u16::try_from(mode)?, uid, gid, xattrs }))
}

/// A member's path as a clean one, `None` for the root. dpkg writes `./usr/bin/`.
fn inner_path(raw: &[u8]) -> Result<Option<String>> {
    let trimmed = raw.strip_prefix(b"./").unwrap_or(raw);
    let trimmed = trimmed.strip_suffix(b"/").unwrap_or(trimmed);
    if trimmed.is_empty() && raw != b"/" || trimmed == b"." {
        return Ok(None);
    }
    let text = std::str::from_utf8(trimmed).ok().filter(|text| !text.is_empty() && clean(text.as_bytes()).is_ok());
    let text = text.ok_or_else(|| refuse(format!("the package has the unsafe path `{}`", show(raw))))?;
    Ok(Some(text.to_owned()))
}

fn xattrs(member: &mut tar::Entry<'_, impl Read>) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    if let Some(records) = member.pax_extensions().blame(Kind::Integrity, || "reading PAX records".into())? {
        for record in records {
            let record = record.blame(Kind::Integrity, || "reading PAX records".into())?;
            if let Ok(key) = record.key()
                && let Some(name) = key.strip_prefix("SCHILY.xattr.")
            {
                xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
            }
        }
    }
    Ok(xattrs)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::kind_of;

    /// One member of a test package: path, type, content or link target.
    pub(crate) type Member<'a> = (&'a str, tar::EntryType, &'a [u8]);

    /// A tar archive whose paths are not checked by the `tar` crate.
    pub(crate) fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, body) in members {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            let runs = *kind == tar::EntryType::Directory || path.contains("/bin/");
            header.set_mode(if runs { 0o755 } else { 0o644 });
            header.set_uid(0);
            header.set_gid(0);
            let data: &[u8] = if *kind == tar::EntryType::Regular { body } else { b"" };
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.as_gnu_mut().unwrap().linkname[..body.len()].copy_from_slice(body);
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// A package with this control file and these members.
    pub(crate) fn deb_of(control: &str, members: &[Member<'_>]) -> Vec<u8> {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        io::Write::write_all(&mut xz, &tar_of(members)).unwrap();
        let control = zstd::encode_all(
            &tar_of(&[
                ("./", tar::EntryType::Directory, b""),
                ("./control", tar::EntryType::Regular, control.as_bytes()),
            ])[..],
            1,
        )
        .unwrap();
        ar_of(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &control), ("data.tar.xz", &xz.finish().unwrap())])
    }

    fn ar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut ar = b"!<arch>\n".to_vec();
        for (name, body) in members {
            ar.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len()).bytes());
            ar.extend_from_slice(body);
            if body.len() % 2 == 1 {
                ar.push(b'\n');
            }
        }
        ar
    }

    fn unpacked(deb: &[u8]) -> Result<(String, Vec<Entry>)> {
        let mut tar = Vec::new();
        let control = read(deb, &mut |bytes| {
            tar.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok((control, index(&tar[..])?))
    }

    use tar::EntryType::{Block, Char, Directory, Link, Regular, Symlink};

    #[test]
    fn a_package_is_read() {
        let members: &[Member<'_>] = &[
            ("./", Directory, b""),
            ("./usr/", Directory, b""),
            ("./usr/b", Regular, b"bytes"),
            ("./usr/a", Link, b"./usr/b"),
            ("./usr/s", Symlink, b"/etc/x"),
        ];
        let (control, entries) = unpacked(&deb_of("Package: x\n", members)).unwrap();
        assert_eq!(control, "Package: x\n");
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["usr", "usr/a", "usr/b", "usr/s"]);
        assert_eq!(entries[1].what, EntryWhat::HardLink("usr/b".into()));
        assert_eq!(entries[2].what, EntryWhat::File { sha256: Sha256::of(b"bytes"), size: 5, offset: 1536 });
        assert_eq!(entries[3].what, EntryWhat::Symlink("/etc/x".into()));
    }

    #[test]
    fn hostile_members_are_refused_by_name() {
        let cases: &[(&str, &[Member<'_>], &str)] = &[
            ("absolute", &[("/etc/passwd", Regular, b"x")], "unsafe path `/etc/passwd`"),
            ("dot-dot", &[("./usr/../../x", Regular, b"x")], "unsafe path `./usr/../../x`"),
            ("through a link", &[("./l", Symlink, b"/etc"), ("./l/x", Regular, b"x")], "`l/x` leads through `l`"),
            ("link after file", &[("./l/x", Regular, b"x"), ("./l", Symlink, b"/etc")], "`l/x` leads through `l`"),
            ("through a file", &[("./f", Regular, b""), ("./f/x", Regular, b"x")], "`f/x` leads through `f`"),
            ("character device", &[("./dev/null", Char, b"")], "`dev/null` is a Char"),
            ("block device", &[("./sda", Block, b"")], "`sda` is a Block"),
            ("twice", &[("./a", Regular, b"1"), ("./a", Regular, b"2")], "has `a` twice"),
            ("hard link away", &[("./a", Link, b"/etc/shadow")], "unsafe path `/etc/shadow`"),
            ("hard link to nothing", &[("./a", Link, b"./b")], "no earlier file"),
        ];
        for (name, members, message) in cases {
            let error = unpacked(&deb_of("Package: x\n", members)).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Integrity, "{name}");
            assert!(format!("{error:#}").contains(message), "{name}: {error:#}");
        }
    }

    #[test]
    fn claims_beyond_the_bytes_are_refused() {
        let mut tar = tar_of(&[("./a", Regular, b"1234")]);
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(1 << 40);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar[..512].copy_from_slice(header.as_bytes());
        assert_eq!(kind_of(&index(&tar[..]).unwrap_err()), Kind::Integrity);

        let deb = deb_of("Package: x\n", &[("./a", Regular, b"1234")]);
        for cut in [0, 7, 30, 80, deb.len() / 2, deb.len() - 20] {
            assert_eq!(kind_of(&unpacked(&deb[..cut]).unwrap_err()), Kind::Integrity, "cut at {cut}");
        }
        let huge = ar_of(&[("debian-binary", b"2.0\n"), ("_x", b"1")]).replace_len();
        assert!(format!("{:#}", unpacked(&huge).unwrap_err()).contains("claims 9999999999 bytes"));
    }

    /// The head of a tar member that claims this many bytes.
    fn head_of(kind: tar::EntryType, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    #[test]
    fn names_and_attributes_without_end_are_refused_before_they_are_read() {
        let mib = 1 << 20;
        for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
            let head = head_of(kind, 64 * mib);
            let mut rest = io::repeat(b'a').take(64 * mib);
            let error = index(head.chain(&mut rest)).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Integrity);
            assert!(format!("{error:#}").contains("more than 1024 KiB between two members"), "{error:#}");
            assert!(64 * mib - rest.limit() <= MAX_BETWEEN, "{kind:?}");

            let control = zstd::encode_all(head.chain(io::repeat(b'a').take(64 * mib)), 1).unwrap();
            let deb = ar_of(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &control), ("data.tar", b"")]);
            assert!(deb.len() < 1 << 16);
            let error = unpacked(&deb).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Integrity);
            assert!(format!("{error:#}").contains("control.tar decompresses to more than 16 MiB"), "{error:#}");
        }
    }

    trait ReplaceLen {
        fn replace_len(self) -> Vec<u8>;
    }

    impl ReplaceLen for Vec<u8> {
        /// Makes the last member claim 9,999,999,999 bytes.
        fn replace_len(mut self) -> Vec<u8> {
            let at = self.len() - 2 - 12;
            self[at..at + 10].copy_from_slice(b"9999999999");
            self
        }
    }
}
