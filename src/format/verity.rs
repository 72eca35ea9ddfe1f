//! dm-verity: the SHA-256 hash tree over a file system and the superblock before it, as `veritysetup format` writes
//! them (hash type 1, 4 KiB blocks).
//!
//! Format: <https://gitlab.com/cryptsetup/cryptsetup/-/wikis/DMVerity>. The tree's levels stand from the single top
//! block down to the hashes of the data; each hash is of the salt followed by a block.

mod check;

pub use check::{Verdict, check};

use crate::digest::Sha256;
use crate::error::{Blame, Kind, Result};
use rayon::prelude::*;
use sha2::Digest as _;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes in a block of data and in a block of hashes.
const BLOCK: usize = 4096;
/// Hashes in a block.
const FANOUT: usize = BLOCK / 32;
/// Bytes that are hashed and passed on at a time: enough for all cores, and bounds memory.
const BATCH: usize = 256 * BLOCK;

/// The hash at the top of the tree: whoever has it from a trusted place can trust every block below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash(pub Sha256);

impl RootHash {
    /// The GUIDs by which systemd finds the partitions of data and hashes: the hash's first and last 128 bits
    /// (`systemd-gpt-auto-generator(8)`), in the order in which they are read aloud.
    #[must_use]
    pub fn partition_uuids(&self) -> [uuid::Uuid; 2] {
        let (mut first, mut last) = ([0; 16], [0; 16]);
        first.copy_from_slice(&self.0.0[..16]);
        last.copy_from_slice(&self.0.0[16..]);
        [uuid::Uuid::from_bytes(first), uuid::Uuid::from_bytes(last)]
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for RootHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Bytes that [`format`] writes for so much data: superblock and tree.
#[must_use]
pub fn size(data: u64) -> u64 {
    let mut blocks = data / BLOCK as u64;
    let mut sum = 1;
    while blocks > 1 {
        blocks = blocks.div_ceil(FANOUT as u64);
        sum += blocks;
    }
    sum * BLOCK as u64
}

/// Reads `len` bytes of data once, writes superblock and tree, returns the root hash.
///
/// # Errors
/// [`Kind::Internal`] when `len` is not a positive number of whole blocks; [`Kind::Environment`] when reading or
/// writing fails.
pub fn format(
    data: &mut impl Read,
    len: u64,
    salt: &[u8; 32],
    uuid: [u8; 16],
    out: &mut impl Write,
) -> Result<RootHash> {
    let mut sealer = Sealer::new(io::sink(), salt);
    let copied = io::copy(&mut data.take(len), &mut sealer).blame(Kind::Environment, || "reading data".into())?;
    if copied != len {
        return Err(anyhow::anyhow!("{len} bytes were to be hashed, and {copied} came"));
    }
    sealer.finish()?.write(uuid, out)
}

/// Passes a file system on to where it is written, and hashes each block on its way.
///
/// Writes may be of any length; a seek must come at a block's start and lead to one.
#[derive(Debug)]
pub struct Sealer<W> {
    out: W,
    leaves: Leaves,
    /// What is not yet passed on; it begins at block `next`.
    waiting: Vec<u8>,
    next: usize,
}

/// The hashes of a file system's blocks.
#[derive(Debug)]
pub struct Leaves {
    salt: [u8; 32],
    hashes: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    /// Starts at the stream's position, which must be 0.
    pub fn new(out: W, salt: &[u8; 32]) -> Self {
        let leaves = Leaves { salt: *salt, hashes: Vec::new() };
        Self { out, leaves, waiting: Vec::with_capacity(BATCH), next: 0 }
    }

    /// Ends writing.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the last block is not whole; [`Kind::Environment`] when writing fails.
    pub fn finish(mut self) -> Result<Leaves> {
        if !self.waiting.len().is_multiple_of(BLOCK) {
            return Err(anyhow::anyhow!("the data are not whole blocks for dm-verity"));
        }
        self.pass_on().and_then(|()| self.out.flush()).blame(Kind::Environment, || "writing the data".into())?;
        Ok(self.leaves)
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let whole = self.waiting.len() / BLOCK * BLOCK;
        let hashes = hash_blocks(&self.leaves.salt, &self.waiting[..whole]);
        let end = self.next + hashes.len();
        if self.leaves.hashes.len() < end * 32 {
            self.leaves.hashes.resize(end * 32, 0);
        }
        self.leaves.hashes[self.next * 32..end * 32].copy_from_slice(hashes.as_flattened());
        self.out.write_all(&self.waiting[..whole])?;
        self.waiting.drain(..whole);
        self.next = end;
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = bytes.len().min(BATCH - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..now]);
        if self.waiting.len() == BATCH {
            self.pass_on()?;
        }
        Ok(now)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.out.flush()
    }
}

impl<W: Write + Seek> Seek for Sealer<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.pass_on()?;
        let at = self.out.seek(to)?;
        let next = usize::try_from(at).map_err(io::Error::other)?;
        if !self.waiting.is_empty() || !next.is_multiple_of(BLOCK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a block is hashed as a whole"));
        }
        self.next = next / BLOCK;
        Ok(at)
    }
}

