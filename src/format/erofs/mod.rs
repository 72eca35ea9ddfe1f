//! EROFS, Linux's read-only file system: a writer ([`write`](fn@write)) and just enough of a reader
//! ([`locate`], [`owner`], [`measure`]).
//!
//! Layout of an image, in blocks of 4 KiB: superblock; data of regular files in tree order; directories (and the rare
//! symbolic link) that do not fit beside their inode; inodes with their attributes, compression indexes and short
//! tails. Data comes before the inodes because only then its place and compressed size are known, so that the image is
//! written in one pass with bounded memory; the superblock says where the inodes start.
//!
//! Format: `fs/erofs/erofs_fs.h` of Linux 6.12 and <https://erofs.docs.kernel.org/en/latest/design.html>. Compressed
//! files use zstd with full (8-byte) indexes and physical clusters of several blocks; this needs Linux 6.10.

mod data;
mod dirs;
mod disk;
mod inodes;
mod pack;
mod read;
mod write;
mod xattrs;

pub use pack::{Body, EXTENT, Extent, pack, pack_version, read_and_pack};
pub use read::{Measured, locate, measure, owner};
pub use write::{Options, Packer, Summary, write};

#[cfg(test)]
mod tests;
