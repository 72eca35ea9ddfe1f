//! A built image against its own manifest: every output by digest, and what ties them together, so that damage is told
//! by the path that it hit. [`difference`] does the same for two builds.
//!
//! This proves that the files of a directory belong together, not who made them: whoever can write all of them can make
//! others. What was built from a lock is proved by building again.

mod difference;

pub use difference::difference;

use crate::digest::{Hashing, Sha256};
use crate::error::{Blame, Fault, Kind, Result};
use crate::format::gpt::{self, Found, Role};
use crate::format::verity::{self, RootHash, Verdict};
use crate::format::{erofs, pe};
use crate::manifest::{self, Manifest};
use crate::report::{Report, Stage};
use crate::sys::{self, region::Region};
use crate::tree::show;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

/// Checks the image in a directory, and returns its manifest.
///
/// # Errors
/// [`Kind::Usage`] when there is no image, [`Kind::Integrity`] when a file is missing or anything in it differs from
/// what the manifest says: the message names the path inside the image, if the root was hit.
pub fn verify(dir: &Path, report: &dyn Report) -> Result<Manifest> {
    let manifest = read_manifest(dir)?;
    let total = manifest.outputs.iter().map(|output| output.size).fold(0, u64::saturating_add);
    let stage = Stage::start(report, "verifying", Some(total), "bytes");
    let mut damaged = Vec::new();
    for output in &manifest.outputs {
        let path = dir.join(&output.file);
        let mut hashing = Hashing::new(io::sink());
        let mut file = BufReader::with_capacity(1 << 20, open(&path)?);
        io::copy(&mut file, &mut hashing).blame(Kind::Environment, || format!("reading {}", path.display()))?;
        let (_, found, size) = hashing.finish();
        if (found, size) != (output.sha256, output.size) {
            damaged.push(format!(
                "{} is {size} bytes of sha256 {found}, not {} of {}",
                output.file, output.size, output.sha256
            ));
        }
        stage.advance(output.size);
    }
    // A container is one archive: nothing in it stands for another part.
    let parts = manifest.root_hash.as_deref().map_or(Ok(()), |root_hash| parts(dir, &manifest, root_hash));
    if damaged.is_empty() {
        parts?;
        stage.finish(format!("{} files", manifest.outputs.len()));
        return Ok(manifest);
    }
    // The digests say that bytes differ, the parts perhaps which ones.
    let place = parts.err().map(|error| format!("\n  {error:#}")).unwrap_or_default();
    let fault = Fault::new(Kind::Integrity, format!("{} is damaged: {}{place}", dir.display(), damaged.join("\n  ")));
    Err(fault.hint("build the image again, or copy it again from where it is whole").into())
}

/// The manifest of an image's directory, with nothing in it that leads out of there.
fn read_manifest(dir: &Path) -> Result<Manifest> {
    let (manifest, _) = Manifest::of_image(dir)?;
    let suffixes: &[&str] = if manifest.root_hash.is_some() { &["raw", "qcow2", "efi"] } else { &["oci.tar"] };
    let expected: Vec<String> = suffixes.iter().map(|suffix| format!("{}.{suffix}", manifest.name)).collect();
    let found: Vec<_> = manifest.outputs.iter().map(|output| &output.file).collect();
    if manifest.name.contains('/') || found != expected.iter().collect::<Vec<_>>() {
        let message = format!("{} lists other files than {}", dir.join(manifest::FILE).display(), expected.join(", "));
        return Err(Fault::new(Kind::Integrity, message).into());
    }
    Ok(manifest)
}

fn open(path: &Path) -> Result<File> {
    if !path.is_file() {
        return Err(Fault::new(Kind::Integrity, format!("{} is missing", path.display())).into());
    }
    sys::fs::open(path)
}

