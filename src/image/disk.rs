//! Puts the parts into the raw disk, in place.

use super::Recipe;
use crate::digest::Sha256;
use crate::error::{Blame, Kind, Result};
use crate::format::gpt::{self, ALIGN, Partition, Role, SECTOR};
use crate::format::verity::{self, RootHash, Sealer};
use crate::format::{erofs, fat};
use crate::manifest::Output;
use crate::sys::region::{self, Disk};
use std::io::Write as _;
use std::path::Path;
use uuid::Uuid;

/// The smallest EFI system partition: well above where FAT32 begins.
const MIN_ESP: u64 = 64 << 20;
/// Where UEFI firmware looks for a program when nothing else is configured.
const BOOT_PATH: &[&str] = &["EFI", "BOOT", "BOOTX64.EFI"];

/// A root file system in place, with its hash tree.
pub(super) struct Sealed {
    pub(super) root_hash: RootHash,
    /// Where it starts on the disk.
    start: u64,
    /// Bytes of the file system.
    size: u64,
    /// Bytes of its files before compression.
    pub(super) content: u64,
}

/// A file to be made.
pub(super) struct Named<'a> {
    pub(super) dir: &'a Path,
    pub(super) file: String,
}

impl Named<'_> {
    /// Writes the file and syncs it.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<Output> {
        let path = self.dir.join(&self.file);
        let mut file = region::create(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        written.blame(Kind::Environment, || format!("writing {}", path.display()))?;
        Ok(Output { file: self.file.clone(), size: bytes.len() as u64, sha256: Sha256::of(bytes) })
    }
}

/// The size of an EFI system partition for a kernel image made of so many bytes: 1/16 for tables, and some room, so
/// that it does not change with every kernel. What stays empty takes no space in a sparse file.
pub(super) fn esp_size(parts: u64) -> u64 {
    (parts + parts / 16 + (4 << 20)).next_multiple_of(16 << 20).max(MIN_ESP)
}

/// Writes the root file system and its hash tree behind the EFI system partition's place.
pub(super) fn write_root(
    recipe: &Recipe<'_>,
    raw: &Disk,
    esp_size: u64,
    packer: &erofs::Packer<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Sealed> {
    let start = ALIGN + esp_size;
    let derive = |what: &str| Sha256::of(format!("nodelith {what} {} {}", recipe.name, recipe.epoch).as_bytes());
    let uuid = |what: &str| first_uuid(derive(what)).into_bytes();
    let options = erofs::Options { packer, progress, ..erofs::Options::new(recipe.epoch, uuid("root")) };
    let mut root = Sealer::new(raw.region(start, u64::MAX - start), &derive("salt").0);
    let erofs::Summary { size, content, .. } = erofs::write(recipe.root, &options, &mut root)?;
    let mut tree = raw.region(verity_start(start, size), verity::size(size));
    let root_hash = root.finish()?.write(uuid("verity"), &mut tree)?;
    Ok(Sealed { root_hash, start, size, content })
}

fn verity_start(root_start: u64, root_size: u64) -> u64 {
    (root_start + root_size).next_multiple_of(ALIGN)
}

/// Writes the EFI system partition and the partition table; returns the disk's identity, its partitions and its
/// size.
pub(super) fn finish(
    recipe: &Recipe<'_>,
    raw: &Disk,
    esp_size: u64,
    sealed: &Sealed,
    uki: &[u8],
) -> Result<(Uuid, Vec<Partition>, u64)> {
    let derive = |what: &str| Sha256::of(format!("nodelith {what} {}", sealed.root_hash).as_bytes());
    let [root_uuid, verity_uuid] = sealed.root_hash.partition_uuids();
    let verity = verity_start(sealed.start, sealed.size);
    let partition = |role, uuid, label: String, start, size| Partition { role, uuid, label, start, size };
    let partitions = vec![
        partition(Role::Esp, first_uuid(derive("esp")), "esp".into(), ALIGN, esp_size),
        partition(Role::Root, root_uuid, format!("{}-root", recipe.name), sealed.start, sealed.size),
        partition(Role::RootVerity, verity_uuid, format!("{}-verity", recipe.name), verity, verity::size(sealed.size)),
    ];
    let disk_size = gpt::disk_size(partitions[2].next());
    raw.set_len(disk_size)?;

    let [a, b, c, d, ..] = derive("serial").0;
    let volume = fat::Volume {
        size: esp_size,
        offset: ALIGN,
        serial: u32::from_le_bytes([a, b, c, d]),
        epoch: recipe.epoch,
        path: BOOT_PATH,
        content: uki,
    };
    fat::write(&volume, &mut raw.region(ALIGN, esp_size))?;
    let disk = first_uuid(derive("disk"));
    gpt::write(&mut raw.region(0, disk_size), disk, &partitions)?;
    Ok((disk, partitions, disk_size))
}

/// A version-8 UUID of a digest's first bytes.
fn first_uuid(digest: Sha256) -> Uuid {
    let mut first = [0; 16];
    first.copy_from_slice(&digest.0[..16]);
    Uuid::new_v8(first)
}

/// Partition sizes are whole blocks of 4 KiB, so whole sectors.
const _: () = assert!(4096 % SECTOR == 0);
