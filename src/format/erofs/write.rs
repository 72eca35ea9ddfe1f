//! `Tree` → image, in one pass: file data as they are packed, then directories, inodes and, last, the superblock.

use super::data::{Data, Stored};
use super::dirs::Entries;
use super::disk::{BLOCK, INDEX_HEAD, Inode, Layout, SLOT, Super, ZSTD};
use super::inodes::Area;
use super::pack::{self, Body, WINDOW_LOG};
use super::xattrs;
use crate::error::{Blame, Fault, Kind, Result};
use crate::tree::{Content, Node, Tree, What, show};
use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};

/// Turns content into what is stored: [`pack::read_and_pack`], or a cache in front of it that answers the same.
pub type Packer<'a> = dyn Fn(&Content) -> Result<Body> + Sync + 'a;

/// What an image holds besides its tree.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Every path's modification time, in seconds since 1970.
    pub epoch: u64,
    /// The file system's identity.
    pub uuid: [u8; 16],
    /// Packs content; called from several threads at once.
    pub packer: &'a Packer<'a>,
    /// Told how many bytes of content more are done.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl Options<'_> {
    /// Options that pack directly and tell nobody.
    #[must_use]
    pub fn new(epoch: u64, uuid: [u8; 16]) -> Self {
        Self { epoch, uuid, packer: &pack::read_and_pack, progress: &|_| () }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image, a multiple of 4096.
    pub size: u64,
    /// Inodes in it.
    pub inodes: u64,
    /// Bytes of content before compression, equal files counted once.
    pub content: u64,
}

/// What stands behind a path's inode.
enum Behind<'a> {
    Nothing,
    Directory(Entries<'a>),
    /// Index of the path's data in [`Data`].
    File(usize),
    Symlink(&'a [u8]),
}

/// One inode of the tree.
struct Entry<'a> {
    inode: Inode,
    behind: Behind<'a>,
    /// File type as directory entries name it.
    kind: u8,
    /// Offset in the metadata area.
    at: usize,
}

/// Writes a tree as an EROFS image that starts at the stream's position 0. Equal trees and options give equal bytes.
///
/// # Errors
/// [`Kind::Build`] for what the format cannot hold, [`Kind::Environment`] when writing fails, or the packer's error.
pub fn write<W: Write + Seek + Send>(tree: &Tree, options: &Options<'_>, out: &mut W) -> Result<Summary> {
    let mut entries = collect(tree)?;
    let mut data = Data::new(out)?;
    store_files(tree, options, &mut entries, &mut data)?;
    let blocks_before_dirs = data.blocks();
    let mut area = Area::new();
    let dir_blocks = place(&mut entries, &data, blocks_before_dirs, &mut area)?;
    let meta_block = blocks_before_dirs + dir_blocks;
    fill(&entries, options, &mut data, &mut area)?;
    if data.blocks() != meta_block {
        return Err(anyhow::anyhow!("directories took other blocks than planned"));
    }
    let blocks = data.append(area.bytes())?.1;
    let root = u16::try_from(entries[0].at / SLOT)?;
    let inodes = entries.len() as u64;
    let sb = Super { root, inodes, epoch: options.epoch, blocks, meta_block, uuid: options.uuid };
    let content = data.content();
    let doing = || "writing the superblock".to_owned();
    out.seek(SeekFrom::Start(0)).blame(Kind::Environment, doing)?;
    out.write_all(&sb.encode(WINDOW_LOG)).blame(Kind::Environment, doing)?;
    out.flush().blame(Kind::Environment, doing)?;
    Ok(Summary { size: u64::from(blocks) * BLOCK as u64, inodes, content })
}

