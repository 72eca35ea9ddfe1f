//! The partition table, by the Discoverable Partitions Specification: a partition's type says what it is for, so
//! that nothing on the node needs to be told which device to use.
//!
//! Types: <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>.

use crate::error::{Blame, Fault, Kind, Result};
use gptman::{GPT, GPTPartitionEntry};
use std::io::{Read, Seek, SeekFrom, Write};
use uuid::{Uuid, uuid};

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
/// Every partition starts and the disk ends on a multiple of this many bytes.
pub const ALIGN: u64 = 1 << 20;
/// Bytes behind the last partition: the table's copy.
pub const TAIL: u64 = 33 * SECTOR;
/// The attribute bit that tells systemd to mount a partition read-only.
const READ_ONLY: u64 = 1 << 60;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The EFI system partition.
    Esp,
    /// The root file system of an x86-64 machine.
    Root,
    /// The dm-verity tree of the root file system.
    RootVerity,
}

impl Role {
    /// The partition type that says so.
    #[must_use]
    pub const fn guid(self) -> Uuid {
        match self {
            Self::Esp => uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            Self::Root => uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            Self::RootVerity => uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
        }
    }
}

/// A partition, in bytes from the disk's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its own identity.
    pub uuid: Uuid,
    /// A name for people, at most 36 characters.
    pub label: String,
    /// Where it starts, a multiple of [`ALIGN`].
    pub start: u64,
    /// How long it is, a multiple of [`SECTOR`].
    pub size: u64,
}

impl Partition {
    /// The first aligned byte behind it.
    #[must_use]
    pub fn next(&self) -> u64 {
        (self.start + self.size).next_multiple_of(ALIGN)
    }
}

/// The size of a disk whose last partition ends here, with the table's copy at its end.
#[must_use]
pub fn disk_size(end: u64) -> u64 {
    (end + TAIL).next_multiple_of(ALIGN)
}

/// Writes protective MBR, table and, at the stream's end, the table's copy. The partitions get numbers in their order.
///
/// # Errors
/// [`Kind::Build`] for a label that is too long or partitions that overlap; [`Kind::Environment`] when writing fails.
pub fn write(disk: &mut (impl Read + Write + Seek), uuid: Uuid, partitions: &[Partition]) -> Result<()> {
    let doing = || "writing the partition table".to_owned();
    let mut table = GPT::new_from(disk, SECTOR, uuid.to_bytes_le()).blame(Kind::Environment, doing)?;
    for (number, partition) in (1u32..).zip(partitions) {
        if partition.label.encode_utf16().count() > 36 {
            let message = format!("the partition label `{}` is over 36 characters", partition.label);
            return Err(Fault::new(Kind::Build, message).hint("give the image a shorter name").into());
        }
        let read_only = matches!(partition.role, Role::Root | Role::RootVerity);
        table[number] = GPTPartitionEntry {
            partition_type_guid: partition.role.guid().to_bytes_le(),
            unique_partition_guid: partition.uuid.to_bytes_le(),
            starting_lba: partition.start / SECTOR,
            ending_lba: (partition.start + partition.size) / SECTOR - 1,
            attribute_bits: if read_only { READ_ONLY } else { 0 },
            partition_name: partition.label.as_str().into(),
        };
    }
    // The library checks overlaps and bounds itself.
    table.write_into(disk).map_err(|error| {
        let kind = if matches!(error, gptman::Error::Io(_)) { Kind::Environment } else { Kind::Build };
        anyhow::Error::from(error).context(Fault::new(kind, doing()))
    })?;
    GPT::write_protective_mbr_into(disk, SECTOR).blame(Kind::Environment, doing)
}

/// A partition as a disk's table tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its type, such as [`Role::guid`].
    pub kind: Uuid,
    /// Its own identity.
    pub uuid: Uuid,
    /// Where it starts, in bytes.
    pub start: u64,
    /// How long it is, in bytes; never 0.
    pub size: u64,
}

/// The partitions of a disk, as many as are used, by the first table. Not the library's reader: that one believes a
/// header that tells of four thousand million entries.
///
/// # Errors
/// [`Kind::Integrity`] when the disk has no such table, or its numbers cannot be true.
pub fn read(disk: &mut (impl Read + Seek)) -> Result<Vec<Found>> {
    let mut at = |offset: u64, len: usize| -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let doing = || "reading the partition table".to_owned();
        disk.seek(SeekFrom::Start(offset)).blame(Kind::Integrity, doing)?;
        disk.read_exact(&mut bytes).blame(Kind::Integrity, doing)?;
        Ok(bytes)
    };
    let refuse = |why: &str| Fault::new(Kind::Integrity, format!("the disk has no sound partition table: {why}"));
    let header = at(SECTOR, 92)?;
    let (first, count, size) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    if !header.starts_with(b"EFI PART") {
        return Err(refuse("its header is missing").into());
    }
    if size != ENTRY || count > 1024 {
        return Err(refuse(&format!("{count} entries of {size} bytes")).into());
    }
    let offset = first.checked_mul(SECTOR).ok_or_else(|| refuse("it is nowhere"))?;
    let entries = at(offset, (count * size) as usize)?;
    let mut found = Vec::new();
    for entry in entries.chunks_exact(ENTRY as usize).filter(|entry| entry[..16] != [0; 16]) {
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        let size = last.checked_sub(first).and_then(|less| less.checked_add(1)?.checked_mul(SECTOR));
        let (Some(start), Some(size)) = (first.checked_mul(SECTOR), size) else {
            return Err(refuse(&format!("a partition from sector {first} to {last}")).into());
        };
        found.push(Found { kind: uuid_at(entry, 0), uuid: uuid_at(entry, 16), start, size });
    }
    Ok(found)
}

