//! A private disk for each machine: a qcow2 overlay (specification: docs/interop/qcow2 in QEMU's documentation,
//! version 3) that names the raw image as its backing file. The image itself is only ever read.

use crate::error::{Blame, Fault, Kind, Result};
use crate::sys::fs;
use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Cluster size, 64 KiB: QEMU's default, so that an L2 table (8 bytes an entry) maps 512 MiB.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const PER_TABLE: u64 = CLUSTER / 8;
/// "The refcount is exactly one", bit 63 of an L1 or L2 entry.
const COPIED: u64 = 1 << 63;

/// Makes an overlay of `size` bytes over a raw image, in which the bytes at the given offsets are inverted.
///
/// # Errors
/// [`Kind::Environment`] when a file cannot be read or written; [`Kind::Spec`] for an offset beyond the image.
pub fn overlay(path: &Path, image: &Path, size: u64, flips: &[u64]) -> Result<()> {
    let mut source = fs::open(image)?;
    let length = source.seek(SeekFrom::End(0)).blame(Kind::Environment, || format!("reading {}", image.display()))?;
    let mut clusters = BTreeMap::new();
    for &offset in flips {
        if offset >= length {
            let why = format!("byte {offset} is beyond the end of {} ({length} bytes)", image.display());
            return Err(Fault::new(Kind::Spec, why).into());
        }
        let index = offset / CLUSTER;
        if let std::collections::btree_map::Entry::Vacant(entry) = clusters.entry(index) {
            let mut cluster = Vec::new();
            source
                .seek(SeekFrom::Start(index * CLUSTER))
                .and_then(|_| (&mut source).take(CLUSTER).read_to_end(&mut cluster))
                .blame(Kind::Environment, || format!("reading {}", image.display()))?;
            cluster.resize(usize::try_from(CLUSTER).unwrap_or(1 << CLUSTER_BITS), 0);
            entry.insert(cluster);
        }
        if let Some(cluster) = clusters.get_mut(&index) {
            cluster[usize::try_from(offset % CLUSTER).unwrap_or(0)] ^= 0xff;
        }
    }
    let bytes = encode(image.as_os_str().as_bytes(), size.max(length), &clusters);
    let mut file = fs::create(path)?;
    file.write_all(&bytes).blame(Kind::Environment, || format!("writing {}", path.display()))
}

/// Lays out: header · refcount table · refcount block · L1 · L2 tables · data clusters, each in whole clusters.
fn encode(backing: &[u8], size: u64, clusters: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let tables: Vec<u64> = {
        let mut tables: Vec<u64> = clusters.keys().map(|index| index / PER_TABLE).collect();
        tables.dedup();
        tables
    };
    let l1_entries = size.div_ceil(CLUSTER * PER_TABLE);
    let l2_start = 4;
    let data_start = l2_start + tables.len() as u64;
    let total = data_start + clusters.len() as u64;
    let mut out = vec![0u8; usize::try_from(total * CLUSTER).unwrap_or(0)];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap_or(0);
        out[at..at + bytes.len()].copy_from_slice(bytes);
    };

    let mut header = Vec::new();
    header.extend_from_slice(b"QFI\xfb");
    header.extend_from_slice(&3u32.to_be_bytes());
    // 104 bytes of header, the backing format extension (8 + "raw" padded to 8), the end extension (8).
    header.extend_from_slice(&128u64.to_be_bytes());
    header.extend_from_slice(&u32::try_from(backing.len()).unwrap_or(0).to_be_bytes());
    header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&0u32.to_be_bytes()); // no encryption
    header.extend_from_slice(&u32::try_from(l1_entries).unwrap_or(0).to_be_bytes());
    header.extend_from_slice(&(3 * CLUSTER).to_be_bytes());
    header.extend_from_slice(&CLUSTER.to_be_bytes()); // refcount table
    header.extend_from_slice(&1u32.to_be_bytes()); // of one cluster
    header.extend_from_slice(&[0; 12]); // no snapshots
    header.extend_from_slice(&[0; 24]); // no features
    header.extend_from_slice(&4u32.to_be_bytes()); // refcounts of 2^4 bits
    header.extend_from_slice(&104u32.to_be_bytes());
    header.extend_from_slice(&0xe279_2aca_u32.to_be_bytes());
    header.extend_from_slice(&3u32.to_be_bytes());
    header.extend_from_slice(b"raw\0\0\0\0\0");
    header.extend_from_slice(&[0; 8]);
    header.extend_from_slice(backing);
    put(0, &header);
    put(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    for cluster in 0..total {
        put(2 * CLUSTER + cluster * 2, &1u16.to_be_bytes());
    }
    for (at, table) in (0u64..).zip(&tables) {
        put(3 * CLUSTER + table * 8, &(((l2_start + at) * CLUSTER) | COPIED).to_be_bytes());
    }
    for (at, (index, bytes)) in (0u64..).zip(clusters) {
        let table = tables.iter().position(|table| *table == index / PER_TABLE).unwrap_or(0) as u64;
        let entry = (l2_start + table) * CLUSTER + index % PER_TABLE * 8;
        put(entry, &(((data_start + at) * CLUSTER) | COPIED).to_be_bytes());
        put((data_start + at) * CLUSTER, bytes);
    }
    out
}

