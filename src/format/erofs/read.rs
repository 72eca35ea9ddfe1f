//! Finds where a path's bytes stand in an image, so that a test can damage exactly one file, and how many each path takes.

use super::disk::{BLOCK, DIRENT, INDEX, INDEX_HEAD, MAGIC, SLOT, SUPER_OFFSET};
use crate::error::{Blame, Fault, Kind, Result};
use crate::tree::show;
use std::collections::{BTreeMap, BTreeSet};
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
    let (mut reader, root) = open(image)?;
    let mut inode = reader.inode(root)?;
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

/// What a regular file takes in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Bytes of its content.
    pub content: u64,
    /// Bytes of its data on disk, with their indexes. Of files that share their data, the first path has it all.
    pub stored: u64,
}

/// Every regular file of an image written by [`super::write`], by its path without a leading slash.
///
/// # Errors
/// [`Kind::Integrity`] when this is no such image, [`Kind::Environment`] when it cannot be read.
pub fn measure(image: &mut (impl Read + Seek)) -> Result<BTreeMap<Vec<u8>, Measured>> {
    let (mut reader, root) = open(image)?;
    let (mut files, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut todo = vec![(Vec::new(), root)];
    while let Some((path, number)) = todo.pop() {
        let dir = reader.inode(number)?;
        for (name, number, kind) in reader.entries(&dir)? {
            let child = if path.is_empty() { name.clone() } else { [path.as_slice(), name.as_slice()].join(&b'/') };
            match kind {
                DIRECTORY if name != b"." && name != b".." => todo.push((child, number)),
                REGULAR => drop(files.insert(child, number)),
                _ => {}
            }
        }
    }
    let measured = files.into_iter().map(|(path, number)| {
        let inode = reader.inode(number)?;
        let (data, behind) = reader.taken(&inode)?;
        let stored = [(false, number, behind), (true, data.0, data.1)]
            .into_iter()
            .filter(|(_, _, bytes)| *bytes > 0)
            .filter_map(|(is_data, at, bytes)| seen.insert((is_data, at)).then_some(bytes));
        Ok((path, Measured { content: inode.size, stored: stored.sum() }))
    });
    measured.collect()
}

/// File types as directory entries name them.
const REGULAR: u8 = 1;
const DIRECTORY: u8 = 2;

/// A reader of an image, and the number of its root.
fn open<R: Read + Seek>(image: &mut R) -> Result<(Reader<'_, R>, u64)> {
    let super_block = read(image, SUPER_OFFSET as u64, 128)?;
    if u32_at(&super_block, 0) != MAGIC || super_block[12] != 12 {
        return Err(Fault::new(Kind::Integrity, "this is no EROFS image with blocks of 4 KiB").into());
    }
    let meta = u64::from(u32_at(&super_block, 40)) * BLOCK as u64;
    Ok((Reader { image, meta }, u64::from(u16_at(&super_block, 14))))
}

impl<R: Read + Seek> Reader<'_, R> {
    /// Where a file's blocks start and how many bytes they are; and how many bytes stand behind its inode.
    fn taken(&mut self, inode: &Found) -> Result<((u64, u64), u64)> {
        let block = BLOCK as u64;
        let start = u64::from(inode.union);
        match inode.layout {
            0 => Ok(((start, inode.size.next_multiple_of(block)), 0)),
            1 => {
                let index = inode.after.next_multiple_of(8) + INDEX_HEAD as u64;
                let first = u64::from(u32_at(&read(self.image, index, 8)?, 4));
                let indexes = INDEX_HEAD as u64 + inode.size.div_ceil(block) * INDEX as u64;
                Ok(((first, start * block), indexes))
            }
            2 => Ok(((start, inode.size / block * block), inode.size % block)),
            other => Err(Fault::new(Kind::Integrity, format!("data layout {other} is not one of ours")).into()),
        }
    }

    /// A directory's entries: name, inode number, file type.
    fn entries(&mut self, dir: &Found) -> Result<Vec<(Vec<u8>, u64, u8)>> {
        let mut all = Vec::new();
        for at in (0..dir.size).step_by(BLOCK) {
            let block = self.block(dir, at)?;
            let broken = || Fault::new(Kind::Integrity, "a directory's block is not sound");
            all.extend(entries(&block).ok_or_else(broken)?);
        }
        Ok(all)
    }

    /// The block of a directory that starts at this offset.
    fn block(&mut self, dir: &Found, at: u64) -> Result<Vec<u8>> {
        let len = usize::try_from((dir.size - at).min(BLOCK as u64))?;
        let inline = dir.layout == 2 && len < BLOCK;
        let offset = if inline { dir.after } else { u64::from(dir.union) * BLOCK as u64 + at };
        read(self.image, offset, len)
    }

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
            let block = self.block(dir, at)?;
            if let Some(number) = find(&block, name) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

/// The inode number beside a name in a directory's block.
fn find(block: &[u8], name: &[u8]) -> Option<u64> {
    entries(block)?.into_iter().find_map(|(found, number, _)| (found == name).then_some(number))
}

/// The entries of a directory's block: name, inode number, file type. Nothing when the block is not sound.
fn entries(block: &[u8]) -> Option<Vec<(Vec<u8>, u64, u8)>> {
    let count = usize::from(u16_at(block.get(..DIRENT)?, 8)) / DIRENT;
    let head = |entry: usize| block.get(entry * DIRENT..)?.get(..DIRENT);
    let start = |entry: usize| Some(usize::from(u16_at(head(entry)?, 8)));
    let entry = |at: usize| {
        let end = if at + 1 < count { start(at + 1)? } else { block.len() };
        let name = block.get(start(at)?..end)?.split(|c| *c == 0).next()?;
        Some((name.to_vec(), u64::from(u32_at(head(at)?, 0)), head(at)?[10]))
    };
    (0..count).map(entry).collect()
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