/// The tree's inodes in its order, directories with their entries, links counted.
fn collect(tree: &Tree) -> Result<Vec<Entry<'_>>> {
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(tree.len());
    let mut at: HashMap<&[u8], usize> = HashMap::with_capacity(tree.len());
    for (path, node) in tree.iter() {
        if let What::HardLink(_) = node.what {
            continue;
        }
        at.insert(path, entries.len());
        entries.push(entry(node).blame(Kind::Build, || format!("storing `{}`", show(path)))?);
        entries.last_mut().into_iter().for_each(|entry| entry.inode.ino = u32::try_from(at.len()).unwrap_or(u32::MAX));
    }
    for (path, node) in tree.iter() {
        let missing = |what: &str| Fault::new(Kind::Build, format!("`{}`: its {what} is not in the tree", show(path)));
        let this = match &node.what {
            What::HardLink(target) => {
                let this = *at.get(target.as_slice()).ok_or_else(|| missing("link target"))?;
                if !matches!(entries[this].behind, Behind::File(_)) {
                    return Err(missing("link target as a regular file").into());
                }
                this
            }
            _ => at[path],
        };
        let slash = path.iter().rposition(|c| *c == b'/');
        let parent = *at.get(&path[..slash.unwrap_or(0)]).ok_or_else(|| missing("parent"))?;
        if let Behind::Directory(own) = &mut entries[this].behind {
            own.0.extend([(&b"."[..], this), (&b".."[..], parent)]);
        }
        if path.is_empty() {
            continue;
        }
        let is_dir = matches!(node.what, What::Directory);
        let Behind::Directory(siblings) = &mut entries[parent].behind else {
            return Err(missing("parent as a directory").into());
        };
        siblings.0.push((&path[slash.map_or(0, |slash| slash + 1)..], this));
        // A directory is linked from its parent and by its own `.` (counted at the start), and by each child's `..`.
        if is_dir {
            entries[parent].inode.nlink += 1;
        } else {
            entries[this].inode.nlink += 1;
        }
    }
    for entry in &mut entries {
        if let Behind::Directory(own) = &mut entry.behind {
            own.0.sort_unstable();
        }
    }
    Ok(entries)
}

fn entry(node: &Node) -> Result<Entry<'_>> {
    let (kind, format, behind, union) = match &node.what {
        What::Directory => (2, 0o040_000, Behind::Directory(Entries::default()), 0),
        What::File(_) => (1, 0o100_000, Behind::File(usize::MAX), 0),
        What::Symlink(target) => (7, 0o120_000, Behind::Symlink(target), 0),
        What::CharDevice(major, minor) => (3, 0o020_000, Behind::Nothing, device(*major, *minor)?),
        What::BlockDevice(major, minor) => (4, 0o060_000, Behind::Nothing, device(*major, *minor)?),
        What::Fifo => (5, 0o010_000, Behind::Nothing, 0),
        What::Socket => (6, 0o140_000, Behind::Nothing, 0),
        What::HardLink(_) => return Err(anyhow::anyhow!("a hard link has no inode of its own")),
    };
    let nlink = if let What::Directory = node.what { 2 } else { 0 };
    let mode = format | (node.mode & 0o7777);
    let xattrs = xattrs::encode(&node.xattrs)?;
    let inode =
        Inode { layout: Layout::Plain, mode, nlink, size: 0, union, ino: 0, uid: node.uid, gid: node.gid, xattrs };
    Ok(Entry { inode, behind, kind, at: 0 })
}

