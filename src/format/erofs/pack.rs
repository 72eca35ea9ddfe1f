//! File content → compressed extents: a pure function of the bytes, so that its result can be kept by digest.

use super::disk::{BLOCK, INDEX, INDEX_HEAD};
use crate::error::{Blame, Kind, Result};
use crate::tree::Content;
use bytes::Bytes;
use rayon::prelude::*;
use std::cell::RefCell;
use zstd::bulk::Compressor;

/// Bytes of content in an extent, but the last: what the kernel must decompress to read any byte of it.
///
/// Larger compresses better and costs more for each random read: 64 KiB gave an image 3 % larger.
pub const EXTENT: usize = 128 * 1024;
/// log2 of the window that decompression needs: a whole extent.
pub(super) const WINDOW_LOG: u8 = EXTENT.ilog2() as u8;
/// zstd's level: 9 makes the image 4 % smaller and takes four times as long.
const LEVEL: i32 = 3;

/// Names the function [`pack`] with all that decides its result besides the bytes, for whoever keeps results. The
/// library's version is part of it: another zstd makes other frames.
#[must_use]
pub fn pack_version() -> String {
    format!("erofs-1-zstd-{}", zstd::zstd_safe::version_number())
}

/// How a file's bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// As they are: compression would not save anything.
    Flat(Bytes),
    /// In extents of [`EXTENT`] bytes of content each, the last one shorter.
    Extents(Vec<Extent>),
}

/// One extent of a compressed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// A zstd frame that saves at least one block.
    Zstd {
        /// The frame.
        frame: Bytes,
        /// Bytes of content in it.
        size: usize,
    },
    /// The bytes as they are.
    Plain(Bytes),
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

impl Body {
    /// As parts to keep: the sizes of extents, the topmost bit set for frames; then the extents' bytes. Without any part
    /// the bytes are stored as they are, and are not kept a second time.
    #[must_use]
    pub fn into_parts(self) -> Vec<Bytes> {
        let Self::Extents(extents) = self else { return Vec::new() };
        let mut sizes = Vec::with_capacity(extents.len() * 4);
        let mut parts = vec![Bytes::new()];
        for extent in extents {
            let size = extent.size() as u32;
            let (flag, bytes) = match extent {
                Extent::Zstd { frame, .. } => (FRAME, frame),
                Extent::Plain(bytes) => (0, bytes),
            };
            sizes.extend_from_slice(&(size | flag).to_le_bytes());
            parts.push(bytes);
        }
        parts[0] = sizes.into();
        parts
    }

    /// The body of content that was kept as parts.
    ///
    /// # Errors
    /// As [`Content::read`]; [`Kind::Internal`] when the parts are not those of [`Body::into_parts`].
    pub fn from_parts(parts: Vec<Bytes>, content: &Content) -> Result<Self> {
        let mut parts = parts.into_iter();
        let Some(sizes) = parts.next() else { return Ok(Self::Flat(content.read()?.into())) };
        let extents = sizes.chunks_exact(4).zip(parts).map(|(size, bytes)| {
            let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]);
            match size & FRAME {
                0 => Extent::Plain(bytes),
                _ => Extent::Zstd { frame: bytes, size: (size & !FRAME) as usize },
            }
        });
        let body = Self::Extents(extents.collect());
        if body.size() == content.size {
            return Ok(body);
        }
        Err(anyhow::anyhow!("content {} was kept with {} bytes", content.digest, body.size()))
    }
}

/// In a kept extent's size: the bytes are a zstd frame.
const FRAME: u32 = 1 << 31;

/// Reads content, checks it against its digest and packs it.
///
/// # Errors
/// As [`Content::read`]; [`Kind::Internal`] when zstd fails.
pub fn read_and_pack(content: &Content) -> Result<Body> {
    if content.size <= WINDOW as u64 {
        return pack(content.read()?);
    }
    let mut extents = Vec::new();
    content.read_by(WINDOW, |bytes| {
        extents.extend(extents_of(&bytes)?);
        Ok(())
    })?;
    if pays_off(&extents, content.size) {
        return Ok(Body::Extents(extents));
    }
    drop(extents);
    Ok(Body::Flat(content.read()?.into()))
}

/// Bytes of a large file that are packed at a time, whole extents, enough for all cores; as many are read ahead. What they
/// were packed to stays in memory besides.
const WINDOW: usize = 64 * EXTENT;

/// Packs a file's bytes. Equal bytes give equal bodies, whatever the number of threads.
///
/// # Errors
/// [`Kind::Internal`] when zstd fails.
pub fn pack(bytes: Vec<u8>) -> Result<Body> {
    if bytes.len() <= BLOCK {
        return Ok(Body::Flat(bytes.into()));
    }
    let extents = extents_of(&bytes)?;
    Ok(if pays_off(&extents, bytes.len() as u64) { Body::Extents(extents) } else { Body::Flat(bytes.into()) })
}

fn extents_of(bytes: &[u8]) -> Result<Vec<Extent>> {
    bytes.par_chunks(EXTENT).map(compress).collect()
}

/// Whether extents and their indexes take less than the content of so many bytes as it is.
fn pays_off(extents: &[Extent], size: u64) -> bool {
    let blocks: usize = extents.iter().map(Extent::blocks).sum();
    ((blocks * BLOCK + INDEX_HEAD) as u64) + INDEX as u64 * size.div_ceil(BLOCK as u64) < size
}

thread_local! {
    /// Its tables take a megabyte; most files are small.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(chunk: &[u8]) -> Result<Extent> {
    // Nothing shorter than a block can save one.
    if chunk.len() <= BLOCK {
        return Ok(Extent::Plain(Bytes::copy_from_slice(chunk)));
    }
    let frame = COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(LEVEL)?),
        };
        compressor.compress(chunk)
    });
    let frame = frame.blame(Kind::Internal, || "compressing with zstd".into())?;
    let saves = frame.len().div_ceil(BLOCK) < chunk.len().div_ceil(BLOCK);
    Ok(if saves {
        Extent::Zstd { frame: frame.into(), size: chunk.len() }
    } else {
        Extent::Plain(Bytes::copy_from_slice(chunk))
    })
}
