//! Finds where a path's bytes stand in an image, so that a test can damage exactly one file; whose a byte is, so that a
//! difference can be told by its path; and how many bytes each file takes.

use super::disk::{BLOCK, DIRENT, INDEX, INDEX_HEAD, MAGIC, SLOT, SUPER_OFFSET};
use crate::error::{Blame, Fault, Kind, Result};
use crate::tree::show;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;

/// What the reader needs of an inode.
struct Found {
    /// Offset of the inode.
    at: u64,
    layout: u16,
    is_dir: bool,
    is_file: bool,
    size: u64,
    union: u32,
    /// Offset just behind inode and attributes.
    after: u64,
}

struct Reader<'a, R> {
    image: &'a mut R,
    meta: u64,
    /// Bytes of directories that were read.
    directories: u64,
    /// The end of the furthest of them.
    furthest: u64,
}

/// Linux opens no longer path.
const MAX_PATH: usize = 4096;

/// The byte range in an image written by [`super::write`] that holds the data of the file at a path: its compressed
/// blocks, its whole blocks, or, for a file shorter than a block, its bytes behind the inode. Symbolic links are not
/// followed.
///
/// # Errors
/// [`Kind::Build`] when there is no such path or it holds no data, [`Kind::Integrity`] when this is no such image,
/// [`Kind::Environment`] when it cannot be read.
pub fn locate(image: &mut (impl Read + Seek), path: &[u8]) -> Result<(u64, u64)> {
    let (mut reader, root) = Reader::new(image)?;
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

/// The first path, in the order of the walk, to which the byte at an offset belongs: its inode, attributes, indexes or
/// data. `None` for what belongs to none, such as the superblock and padding; the root directory is the empty path.
///
/// # Errors
/// As [`locate`].
pub fn owner(image: &mut (impl Read + Seek), offset: u64) -> Result<Option<Vec<u8>>> {
    let (mut reader, root) = Reader::new(image)?;
    let mut found = None;
    reader.walk(root, |reader, path, _, inode| {
        if reader.ranges(inode)?.iter().any(|range| range.contains(&offset)) {
            found = Some(path.to_vec());
        }
        Ok(found.is_some())
    })?;
    Ok(found)
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
    let (mut reader, root) = Reader::new(image)?;
    let (mut files, mut seen) = (BTreeMap::new(), BTreeSet::new());
    reader.walk(root, |_, path, number, inode| {
        if inode.is_file {
            files.insert(path.to_vec(), number);
        }
        Ok(false)
    })?;
    let measured = files.into_iter().map(|(path, number)| {
        let inode = reader.inode(number)?;
        let (data, behind) = reader.taken(&inode)?;
        // No file takes more than the image has.
        for range in reader.ranges(&inode)?.iter().filter(|range| !range.is_empty()) {
            read(reader.image, range.end - 1, 1)?;
        }
        let stored = [(false, number, behind), (true, data.0, data.1)]
            .into_iter()
            .filter(|(_, _, bytes)| *bytes > 0)
            .filter_map(|(is_data, at, bytes)| seen.insert((is_data, at)).then_some(bytes));
        Ok((path, Measured { content: inode.size, stored: stored.sum() }))
    });
    measured.collect()
}

impl<'a, R: Read + Seek> Reader<'a, R> {
    /// A reader, and the number of the root directory.
    fn new(image: &'a mut R) -> Result<(Self, u64)> {
        let super_block = read(image, SUPER_OFFSET as u64, 128)?;
        if u32_at(&super_block, 0) != MAGIC || super_block[12] != 12 {
            return Err(Fault::new(Kind::Integrity, "this is no EROFS image with blocks of 4 KiB").into());
        }
        let meta = u64::from(u32_at(&super_block, 40)) * BLOCK as u64;
        Ok((Self { image, meta, directories: 0, furthest: 0 }, u64::from(u16_at(&super_block, 14))))
    }

    /// Visits every path in depth, the directory before what is below it, until `visit` says that it is enough. A file of
    /// several names is visited by each of them.
    fn walk(&mut self, root: u64, mut visit: impl FnMut(&mut Self, &[u8], u64, &Found) -> Result<bool>) -> Result<()> {
        let mut todo = vec![(Vec::new(), root)];
        // A damaged directory may lead back to one above it.
        let mut seen = HashSet::new();
        while let Some((path, number)) = todo.pop() {
            let inode = self.inode(number)?;
            if inode.is_dir && !seen.insert(number) {
                continue;
            }
            if visit(self, &path, number, &inode)? {
                break;
            }
            if inode.is_dir {
                let entries = self.entries(&inode)?;
                for (name, number) in entries.into_iter().rev().filter(|(name, _)| name != b"." && name != b"..") {
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    let path = [&path, slash, &name].concat();
                    // The paths of a chain of directories grow with its length, all together with the square of it.
                    if path.len() > MAX_PATH {
                        return Err(Fault::new(Kind::Integrity, "the EROFS image has a path without end").into());
                    }
                    todo.push((path, number));
                }
            }
        }
        Ok(())
    }

    /// Where a file's blocks start and how many bytes they are; and how many bytes stand behind its inode.
    fn taken(&mut self, inode: &Found) -> Result<((u64, u64), u64)> {
        let block = BLOCK as u64;
        let start = u64::from(inode.union);
        match inode.layout {
            0 => Ok(((start, inode.size.div_ceil(block).saturating_mul(block)), 0)),
            1 => {
                let index = inode.after.next_multiple_of(8) + INDEX_HEAD as u64;
                let first = u64::from(u32_at(&read(self.image, index, 8)?, 4));
                let indexes = INDEX_HEAD as u64 + inode.size.div_ceil(block).saturating_mul(INDEX as u64);
                Ok(((first, start * block), indexes))
            }
            2 => Ok(((start, inode.size / block * block), inode.size % block)),
            other => Err(Fault::new(Kind::Integrity, format!("data layout {other} is not one of ours")).into()),
        }
    }

    /// Where an inode and all that is behind it stand.
    fn ranges(&mut self, inode: &Found) -> Result<[Range<u64>; 2]> {
        let start = u64::from(inode.union) * BLOCK as u64;
        let whole = inode.size / BLOCK as u64 * BLOCK as u64;
        Ok(match inode.layout {
            1 => {
                let index = inode.after.next_multiple_of(8) + INDEX_HEAD as u64;
                let first = u64::from(u32_at(&read(self.image, index, 8)?, 4)) * BLOCK as u64;
                let indexes = inode.size.div_ceil(BLOCK as u64).saturating_mul(INDEX as u64);
                [inode.at..index.saturating_add(indexes), first..first + start]
            }
            2 => [inode.at..inode.after + inode.size % BLOCK as u64, start..start.saturating_add(whole)],
            _ => [inode.at..inode.after, start..start.saturating_add(inode.size)],
        })
    }

    /// All entries of a directory: name and number.
    fn entries(&mut self, dir: &Found) -> Result<Vec<(Vec<u8>, u64)>> {
        let mut found = Vec::new();
        self.each_block(dir, |block| {
            found.extend(entries(block).map(|(name, number)| (name.to_vec(), number)));
            false
        })?;
        Ok(found)
    }

    fn inode(&mut self, number: u64) -> Result<Found> {
        let at = self.meta + number * SLOT as u64;
        let bytes = read(self.image, at, 32)?;
        let format = u16_at(&bytes, 0);
        let kind = u16_at(&bytes, 4) >> 12;
        let (is_dir, is_file) = (kind == 4, kind == 8);
        let (len, size) = match format & 1 {
            0 => (32, u64::from(u32_at(&bytes, 8))),
            _ => (64, u64::from(u32_at(&bytes, 8)) | u64::from(u32_at(&bytes, 12)) << 32),
        };
        let attributes = match u64::from(u16_at(&bytes, 2)) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let (layout, union) = (format >> 1 & 7, u32_at(&bytes, 16));
        Ok(Found { at, layout, is_dir, is_file, size, union, after: at + len + attributes })
    }

    fn lookup(&mut self, dir: &Found, name: &[u8]) -> Result<Option<u64>> {
        let mut found = None;
        self.each_block(dir, |block| {
            found = entries(block).find(|(known, _)| *known == name).map(|(_, number)| number);
            found.is_some()
        })?;
        Ok(found)
    }

    /// Calls `enough` with each block of a directory until it says so.
    fn each_block(&mut self, dir: &Found, mut enough: impl FnMut(&[u8]) -> bool) -> Result<()> {
        for at in (0..dir.size).step_by(BLOCK) {
            let len = usize::try_from((dir.size - at).min(BLOCK as u64))?;
            let inline = dir.layout == 2 && len < BLOCK;
            let offset = if inline { dir.after } else { u64::from(dir.union) * BLOCK as u64 + at };
            let bytes = read(self.image, offset, len)?;
            // Directories that share their bytes could hold far more paths than an image has room for.
            self.directories += len as u64;
            self.furthest = self.furthest.max(offset + len as u64);
            if self.directories > self.furthest {
                return Err(Fault::new(Kind::Integrity, "directories of the EROFS image overlap").into());
            }
            if enough(&bytes) {
                break;
            }
        }
        Ok(())
    }
}

/// The names in a directory's block, each with its inode number; ends where the block makes no sense.
fn entries(block: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    let start = |entry: usize| Some(usize::from(u16_at(block.get(entry * DIRENT..)?.get(..DIRENT)?, 8)));
    let count = start(0).unwrap_or(0) / DIRENT;
    (0..count).map_while(move |entry| {
        let end = if entry + 1 < count { start(entry + 1)? } else { block.len() };
        let name = block.get(start(entry)?..end)?;
        Some((name.split(|c| *c == 0).next()?, u64::from(u32_at(block, entry * DIRENT))))
    })
}

fn read(image: &mut (impl Read + Seek), offset: u64, len: usize) -> Result<Vec<u8>> {
    let doing = || "reading the EROFS image".to_owned();
    let mut bytes = vec![0; len];
    image.seek(SeekFrom::Start(offset)).blame(Kind::Environment, doing)?;
    image.read_exact(&mut bytes).map_err(|error| {
        // Cut off, or it names a place that no file has.
        let short = matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput);
        let kind = if short { Kind::Integrity } else { Kind::Environment };
        anyhow::Error::from(error).context(Fault::new(kind, doing()))
    })?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