/// Where the root partition of an image starts, in bytes: the GPT entry whose type is "root, x86-64" of the
/// Discoverable Partitions Specification.
///
/// # Errors
/// [`Kind::Integrity`] when the file is no GPT disk or has no such partition.
pub fn root_partition(image: &Path) -> Result<u64> {
    /// 4f68bce3-e8cd-4db1-96e7-fbcaf984b709 in GPT's mixed byte order.
    const ROOT: [u8; 16] =
        [0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09];
    let wrong = || Fault::new(Kind::Integrity, format!("{} has no root partition", image.display()));
    let mut start = Vec::new();
    // Sectors of 512 bytes: protective MBR, header, 128 entries of 128 bytes.
    fs::open(image)?
        .take(34 * 512)
        .read_to_end(&mut start)
        .blame(Kind::Environment, || format!("reading {}", image.display()))?;
    if start.get(512..520) != Some(b"EFI PART") {
        return Err(wrong().into());
    }
    let entry = start.get(1024..).unwrap_or(&[]).chunks_exact(128).find(|entry| entry[..16] == ROOT);
    let first = entry.and_then(|entry| entry[32..40].try_into().ok()).map(u64::from_le_bytes);
    first.and_then(|first| first.checked_mul(512)).ok_or_else(|| wrong().into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, clippy::print_stderr, reason = "scratch files and printed skips of tests")]

    use super::*;

    #[test]
    fn overlay_is_what_qemu_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image.raw");
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&image, &bytes).unwrap();
        let disk = dir.path().join("disk.qcow2");
        overlay(&disk, &image, 1 << 30, &[5, 70_000, 199_999]).unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), bytes, "the image is never written");
        assert!(overlay(&disk.with_extension("no"), &image, 1 << 30, &[200_000]).is_err());

        let mut command = crate::sys::cmd::command("/usr/bin/qemu-img");
        let back = dir.path().join("back.raw");
        command.args(["convert", "-O", "raw"]).arg(&disk).arg(&back);
        if !Path::new("/usr/bin/qemu-img").exists() {
            eprintln!("skipped: no qemu-img on this host to read the overlay");
            return;
        }
        crate::sys::cmd::output(&mut command, Kind::Build).unwrap();
        let mut expected = bytes;
        for at in [5, 70_000, 199_999] {
            expected[at] ^= 0xff;
        }
        let read = std::fs::read(&back).unwrap();
        assert_eq!(read.len(), 1 << 30);
        assert!(read[..200_000] == expected[..] && read[200_000..].iter().all(|byte| *byte == 0));
        let mut check = crate::sys::cmd::command("/usr/bin/qemu-img");
        crate::sys::cmd::output(check.arg("check").arg(&disk), Kind::Build).unwrap();
    }

    #[test]
    fn root_partition_is_found_by_type() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.raw");
        let mut bytes = vec![0; 34 * 512];
        bytes[512..520].copy_from_slice(b"EFI PART");
        std::fs::write(&image, &bytes).unwrap();
        assert!(root_partition(&image).is_err());
        let kind = [0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09];
        bytes[1024 + 128..1024 + 144].copy_from_slice(&kind);
        bytes[1024 + 160..1024 + 168].copy_from_slice(&4096u64.to_le_bytes());
        std::fs::write(&image, &bytes).unwrap();
        assert_eq!(root_partition(&image).unwrap(), 4096 * 512);
    }
}
