//! Finds where a path's bytes stand in an image, so that a test can damage exactly one file.

use super::disk::{BLOCK, DIRENT, INDEX_HEAD, MAGIC, SLOT, SUPER_OFFSET};
use crate::error::{Blame, Fault, Kind, Result};
use crate::tree::show;
use std::io::{Read, Seek, SeekFrom};

/// What the reader needs of an inode.
struct Found {
    layout: u16,
    size: u64,
    union: u32,
    /// Offset just behind inode and attributes.
    after: u64,
}

struct Reader<'a, R> {
    image: &'a mut R,
    meta: u64,
}

/// The byte range in an image written by [`super::write`] that holds the data of the file at a path: its compressed
/// blocks, its whole blocks, or, for a file shorter than a block, its bytes behind the inode. Symbolic links are not
/// followed.
///
/// # Errors
/// [`Kind::Build`] when there is no such path or it holds no data, [`Kind::Integrity`] when this is no such image,
/// [`Kind::Environment`] when it cannot be read.
pub fn locate(image: &mut (impl Read + Seek), path: &[u8]) -> Result<(u64, u64)> {
    let super_block = read(image, SUPER_OFFSET as u64, 128)?;
    if u32_at(&super_block, 0) != MAGIC || super_block[12] != 12 {
        return Err(Fault::new(Kind::Integrity, "this is no EROFS image with blocks of 4 KiB").into());
    }
    let mut reader = Reader { image, meta: u64::from(u32_at(&super_block, 40)) * BLOCK as u64 };
    let mut inode = reader.inode(u64::from(u16_at(&super_block, 14)))?;
    for name in path.split(|c| *c == b'/').filter(|name| !name.is_empty()) {
        let number = reader.lookup(&inode, name)?;
        let missing = || Fault::new(Kind::Build, format!("`{}` is not in the image", show(path)));
        inode = reader.inode(number.ok_or_else(missing)?)?;
    }
    let start = u64::from(inode.union) * BLOCK as u64;
    match inode.layout {
        _ if inode.size == 0 => Err(Fault::new(Kind::Build, format!("`{}` holds no data", show(path))).into()),
        0 => Ok((start, inode.size)),
        1 => {
            // The extents of a file follow one another; the first index tells where the first one starts.
            let index = inode.after.next_multiple_of(8) + INDEX_HEAD as u64;
            let first = u32_at(&read(reader.image, index, 8)?, 4);
            Ok((u64::from(first) * BLOCK as u64, u64::from(inode.union) * BLOCK as u64))
        }
        2 if inode.size < BLOCK as u64 => Ok((inode.after, inode.size)),
        2 => Ok((start, inode.size / BLOCK as u64 * BLOCK as u64)),
        other => Err(Fault::new(Kind::Integrity, format!("data layout {other} is not one of ours")).into()),
    }
}

impl<R: Read + Seek> Reader<'_, R> {
    fn inode(&mut self, number: u64) -> Result<Found> {
        let at = self.meta + number * SLOT as u64;
        let bytes = read(self.image, at, 32)?;
        let format = u16_at(&bytes, 0);
        let (len, size) = match format & 1 {
            0 => (32, u64::from(u32_at(&bytes, 8))),
            _ => (64, u64::from(u32_at(&bytes, 8)) | u64::from(u32_at(&bytes, 12)) << 32),
        };
        let attributes = match u64::from(u16_at(&bytes, 2)) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        Ok(Found { layout: format >> 1 & 7, size, union: u32_at(&bytes, 16), after: at + len + attributes })
    }

    fn lookup(&mut self, dir: &Found, name: &[u8]) -> Result<Option<u64>> {
        for at in (0..dir.size).step_by(BLOCK) {
            let len = usize::try_from((dir.size - at).min(BLOCK as u64))?;
            let inline = dir.layout == 2 && len < BLOCK;
            let offset = if inline { dir.after } else { u64::from(dir.union) * BLOCK as u64 + at };
            let block = read(self.image, offset, len)?;
            if let Some(number) = find(&block, name) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

/// The inode number beside a name in a directory's block.
fn find(block: &[u8], name: &[u8]) -> Option<u64> {
    let count = usize::from(u16_at(block.get(..DIRENT)?, 8)) / DIRENT;
    let start = |entry: usize| Some(usize::from(u16_at(block.get(entry * DIRENT..)?.get(..DIRENT)?, 8)));
    (0..count).find_map(|entry| {
        let end = if entry + 1 < count { start(entry + 1)? } else { block.len() };
        let found = block.get(start(entry)?..end)?;
        let found = found.split(|c| *c == 0).next()?;
        (found == name).then(|| u64::from(u32_at(block, entry * DIRENT)))
    })
}

fn read(image: &mut (impl Read + Seek), offset: u64, len: usize) -> Result<Vec<u8>> {
    let doing = || "reading the EROFS image".to_owned();
    let mut bytes = vec![0; len];
    image.seek(SeekFrom::Start(offset)).blame(Kind::Environment, doing)?;
    image.read_exact(&mut bytes).blame(Kind::Environment, doing)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