impl Leaves {
    /// Writes superblock and tree, returns the root hash.
    ///
    /// # Errors
    /// [`Kind::Internal`] when there is no data; [`Kind::Environment`] when writing fails.
    pub fn write(self, uuid: [u8; 16], out: &mut impl Write) -> Result<RootHash> {
        let Self { salt, hashes: mut level } = self;
        let len = level.len() as u64 / 32 * BLOCK as u64;
        if len == 0 {
            return Err(anyhow::anyhow!("there is nothing to seal with dm-verity"));
        }
        let mut levels = Vec::new();
        while level.len() > 32 {
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            let above = hash_blocks(&salt, &level).as_flattened().to_vec();
            levels.push(std::mem::replace(&mut level, above));
        }
        let mut root = [0; 32];
        root.copy_from_slice(&level);
        let parts = std::iter::once(super_block(len, &salt, uuid)).chain(levels.into_iter().rev());
        for part in parts {
            out.write_all(&part).blame(Kind::Environment, || "writing the dm-verity tree".into())?;
        }
        Ok(RootHash(Sha256(root)))
    }
}

/// The hash of each block.
fn hash_blocks(salt: &[u8; 32], blocks: &[u8]) -> Vec<[u8; 32]> {
    let salted = sha2::Sha256::new_with_prefix(salt);
    let hash = |block: &[u8]| -> [u8; 32] { salted.clone().chain_update(block).finalize().into() };
    blocks.par_chunks(BLOCK).with_min_len(64).map(hash).collect()
}

