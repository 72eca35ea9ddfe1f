//! File data: packed in parallel batches, written in order, remembered by place.

use super::disk::{BLOCK, INDEX, INDEX_HEAD, Layout};
use super::pack::{Body, Extent};
use super::write::Options;
use crate::error::{Blame, Kind, Result};
use crate::tree::Content;
use rayon::prelude::*;
use std::io::{Seek, SeekFrom, Write};

/// Bytes of content that are packed while the batch before them is written: bounds the memory that a build takes.
const BATCH: u64 = 24 << 20;

/// Where a file's data went.
#[derive(Debug)]
pub(super) enum Stored {
    /// Whole blocks from `start`, and the rest for the inode to hold.
    Flat { start: u32, tail: Vec<u8> },
    /// Compressed blocks, and their encoded indexes.
    Compressed { blocks: u32, index: Vec<u8> },
}

impl Stored {
    pub(super) fn layout(&self) -> Layout {
        match self {
            Self::Flat { tail, .. } if tail.is_empty() => Layout::Plain,
            Self::Flat { .. } => Layout::Inline,
            Self::Compressed { .. } => Layout::Compressed,
        }
    }

    pub(super) fn union(&self) -> u32 {
        match self {
            Self::Flat { start, .. } => *start,
            Self::Compressed { blocks, .. } => *blocks,
        }
    }

    /// Bytes that stand behind an inode of `head` bytes.
    pub(super) fn behind(&self, head: usize) -> usize {
        match self {
            Self::Flat { tail, .. } => tail.len(),
            Self::Compressed { index, .. } => head.next_multiple_of(8) - head + INDEX_HEAD + index.len(),
        }
    }
}

/// The data area while it is being written.
pub(super) struct Data<'a, W> {
    out: &'a mut W,
    blocks: u32,
    content: u64,
    /// In the order of what was asked for.
    pub(super) stored: Vec<Stored>,
}

impl<'a, W: Write + Seek + Send> Data<'a, W> {
    /// Starts behind the superblock's block.
    pub(super) fn new(out: &'a mut W) -> Result<Self> {
        out.seek(SeekFrom::Start(0)).blame(Kind::Environment, || "seeking in the image".into())?;
        let mut this = Self { out, blocks: 0, content: 0, stored: Vec::new() };
        this.append(&[0; BLOCK])?;
        Ok(this)
    }

    /// Blocks written so far.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Bytes of content stored so far.
    pub(super) fn content(&self) -> u64 {
        self.content
    }

    /// Appends bytes, zeros up to the next block after them; returns the first block and the one after the last.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(u32, u32)> {
        self.append_padded(0, bytes)
    }

    fn append_padded(&mut self, before: usize, bytes: &[u8]) -> Result<(u32, u32)> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let len = before + bytes.len();
        let start = self.blocks;
        let doing = || "writing the root file system".to_owned();
        for part in [&ZEROS[..before], bytes, &ZEROS[..len.next_multiple_of(BLOCK) - len]] {
            self.out.write_all(part).blame(Kind::Environment, doing)?;
        }
        let blocks = u32::try_from(len.div_ceil(BLOCK)).ok().and_then(|blocks| start.checked_add(blocks));
        self.blocks = blocks.ok_or_else(|| anyhow::anyhow!("the image is over 16 TiB"))?;
        Ok((start, self.blocks))
    }

    /// Stores contents in order; `true` beside one asks to leave its last bytes, less than a block, to the inode.
    pub(super) fn store(&mut self, wanted: &[(&Content, bool)], options: &Options<'_>) -> Result<()> {
        let mut ready: Vec<(Body, bool)> = Vec::new();
        let mut rest = wanted;
        loop {
            let mut sum = 0;
            let fits = |(content, _): &&(&Content, bool)| {
                let fits = sum == 0 || sum + content.size <= BATCH;
                sum += content.size;
                fits
            };
            let (batch, later) = rest.split_at(rest.iter().take_while(fits).count());
            rest = later;
            let pack = |(content, inline): &(&Content, bool)| Ok(((options.packer)(content)?, *inline));
            let previous = std::mem::take(&mut ready);
            let write = || {
                previous.into_iter().try_for_each(|(body, inline)| {
                    (options.progress)(body.size());
                    self.store_body(body, inline)
                })
            };
            // Single-item splits: a batch may hold one large file among a thousand small ones.
            let pack = || batch.par_iter().with_max_len(1).map(pack).collect::<Result<Vec<_>>>();
            let (written, packed) = rayon::join(write, pack);
            written?;
            ready = packed?;
            if batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn store_body(&mut self, body: Body, inline: bool) -> Result<()> {
        self.content += body.size();
        let stored = match body {
            Body::Flat(mut bytes) => {
                let tail = if inline { bytes.split_off(bytes.len() / BLOCK * BLOCK).to_vec() } else { Vec::new() };
                let start = if bytes.is_empty() { 0 } else { self.append(&bytes)?.0 };
                Stored::Flat { start, tail }
            }
            Body::Extents(extents) => {
                let before = self.blocks;
                let mut index = Vec::new();
                for extent in &extents {
                    self.store_extent(extent, &mut index)?;
                }
                Stored::Compressed { blocks: self.blocks - before, index }
            }
        };
        self.stored.push(stored);
        Ok(())
    }

    /// Writes an extent and appends the indexes of its logical clusters.
    ///
    /// The first index of a compressed extent is a head with the block; the second says how many blocks there are; each
    /// later one how far back the head is; all but the head say how far ahead the next one is. An uncompressed extent is
    /// a row of heads with one block each.
    fn store_extent(&mut self, extent: &Extent, index: &mut Vec<u8>) -> Result<()> {
        const PLAIN: u16 = 0;
        const HEAD: u16 = 1;
        const NONHEAD: u16 = 2;
        const BLOCK_COUNT: u16 = 1 << 11;
        let clusters = u16::try_from(extent.size().div_ceil(BLOCK))?;
        let head = |kind: u16, block: u32| {
            let mut index = [0; INDEX];
            index[..2].copy_from_slice(&kind.to_le_bytes());
            index[4..].copy_from_slice(&block.to_le_bytes());
            index
        };
        match extent {
            Extent::Plain(bytes) => {
                let (start, end) = self.append(bytes)?;
                (start..end).for_each(|block| index.extend(head(PLAIN, block)));
            }
            Extent::Zstd { frame, .. } => {
                let padding = frame.len().next_multiple_of(BLOCK) - frame.len();
                let (start, end) = self.append_padded(padding, frame)?;
                index.extend(head(HEAD, start));
                for cluster in 1..clusters {
                    let back = if cluster == 1 { u16::try_from(end - start)? | BLOCK_COUNT } else { cluster };
                    index.extend(NONHEAD.to_le_bytes());
                    index.extend([0; 2]);
                    index.extend(back.to_le_bytes());
                    index.extend((clusters - cluster).to_le_bytes());
                }
            }
        }
        Ok(())
    }
}
