//! File content → compressed extents: a pure function of the bytes, so that its result can be kept by digest.

use super::disk::{BLOCK, INDEX, INDEX_HEAD};
use crate::error::{Blame, Kind, Result};
use crate::tree::Content;
use rayon::prelude::*;
use zstd::bulk::Compressor;

/// Bytes of content in an extent, but the last: what the kernel must decompress to read any byte of it.
///
/// Larger compresses better and costs more for each random read: 64 KiB gave an image 3 % larger.
pub const EXTENT: usize = 128 * 1024;
/// log2 of the window that decompression needs: a whole extent.
pub(super) const WINDOW_LOG: u8 = EXTENT.ilog2() as u8;
/// zstd's level: 9 makes the image 4 % smaller and takes four times as long.
const LEVEL: i32 = 3;

/// How a file's bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// As they are: compression would not save anything.
    Flat(Vec<u8>),
    /// In extents of [`EXTENT`] bytes of content each, the last one shorter.
    Extents(Vec<Extent>),
}

/// One extent of a compressed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// A zstd frame that saves at least one block.
    Zstd {
        /// The frame.
        frame: Vec<u8>,
        /// Bytes of content in it.
        size: usize,
    },
    /// The bytes as they are.
    Plain(Vec<u8>),
}

impl Extent {
    /// Bytes of content.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Zstd { size, .. } => *size,
            Self::Plain(bytes) => bytes.len(),
        }
    }

    /// Blocks on disk.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self {
            Self::Zstd { frame, .. } => frame.len().div_ceil(BLOCK),
            Self::Plain(bytes) => bytes.len().div_ceil(BLOCK),
        }
    }
}

impl Body {
    /// Bytes of content.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Flat(bytes) => bytes.len() as u64,
            Self::Extents(extents) => extents.iter().map(|extent| extent.size() as u64).sum(),
        }
    }
}

/// Reads content, checks it against its digest and packs it.
///
/// # Errors
/// As [`Content::read`]; [`Kind::Internal`] when zstd fails.
pub fn read_and_pack(content: &Content) -> Result<Body> {
    pack(content.read()?)
}

/// Packs a file's bytes. Equal bytes give equal bodies, whatever the number of threads.
///
/// # Errors
/// [`Kind::Internal`] when zstd fails.
pub fn pack(bytes: Vec<u8>) -> Result<Body> {
    if bytes.len() <= BLOCK {
        return Ok(Body::Flat(bytes));
    }
    let extents: Vec<Extent> = bytes.par_chunks(EXTENT).map_init(|| None, compress).collect::<Result<_>>()?;
    let stored: usize = extents.iter().map(|extent| extent.blocks() * BLOCK).sum();
    let indexes = INDEX_HEAD + INDEX * bytes.len().div_ceil(BLOCK);
    Ok(if stored + indexes < bytes.len() { Body::Extents(extents) } else { Body::Flat(bytes) })
}

fn compress(compressor: &mut Option<Compressor<'static>>, chunk: &[u8]) -> Result<Extent> {
    // Nothing shorter than a block can save one.
    if chunk.len() <= BLOCK {
        return Ok(Extent::Plain(chunk.to_vec()));
    }
    let compressor = match compressor {
        Some(compressor) => compressor,
        None => compressor.insert(Compressor::new(LEVEL).blame(Kind::Internal, || "starting zstd".into())?),
    };
    let frame = compressor.compress(chunk).blame(Kind::Internal, || "compressing with zstd".into())?;
    let saves = frame.len().div_ceil(BLOCK) < chunk.len().div_ceil(BLOCK);
    Ok(if saves { Extent::Zstd { frame, size: chunk.len() } } else { Extent::Plain(chunk.to_vec()) })
}
