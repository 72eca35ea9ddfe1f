//! Two builds of what should be one image: the first path in which they differ, not the first byte.

use super::{Disk, open, read_manifest};
use crate::error::{Blame, Kind, Result};
use crate::format::gpt::Role;
use crate::format::{cpio, erofs, pe};
use crate::manifest::{self, Entry, Manifest};
use crate::sys;
use crate::tree::show;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes that are compared at a time.
const PIECE: usize = 1 << 20;
/// The largest initrd that is unpacked to be compared, in bytes.
const MAX_INITRD: usize = 1 << 30;

/// Names the first thing in which the images of two directories differ, as a clause: "/etc/hosts: its content …".
/// `None` when manifests and outputs are equal, byte for byte.
///
/// # Errors
/// [`Kind::Usage`] when there is no image, [`Kind::Integrity`] when one of them is too damaged to say.
pub fn difference(one: &Path, other: &Path) -> Result<Option<String>> {
    let (mine, theirs) = (read_manifest(one)?, read_manifest(other)?);
    if mine.name != theirs.name {
        return Ok(Some(format!("they are images of other names, {} and {}", mine.name, theirs.name)));
    }
    if let Some(said) = in_paths(&mine, &theirs) {
        return Ok(Some(said));
    }
    let file = |suffix: &str| format!("{}.{suffix}", mine.name);
    let (raw, efi) = (file("raw"), file("efi"));
    let at = |name: &str| first_difference(&one.join(name), &other.join(name));
    if (mine.root_hash.is_some(), theirs.root_hash.is_some()) != (true, true) {
        return in_files(&[file("oci.tar"), manifest::FILE.to_owned()], at);
    }
    if let Some(offset) = at(&raw)?
        && let Some(said) = in_root(one, other, &raw, offset)?
    {
        return Ok(Some(said));
    }
    if at(&efi)?.is_some() {
        return Ok(Some(format!("{efi}: {}", in_uki(&one.join(&efi), &other.join(&efi))?)));
    }
    in_files(&[raw, file("qcow2"), manifest::FILE.to_owned()], at)
}

/// The first of some files that differs, when no path inside does.
fn in_files(names: &[String], at: impl Fn(&str) -> Result<Option<u64>>) -> Result<Option<String>> {
    for name in names {
        if let Some(offset) = at(name)? {
            return Ok(Some(format!("{name} from byte {offset} on, and none of the files inside")));
        }
    }
    Ok(None)
}

/// The first path that the manifests tell differently.
fn in_paths(mine: &Manifest, theirs: &Manifest) -> Option<String> {
    let mut paths: Vec<_> = mine.paths.keys().chain(theirs.paths.keys()).collect();
    paths.sort();
    paths.into_iter().find_map(|path| match (mine.paths.get(path), theirs.paths.get(path)) {
        (Some(mine), Some(theirs)) => in_entry(mine, theirs).map(|what| format!("{path}: {what}")),
        (Some(_), None) => Some(format!("{path} is in the first only")),
        _ => Some(format!("{path} is in the second only")),
    })
}

fn in_entry(mine: &Entry, theirs: &Entry) -> Option<String> {
    let text = |digest: &Option<crate::digest::Sha256>| digest.map(|digest| digest.to_string());
    let fields = [
        ("type and mode", Some(mine.mode.clone()), Some(theirs.mode.clone())),
        ("owner", Some(mine.owner.clone()), Some(theirs.owner.clone())),
        ("content", text(&mine.sha256), text(&theirs.sha256)),
        ("target", mine.target.clone(), theirs.target.clone()),
        ("origin", Some(mine.origin.clone()), Some(theirs.origin.clone())),
    ];
    let shown = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    let (what, mine, theirs) = fields.into_iter().find(|(_, mine, theirs)| mine != theirs)?;
    Some(format!("its {what} is {} here and {} there", shown(mine), shown(theirs)))
}

/// The offset of the first byte that two files do not share.
fn first_difference(one: &Path, other: &Path) -> Result<Option<u64>> {
    first_of(open(one)?, open(other)?, one)
}

fn first_of(mut one: impl Read, mut other: impl Read, path: &Path) -> Result<Option<u64>> {
    let doing = || format!("comparing {}", path.display());
    let mut offset = 0;
    loop {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        (&mut one).take(PIECE as u64).read_to_end(&mut a).blame(Kind::Environment, doing)?;
        (&mut other).take(PIECE as u64).read_to_end(&mut b).blame(Kind::Environment, doing)?;
        if a != b {
            let shared = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            return Ok(Some(offset + shared as u64));
        }
        if a.is_empty() {
            return Ok(None);
        }
        offset += a.len() as u64;
    }
}

/// The path in whose bytes the root file systems differ first; `None` when they do not, or no root can be found.
fn in_root(one: &Path, other: &Path, raw: &str, offset: u64) -> Result<Option<String>> {
    let (mine, theirs) = (open(&one.join(raw))?, open(&other.join(raw))?);
    let (Ok(mine), Ok(theirs)) = (Disk::read(&mine), Disk::read(&theirs)) else {
        return Ok(Some(format!("{raw} from byte {offset} on: one has no sound partition table")));
    };
    let (Ok(a), Ok(b)) = (mine.region(Role::Root), theirs.region(Role::Root)) else { return Ok(None) };
    let Some(at) = first_of(BufReader::new(a), BufReader::new(b), Path::new(raw))? else { return Ok(None) };
    let owner = erofs::owner(&mut BufReader::new(a), at).ok().flatten();
    Ok(Some(match owner {
        Some(path) => format!("/{}: how the root file system stores it", show(&path)),
        None => format!("the root file system from its byte {at} on, which belongs to no path"),
    }))
}

/// The section in which kernel images differ; of the initrd, the path.
fn in_uki(one: &Path, other: &Path) -> Result<String> {
    let (mine, theirs) = (sys::fs::read(one)?, sys::fs::read(other)?);
    let (mine, theirs) = (pe::sections(&mine)?, pe::sections(&theirs)?);
    let Some((mine, theirs)) = mine.iter().zip(&theirs).find(|(mine, theirs)| mine != theirs) else {
        return Ok("its headers".into());
    };
    if mine.0 == ".initrd" && theirs.0 == ".initrd" {
        let unpacked = |bytes: &[u8]| zstd::bulk::decompress(bytes, MAX_INITRD).ok();
        let paths = unpacked(mine.1).zip(unpacked(theirs.1)).map(|(mine, theirs)| cpio::difference(&mine, &theirs));
        return Ok(match paths.transpose()?.flatten() {
            Some(path) => format!("/{path} of the initrd"),
            None => "the compression of the initrd".into(),
        });
    }
    Ok(format!("the section {}", show(mine.0.as_bytes())))
}