/// What a disk holds, by what its parts say of each other: root hash → verity tree → root; command line, GUIDs, ESP.
fn parts(dir: &Path, manifest: &Manifest, root_hash: &str) -> Result<()> {
    let refuse = |message: String| Err(Fault::new(Kind::Integrity, message).into());
    let file = |suffix: &str| format!("{}.{suffix}", manifest.name);
    let root_hash: Sha256 = root_hash.parse().blame(Kind::Integrity, || "reading the root hash".into())?;
    let root_hash = RootHash(root_hash);

    let raw = open(&dir.join(file("raw")))?;
    let disk = Disk::read(&raw).map_err(|error| error.context(Fault::new(Kind::Integrity, file("raw"))))?;
    let (mut data, mut tree) = (disk.region(Role::Root)?, disk.region(Role::RootVerity)?);
    match verity::check(&mut data, disk.part(Role::Root)?.size, &mut BufReader::new(&mut tree), &root_hash)? {
        Verdict::Sound => {}
        Verdict::Tree => return refuse(format!("{}: the verity tree is not that of the root hash", file("raw"))),
        Verdict::Data(offset) => return refuse(format!("{}: {}", file("raw"), disk.whose(offset, 4096))),
    }
    let guids = [Role::Root, Role::RootVerity].map(|role| disk.part(role).map(|part| part.uuid));
    for (found, wanted) in guids.into_iter().zip(root_hash.partition_uuids()) {
        let found = found?;
        if found != wanted {
            return refuse(format!("{}: a partition is {found}, by the root hash it is {wanted}", file("raw")));
        }
    }

    let efi = sys::fs::read(&dir.join(file("efi")))?;
    let sections = pe::sections(&efi).map_err(|error| error.context(Fault::new(Kind::Integrity, file("efi"))))?;
    let cmdline = sections.iter().find(|(name, _)| name == ".cmdline").map(|(_, bytes)| *bytes).unwrap_or_default();
    let said = String::from_utf8_lossy(cmdline);
    let said = said.trim_end_matches('\0');
    if manifest.cmdline.as_deref() != Some(said) || !said.split(' ').any(|word| word == format!("roothash={root_hash}"))
    {
        return refuse(format!("{}: its command line is `{}`", file("efi"), show(said.as_bytes())));
    }
    if !disk.holds(&efi)? {
        return refuse(format!("{}: the EFI system partition does not hold {}", file("raw"), file("efi")));
    }
    Ok(())
}

/// A raw disk and its partitions.
struct Disk<'a> {
    file: &'a File,
    size: u64,
    parts: Vec<Found>,
}

impl<'a> Disk<'a> {
    fn read(file: &'a File) -> Result<Self> {
        let size = file.metadata().blame(Kind::Environment, || "reading the raw disk".into())?.len();
        let parts = gpt::read(&mut Region::new(file, 0, size))?;
        Ok(Self { file, size, parts })
    }

    /// A role's partition, all of which is on the disk.
    fn part(&self, role: Role) -> Result<&Found> {
        let on_disk = |part: &&Found| part.start.checked_add(part.size).is_some_and(|end| end <= self.size);
        let found = self.parts.iter().find(|part| part.kind == role.guid()).filter(on_disk);
        found.ok_or_else(|| Fault::new(Kind::Integrity, format!("the disk has no whole {role:?} partition")).into())
    }

    fn region(&self, role: Role) -> Result<Region<'a>> {
        let part = self.part(role)?;
        Ok(Region::new(self.file, part.start, part.size))
    }

    /// Whose the bytes from an offset in the root file system on are, for people.
    fn whose(&self, offset: u64, len: u64) -> String {
        // A block may hold the inodes of many paths: the first byte that is anybody's tells.
        let owner = |at: u64| erofs::owner(&mut BufReader::new(self.region(Role::Root).ok()?), at).ok()?;
        match (offset..offset + len).step_by(32).find_map(owner) {
            Some(path) => format!("/{} is damaged, or what stands beside it (byte {offset} of the root)", show(&path)),
            None => format!("byte {offset} of the root is damaged, which belongs to no path"),
        }
    }

    /// Whether the EFI system partition holds a file in one piece, as we write it.
    fn holds(&self, content: &[u8]) -> Result<bool> {
        let doing = || "reading the EFI system partition".to_owned();
        let part = self.part(Role::Esp)?;
        let head = &content[..content.len().min(512)];
        let mut sectors = BufReader::with_capacity(1 << 20, self.region(Role::Esp)?);
        let mut sector = [0; 512];
        for start in (0..part.size).step_by(512) {
            sectors.read_exact(&mut sector).blame(Kind::Environment, doing)?;
            if sector.starts_with(head) && part.size - start >= content.len() as u64 {
                let mut rest = Region::new(self.file, part.start, part.size);
                rest.seek(SeekFrom::Start(start)).blame(Kind::Environment, doing)?;
                let mut found = vec![0; content.len()];
                rest.read_exact(&mut found).blame(Kind::Environment, doing)?;
                if found == content {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
