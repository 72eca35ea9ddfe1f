//! Bytes ↔ types: archives, file systems, disks. Pure: bytes come in and go out through `Read`, `Write` and `Seek`;
//! nothing here knows a path of the host or a server.

pub mod cpio;
pub mod deb;
pub mod elf;
pub mod erofs;
pub mod fat;
pub mod gpt;
pub mod oci;
pub mod pe;
pub mod qcow2;
pub mod treemap;
pub mod verity;
pub mod xz;