/// Bytes of an entry of the table.
const ENTRY: u32 = 128;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    let mut raw = [0; 16];
    raw.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes_le(raw)
}

/// Where the first partition of a role stands on a disk: start and size in bytes.
///
/// # Errors
/// [`Kind::Integrity`] when the disk has no sound partition table or no such partition.
pub fn find(disk: &mut (impl Read + Seek), role: Role) -> Result<(u64, u64)> {
    let found = read(disk)?.into_iter().find(|found| found.kind == role.guid());
    let found = found.ok_or_else(|| Fault::new(Kind::Integrity, format!("the disk has no {role:?} partition")))?;
    Ok((found.start, found.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;
    use std::io::Cursor;

    fn partition(role: Role, start: u64, size: u64) -> Partition {
        Partition { role, uuid: Uuid::from_u128(u128::from(start)), label: format!("{role:?}"), start, size }
    }

    #[test]
    fn table_and_copy_come_back() {
        let parts = [partition(Role::Esp, ALIGN, 2 * ALIGN), partition(Role::Root, 3 * ALIGN, 4096)];
        let size = disk_size(parts[1].next());
        assert_eq!(size, 5 * ALIGN);
        let mut disk = vec![0; size as usize];
        write(&mut Cursor::new(&mut disk[..]), Uuid::from_u128(9), &parts).unwrap();
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        assert_eq!(&disk[size as usize - 512..][..8], b"EFI PART");
        let check = |disk: &[u8]| {
            let table = GPT::read_from(&mut Cursor::new(disk), SECTOR).unwrap();
            assert_eq!(table.header.disk_guid, Uuid::from_u128(9).to_bytes_le());
            assert_eq!(table[1].partition_type_guid, Role::Esp.guid().to_bytes_le());
            assert_eq!((table[2].starting_lba, table[2].ending_lba), (6144, 6151));
            assert_eq!((table[1].attribute_bits, table[2].attribute_bits), (0, READ_ONLY));
            assert_eq!(table[2].partition_name.as_str(), "Root");
        };
        check(&disk);
        assert_eq!(find(&mut Cursor::new(&disk), Role::Root).unwrap(), (3 * ALIGN, 4096));
        assert!(find(&mut Cursor::new(&disk), Role::RootVerity).is_err());
        // With the first header gone the copy must do.
        disk[512..1024].fill(0);
        check(&disk);
    }

    #[test]
    fn tables_that_cannot_be_true_are_refused() {
        let parts = [partition(Role::Esp, ALIGN, 2 * ALIGN)];
        let mut disk = vec![0; 4 << 20];
        write(&mut Cursor::new(&mut disk[..]), Uuid::from_u128(9), &parts).unwrap();
        let found = read(&mut Cursor::new(&disk)).unwrap();
        let wanted = Found { kind: Role::Esp.guid(), uuid: parts[0].uuid, start: ALIGN, size: 2 * ALIGN };
        assert_eq!(found, [wanted]);
        // Place of the entries, their number, their size; a partition's first and last sector.
        for at in [512 + 72, 512 + 80, 512 + 84, 1024 + 32, 1024 + 40] {
            for byte in [0xff, 0x80] {
                let mut bad = disk.clone();
                bad[at..at + if at == 512 + 80 || at == 512 + 84 { 4 } else { 8 }].fill(byte);
                let outcome = read(&mut Cursor::new(&bad));
                assert_eq!(outcome.map_err(|error| crate::error::kind_of(&error)), Err(Kind::Integrity), "{at}");
            }
        }
        assert!(read(&mut Cursor::new(&disk[..1000])).is_err());
        assert!(read(&mut Cursor::new(&[])).is_err());
    }

    #[test]
    fn overlaps_and_long_labels_are_refused() {
        let mut disk = Cursor::new(vec![0; 8 << 20]);
        let overlap = [partition(Role::Esp, ALIGN, 2 * ALIGN), partition(Role::Root, 2 * ALIGN, ALIGN)];
        assert_eq!(kind_of(&write(&mut disk, Uuid::nil(), &overlap).unwrap_err()), Kind::Build);
        let mut long = [partition(Role::Esp, ALIGN, ALIGN)];
        long[0].label = "x".repeat(37);
        assert_eq!(kind_of(&write(&mut disk, Uuid::nil(), &long).unwrap_err()), Kind::Build);
    }

    /// A disk that takes no bytes.
    struct Full(Cursor<Vec<u8>>);

    impl Read for Full {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_the_hosts_fault() {
        let mut disk = Full(Cursor::new(vec![0; 8 << 20]));
        let error = write(&mut disk, Uuid::nil(), &[partition(Role::Esp, ALIGN, ALIGN)]).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Environment, "{error:#}");
    }
}
