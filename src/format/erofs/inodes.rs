//! Places inodes, and all that must stand behind them, in the blocks of the metadata area.

use super::disk::{BLOCK, SLOT};
use std::collections::BTreeMap;

/// The metadata area while it is being filled.
#[derive(Debug)]
pub(super) struct Area {
    bytes: Vec<u8>,
    /// Free bytes at the end of a block → the blocks with that much.
    free: BTreeMap<usize, Vec<usize>>,
}

impl Area {
    /// An area whose first slot stays empty: an inode there would have number 0, which programs take for "deleted".
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BLOCK], free: BTreeMap::from([(BLOCK - SLOT, vec![0])]) }
    }

    /// Finds a place for `len` bytes and returns its offset. What fits in a block never crosses one, as the kernel
    /// demands of an inode with its inline data; longer pieces start at a block.
    pub(super) fn place(&mut self, len: usize) -> usize {
        let len = len.next_multiple_of(SLOT);
        if let Some(free) = self.free.range(len..).next().map(|(free, _)| *free)
            && let Some(block) = self.take(free)
        {
            self.give(free - len, block);
            return block * BLOCK + (BLOCK - free);
        }
        let start = self.bytes.len();
        let end = start + len.next_multiple_of(BLOCK);
        self.bytes.resize(end, 0);
        self.give(end - (start + len), end / BLOCK - 1);
        start
    }

    fn take(&mut self, free: usize) -> Option<usize> {
        let blocks = self.free.get_mut(&free)?;
        let block = blocks.pop();
        if blocks.is_empty() {
            self.free.remove(&free);
        }
        block
    }

    fn give(&mut self, free: usize, block: usize) {
        if free >= SLOT {
            self.free.entry(free).or_default().push(block);
        }
    }

    /// Fills a place.
    pub(super) fn fill(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Whole blocks.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