/// The kernel's 32-bit device number: 12 bits of major, 20 of minor.
fn device(major: u32, minor: u32) -> Result<u32> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Fault::new(Kind::Build, format!("device number {major}:{minor} is out of range")).into());
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Writes the data of all files, equal ones once, and tells the inodes where they are.
fn store_files<W: Write + Seek + Send>(
    tree: &Tree,
    options: &Options<'_>,
    entries: &mut [Entry<'_>],
    data: &mut Data<'_, W>,
) -> Result<()> {
    let nodes = tree.iter().filter(|(_, node)| !matches!(node.what, What::HardLink(_)));
    let mut wanted = Vec::new();
    let mut seen = HashMap::new();
    for ((_, node), entry) in nodes.zip(entries.iter_mut()) {
        let (What::File(content), Behind::File(stored)) = (&node.what, &mut entry.behind) else { continue };
        entry.inode.size = content.size;
        // Whether the last bytes can stand behind the inode depends on how much the attributes leave of the block, so
        // two files share their data only if it is the same for both.
        let tail = usize::try_from(content.size % BLOCK as u64)?;
        let inline = tail > 0 && entry.inode.head_len() + tail <= BLOCK;
        *stored = *seen.entry((content.digest, inline)).or_insert_with(|| {
            wanted.push((content, inline));
            wanted.len() - 1
        });
    }
    data.store(&wanted, options)
}

/// Decides each inode's layout and place; returns the number of blocks that directories and long links will take.
fn place<W: Write + Seek + Send>(
    entries: &mut [Entry<'_>],
    data: &Data<'_, W>,
    first_block: u32,
    area: &mut Area,
) -> Result<u32> {
    let mut next = first_block;
    for entry in entries {
        let head = entry.inode.head_len();
        let behind = match &entry.behind {
            Behind::Nothing => 0,
            Behind::File(stored) => {
                let stored = &data.stored[*stored];
                (entry.inode.layout, entry.inode.union) = (stored.layout(), stored.union());
                stored.behind(head)
            }
            Behind::Directory(own) => split(&mut entry.inode, own.size(), &mut next)?,
            Behind::Symlink(target) => split(&mut entry.inode, target.len(), &mut next)?,
        };
        entry.at = area.place(head + behind);
    }
    Ok(next - first_block)
}

/// Splits bytes of which no inode knows yet where they are: whole blocks from `next`, the rest behind the inode if it
/// fits. Returns how many bytes stand behind the inode.
fn split(inode: &mut Inode, size: usize, next: &mut u32) -> Result<usize> {
    inode.size = size as u64;
    let tail = size % BLOCK;
    let inline = tail > 0 && inode.head_len() + tail <= BLOCK;
    let blocks = if inline { size / BLOCK } else { size.div_ceil(BLOCK) };
    inode.layout = if inline { Layout::Inline } else { Layout::Plain };
    inode.union = if blocks > 0 { *next } else { 0 };
    *next = next.checked_add(u32::try_from(blocks)?).ok_or_else(|| anyhow::anyhow!("the image is over 16 TiB"))?;
    Ok(if inline { tail } else { 0 })
}

/// Writes directories and links, and fills the metadata area.
fn fill<W: Write + Seek + Send>(
    entries: &[Entry<'_>],
    options: &Options<'_>,
    data: &mut Data<'_, W>,
    area: &mut Area,
) -> Result<()> {
    for entry in entries {
        let head = entry.inode.encode(options.epoch);
        area.fill(entry.at, &head);
        let after = entry.at + head.len();
        let mut put = |bytes: &[u8]| -> Result<()> {
            let whole = if entry.inode.layout == Layout::Inline { bytes.len() / BLOCK * BLOCK } else { bytes.len() };
            data.append(&bytes[..whole])?;
            area.fill(after, &bytes[whole..]);
            Ok(())
        };
        match &entry.behind {
            Behind::Nothing => {}
            Behind::Directory(own) => {
                put(&own.encode(|inode| ((entries[inode].at / SLOT) as u64, entries[inode].kind)))?;
            }
            Behind::Symlink(target) => put(target)?,
            Behind::File(stored) => match &data.stored[*stored] {
                Stored::Flat { tail, .. } => area.fill(after, tail),
                Stored::Compressed { index, .. } => {
                    let map = after.next_multiple_of(8);
                    area.fill(map, &map_header());
                    area.fill(map + INDEX_HEAD, index);
                }
            },
        }
    }
    Ok(())
}

/// Says that the indexes behind it are of zstd with clusters of several blocks, 4 KiB to a logical cluster.
fn map_header() -> [u8; 8] {
    const BIG_CLUSTERS: u8 = 2;
    [0, 0, 0, 0, BIG_CLUSTERS, 0, ZSTD, 0]
}
