//! A hash tree is checked from its root down, as the kernel does, but all of it at once.

use super::{BLOCK, FANOUT, RootHash, hash_blocks, super_block};
use crate::error::{Blame, Fault, Kind, Result};
use std::io::Read;

/// Bytes of data that are read at a time: bounds memory.
const BATCH: usize = 2048 * BLOCK;

/// What a root hash says of data and their tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every block is what it was.
    Sound,
    /// The tree itself is not the one of the root hash; nothing can be said of the data.
    Tree,
    /// The block of data at this offset, in bytes, is the first that differs.
    Data(u64),
}

/// Checks `len` bytes of data and their tree, as [`super::format`] wrote it, against a root hash.
///
/// # Errors
/// [`Kind::Integrity`] when `len` is not whole blocks or what should be the tree ends early; [`Kind::Environment`] when
/// the data cannot be read.
pub fn check(data: &mut impl Read, len: u64, tree: &mut impl Read, root: &RootHash) -> Result<Verdict> {
    if len == 0 || !len.is_multiple_of(BLOCK as u64) {
        return Err(Fault::new(Kind::Integrity, format!("{len} bytes are not whole blocks for dm-verity")).into());
    }
    let mut next = |blocks: u64| -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(blocks * BLOCK as u64)?];
        tree.read_exact(&mut bytes).blame(Kind::Integrity, || "reading the dm-verity tree".into())?;
        Ok(bytes)
    };
    let head = next(1)?;
    let (mut salt, mut uuid) = ([0; 32], [0; 16]);
    salt.copy_from_slice(&head[88..120]);
    uuid.copy_from_slice(&head[16..32]);
    if head != super_block(len, &salt, uuid) {
        return Ok(Verdict::Tree);
    }
    let mut sizes = Vec::new();
    let mut blocks = len / BLOCK as u64;
    while blocks > 1 {
        blocks = blocks.div_ceil(FANOUT as u64);
        sizes.push(blocks);
    }
    // The hashes of the level below the one that is read next.
    let mut trusted = root.0.0.to_vec();
    for blocks in sizes.into_iter().rev() {
        let level = next(blocks)?;
        if !trusted.starts_with(hash_blocks(&salt, &level).as_flattened()) {
            return Ok(Verdict::Tree);
        }
        trusted = level;
    }
    let mut batch = vec![0; BATCH.min(usize::try_from(len)?)];
    let mut done = 0;
    for hashes in trusted[..usize::try_from(len / BLOCK as u64 * 32)?].chunks(BATCH / BLOCK * 32) {
        let now = hashes.len() / 32 * BLOCK;
        data.read_exact(&mut batch[..now]).blame(Kind::Environment, || "reading data for dm-verity".into())?;
        let found = hash_blocks(&salt, &batch[..now]);
        if let Some(at) = found.iter().zip(hashes.chunks(32)).position(|(found, hash)| found.as_slice() != hash) {
            return Ok(Verdict::Data(done + (at * BLOCK) as u64));
        }
        done += now as u64;
    }
    Ok(Verdict::Sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_damaged_block_is_named() {
        for blocks in [1, 2, 128, 129, 2049, 16_385] {
            let data: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / 4099) as u8 ^ at as u8).collect();
            let mut tree = Vec::new();
            let len = data.len() as u64;
            let root = super::super::format(&mut &data[..], len, &[3; 32], [4; 16], &mut tree).unwrap();
            let verdict = |data: &[u8], tree: &[u8]| check(&mut &data[..], len, &mut &tree[..], &root);
            assert_eq!(verdict(&data, &tree).unwrap(), Verdict::Sound, "{blocks}");
            for block in [0, blocks / 2, blocks - 1] {
                let mut bad = data.clone();
                bad[block * BLOCK + 77] ^= 1;
                bad[blocks * BLOCK - 1] ^= 1;
                assert_eq!(verdict(&bad, &tree).unwrap(), Verdict::Data((block * BLOCK) as u64), "{blocks}");
            }
            for at in [0, 90, tree.len() - BLOCK] {
                let mut bad = tree.clone();
                bad[at] ^= 1;
                assert_eq!(
                    verdict(&data, &bad).unwrap(),
                    if blocks == 1 && at == 90 { Verdict::Data(0) } else { Verdict::Tree }
                );
            }
            assert!(verdict(&data, &tree[..tree.len() - 1]).is_err());
            let other = RootHash(crate::digest::Sha256::of(b"x"));
            assert_ne!(check(&mut &data[..], len, &mut &tree[..], &other).unwrap(), Verdict::Sound);
        }
        assert!(check(&mut &[][..], 0, &mut &[][..], &RootHash(crate::digest::Sha256::of(b""))).is_err());
    }
}