fn super_block(len: u64, salt: &[u8; 32], uuid: [u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK);
    out.extend(b"verity\0\0");
    out.extend(1u32.to_le_bytes()); // version of the superblock
    out.extend(1u32.to_le_bytes()); // hash type 1: the salt comes first
    out.extend(uuid);
    let mut algorithm = [0; 32];
    algorithm[..6].copy_from_slice(b"sha256");
    out.extend(algorithm);
    out.extend([0, 16, 0, 0, 0, 16, 0, 0]); // both block sizes
    out.extend((len / BLOCK as u64).to_le_bytes());
    out.extend([32, 0, 0, 0, 0, 0, 0, 0]); // bytes of salt
    out.extend(salt);
    out.resize(BLOCK, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data of which no two blocks are equal.
    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK).map(|at| (at / BLOCK * 7 + at % 251) as u8 ^ (at >> 13) as u8).collect()
    }

    fn tree(data: &[u8]) -> (RootHash, Vec<u8>) {
        let mut out = Vec::new();
        let root = format(&mut &data[..], data.len() as u64, &[0xab; 32], [0xcd; 16], &mut out).unwrap();
        assert_eq!(out.len() as u64, size(data.len() as u64));
        (root, out)
    }

    /// From `veritysetup format --salt=abab… --uuid=cdcd…` of cryptsetup 2.6.1: root hash, SHA-256 of the hash file.
    const EXPECTED: [(usize, &str, &str); 5] = [
        (
            1,
            "c84197467f9b16a96b27be734be1751f54b5f878a2d83dc484490f8cfd3f4a3b",
            "b359a5a297442bb3f993dc3e937513e8e7e4e367d1a059b892975d6d4212f043",
        ),
        (
            128,
            "317fd83638d3bebf6e5d2b737e97503f282fdb692cdbf135e754b5f6675d91e9",
            "cf060d1ab35b0a4a5490605ab09f8480ef82cc3549c15e79df22b347df1257be",
        ),
        (
            129,
            "85dc8b4d2e02061ff43574c4bc9bb7854b71f79952648fb27560e891f296bb5c",
            "a90e6e26c64e2062b051466a7188b8278d350dc833a3c35910fb897db3a4b55f",
        ),
        (
            300,
            "9e4f11899c596a27e4348b9dcc9e6c472df5524a7952bbcf5e8e7c8806d41a19",
            "f4d73963faeacf0912e30df4e817cdc5e9bd00165c4e5557e804c8ac73f39728",
        ),
        (
            16385,
            "b4e592ccb3ba0ac33793028663910de3321613e8a9f88044da4eac22dec2fa4c",
            "fd5af5449008f2819b2286ee9c3c833ece8716414c03311cd1aa4f1f365582cc",
        ),
    ];

    #[test]
    fn equal_to_veritysetup() {
        for (blocks, root, file) in EXPECTED {
            let (found, out) = tree(&data(blocks));
            assert_eq!(found.to_string(), root, "{blocks} blocks");
            assert_eq!(Sha256::of(&out).to_string(), file, "{blocks} blocks");
        }
    }

    #[test]
    fn every_block_counts() {
        let good = data(300);
        let (root, _) = tree(&good);
        for at in [0, 128 * BLOCK - 1, 300 * BLOCK - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_ne!(tree(&bad).0, root);
        }
    }

    #[test]
    fn partial_blocks_are_refused() {
        for len in [0, 1, 4097] {
            assert!(format(&mut &vec![0; len][..], len as u64, &[0; 32], [0; 16], &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_sealer_writes_what_it_hashes_in_any_order_of_blocks() {
        let good = data(700);
        let mut out = io::Cursor::new(Vec::new());
        let mut sealer = Sealer::new(&mut out, &[0xab; 32]);
        sealer.write_all(&[0; BLOCK]).unwrap();
        for piece in good[BLOCK..].chunks(5001) {
            sealer.write_all(piece).unwrap();
        }
        sealer.seek(SeekFrom::Start(3 * BLOCK as u64)).unwrap();
        sealer.write_all(&good[3 * BLOCK..4 * BLOCK]).unwrap();
        sealer.seek(SeekFrom::Start(0)).unwrap();
        sealer.write_all(&good[..BLOCK]).unwrap();
        let root = sealer.finish().unwrap().write([0xcd; 16], &mut Vec::new()).unwrap();
        assert_eq!(root, tree(&good).0);
        assert_eq!(out.into_inner(), good);

        let mut sealer = Sealer::new(io::Cursor::new(Vec::new()), &[0; 32]);
        sealer.write_all(&[0; BLOCK + 1]).unwrap();
        assert!(sealer.seek(SeekFrom::Start(0)).is_err(), "in the middle of a block");
        let mut sealer = Sealer::new(io::Cursor::new(Vec::new()), &[0; 32]);
        assert!(sealer.seek(SeekFrom::Start(5)).is_err());
    }

    #[test]
    fn partitions_are_named_by_the_hash() {
        let root = RootHash("00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f".parse().unwrap());
        let [data, tree] = root.partition_uuids().map(|uuid| uuid.to_string());
        assert_eq!(data, "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(tree, "10213243-5465-7687-98a9-bacbdcedfe0f");
    }
}
