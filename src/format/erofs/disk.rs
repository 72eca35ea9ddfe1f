//! Numbers and structures as they stand on disk, all little-endian.

/// Bytes in a block.
pub(super) const BLOCK: usize = 4096;
/// Where the superblock starts.
pub(super) const SUPER_OFFSET: usize = 1024;
/// The first four bytes of the superblock.
pub(super) const MAGIC: u32 = 0xE0F5_E1E2;
/// Inodes are addressed in units of this many bytes.
pub(super) const SLOT: usize = 32;
/// Bytes of a compression index of one 4 KiB logical cluster.
pub(super) const INDEX: usize = 8;
/// Bytes between the (8-aligned) end of inode and attributes and the first index: map header and 8 reserved bytes.
pub(super) const INDEX_HEAD: usize = 16;
/// Bytes of a directory entry without its name.
pub(super) const DIRENT: usize = 12;

/// Compatible features: the superblock has a checksum, inodes have a modification time.
pub(super) const COMPAT: u32 = 0x1 | 0x2;
/// Incompatible features: compressed data stand at the end of their cluster, zeros before; per-algorithm
/// configurations follow the superblock, and clusters may have several blocks (the two share a bit).
pub(super) const INCOMPAT: u32 = 0x1 | 0x2;
/// zstd's number among the algorithms.
pub(super) const ZSTD: u8 = 3;

/// How an inode's data are laid out; the format has more ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Whole blocks.
    Plain = 0,
    /// Compressed, 8 bytes of index for each logical cluster.
    Compressed = 1,
    /// Whole blocks, and the rest right behind the inode.
    Inline = 2,
}

/// An inode before its place is known.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) layout: Layout,
    /// File type and permissions, as in `st_mode`.
    pub(super) mode: u16,
    pub(super) nlink: u32,
    pub(super) size: u64,
    /// Start block, number of compressed blocks, or device number.
    pub(super) union: u32,
    /// Shown to 32-bit `stat` only.
    pub(super) ino: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Encoded attributes with their header, or empty.
    pub(super) xattrs: Vec<u8>,
}

impl Inode {
    /// Whether the 32-byte form, which takes the modification time from the superblock, can hold it.
    fn is_compact(&self) -> bool {
        let short = |n: u32| u16::try_from(n).is_ok();
        short(self.nlink) && short(self.uid) && short(self.gid) && u32::try_from(self.size).is_ok()
    }

    /// Bytes of inode and attributes.
    pub(super) fn head_len(&self) -> usize {
        (if self.is_compact() { 32 } else { 64 }) + self.xattrs.len()
    }

    /// Inode and attributes as they stand on disk.
    #[expect(clippy::cast_possible_truncation, reason = "`is_compact` has looked, attributes are bounded by `xattrs`")]
    pub(super) fn encode(&self, epoch: u64) -> Vec<u8> {
        let compact = self.is_compact();
        let format = ((self.layout as u16) << 1) | u16::from(!compact);
        let attributes = if self.xattrs.is_empty() { 0 } else { ((self.xattrs.len() - 12) / 4 + 1) as u16 };
        let mut out = Vec::with_capacity(self.head_len());
        for short in [format, attributes, self.mode] {
            out.extend(short.to_le_bytes());
        }
        if compact {
            out.extend((self.nlink as u16).to_le_bytes());
            out.extend((self.size as u32).to_le_bytes());
            out.extend([0; 4]);
        } else {
            out.extend([0; 2]);
            out.extend(self.size.to_le_bytes());
        }
        out.extend(self.union.to_le_bytes());
        out.extend(self.ino.to_le_bytes());
        if compact {
            out.extend((self.uid as u16).to_le_bytes());
            out.extend((self.gid as u16).to_le_bytes());
            out.extend([0; 4]);
        } else {
            out.extend(self.uid.to_le_bytes());
            out.extend(self.gid.to_le_bytes());
            out.extend(epoch.to_le_bytes());
            out.extend([0; 4]);
            out.extend(self.nlink.to_le_bytes());
            out.extend([0; 16]);
        }
        out.extend_from_slice(&self.xattrs);
        out
    }
}

/// What the superblock says.
#[derive(Debug)]
pub(super) struct Super {
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) epoch: u64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) uuid: [u8; 16],
}

impl Super {
    /// The image's first block: 1 KiB of zeros, the superblock and the one algorithm's configuration.
    pub(super) fn encode(&self, window_log: u8) -> [u8; BLOCK] {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend(MAGIC.to_le_bytes());
        out.extend([0; 4]); // the checksum, below
        out.extend(COMPAT.to_le_bytes());
        out.extend([12, 0]); // log2 of the block size; no extension of the superblock
        out.extend(self.root.to_le_bytes());
        out.extend(self.inodes.to_le_bytes());
        out.extend(self.epoch.to_le_bytes());
        out.extend([0; 4]); // nanoseconds of the epoch
        out.extend(self.blocks.to_le_bytes());
        out.extend(self.meta_block.to_le_bytes());
        out.extend([0; 4]); // no shared attributes
        out.extend(self.uuid);
        out.extend([0; 16]); // no volume name: the partition has one
        out.extend(INCOMPAT.to_le_bytes());
        out.extend((1u16 << ZSTD).to_le_bytes());
        out.resize(128, 0);
        // Length of the configuration, its format, log2 of the window in KiB.
        out.extend([6, 0, 0, window_log - 10]);
        out.resize(BLOCK - SUPER_OFFSET, 0);
        // The kernel's CRC-32C starts from all ones and is not inverted at the end.
        let checksum = !crc32c::crc32c(&out);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        let mut block = [0; BLOCK];
        block[SUPER_OFFSET..].copy_from_slice(&out);
        block
    }
}
