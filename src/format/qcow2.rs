//! A raw disk as qcow2, QEMU's image format, version 3: clusters of zeros are left out, the others stand as they are.
//!
//! Not compressed: nearly all of a disk is compressed already; QEMU's own zstd and zlib clusters save 2 and 4 %
//! (measured on a 137 MB root), and cost every reader the decompression. Format: QEMU's `docs/interop/qcow2.rst`.

use crate::error::Result;

/// Bytes in a cluster.
pub const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// Clusters that one second-level table maps, with 8 bytes for each.
const MAPPED: u64 = CLUSTER / 8;
/// Clusters that one block of reference counts counts, with 2 bytes for each.
const COUNTED: u64 = CLUSTER / 2;
/// Says of a table or cluster that nothing else refers to it.
const COPIED: u64 = 1 << 63;

/// Where things stand in the image, in clusters; they follow one another in this order.
struct Plan<'a> {
    /// For each cluster of the disk whether it holds anything but zeros.
    used: &'a [bool],
    count_table: u64,
    count_blocks: u64,
    level1: u64,
    level2: u64,
}

impl<'a> Plan<'a> {
    /// Clusters before the data: header and tables.
    fn meta(&self) -> u64 {
        1 + self.count_table + self.count_blocks + self.level1 + self.level2
    }

    fn new(used: &'a [bool]) -> Self {
        let data = used.iter().filter(|used| **used).count() as u64;
        let level2 = (used.len() as u64).div_ceil(MAPPED);
        let level1 = (level2 * 8).div_ceil(CLUSTER).max(1);
        let mut plan = Self { used, count_table: 1, count_blocks: 1, level1, level2 };
        // Blocks of counts count themselves too, so this takes a round or two.
        while plan.meta() + data > plan.count_blocks * COUNTED {
            plan.count_blocks += 1;
            plan.count_table = (plan.count_blocks * 8).div_ceil(CLUSTER);
        }
        plan
    }

    /// Header and tables.
    fn encode(&self, size: u64) -> Result<Vec<u8>> {
        let meta = self.meta();
        let data = self.used.iter().filter(|used| **used).count() as u64;
        let blocks_at = 1 + self.count_table;
        let level1_at = blocks_at + self.count_blocks;
        let level2_at = level1_at + self.level1;
        let mut out = Vec::with_capacity(usize::try_from(meta * CLUSTER)?);
        out.extend(b"QFI\xfb");
        out.extend(3u32.to_be_bytes());
        out.extend([0; 12]); // no backing file
        out.extend(CLUSTER_BITS.to_be_bytes());
        out.extend(size.to_be_bytes());
        out.extend([0; 4]); // not encrypted
        out.extend(u32::try_from(self.level2)?.to_be_bytes());
        out.extend((level1_at * CLUSTER).to_be_bytes());
        out.extend(CLUSTER.to_be_bytes()); // the table of reference counts
        out.extend(u32::try_from(self.count_table)?.to_be_bytes());
        out.extend([0; 12]); // no snapshots
        out.extend([0; 24]); // no features
        out.extend(4u32.to_be_bytes()); // 2^4 bits for a reference count
        out.extend(104u32.to_be_bytes()); // bytes of this header
        let mut section = |bytes: &mut dyn Iterator<Item = u8>, clusters: u64| -> Result<()> {
            let end = out.len().next_multiple_of(usize::try_from(CLUSTER)?);
            out.resize(end, 0);
            out.extend(bytes);
            out.resize(end + usize::try_from(clusters * CLUSTER)?, 0);
            Ok(())
        };
        section(
            &mut (0..self.count_blocks).flat_map(|at| ((blocks_at + at) * CLUSTER).to_be_bytes()),
            self.count_table,
        )?;
        section(&mut (0..meta + data).flat_map(|_| 1u16.to_be_bytes()), self.count_blocks)?;
        let level1 = &mut (0..self.level2).flat_map(|at| (((level2_at + at) * CLUSTER) | COPIED).to_be_bytes());
        section(level1, self.level1)?;
        let mut next = meta;
        let mut place = |used: &bool| {
            next += u64::from(*used);
            if *used { ((next - 1) * CLUSTER) | COPIED } else { 0 }
        };
        section(&mut self.used.iter().flat_map(|used| place(used).to_be_bytes()), self.level2)?;
        Ok(out)
    }
}

/// What an image of a disk of `size` bytes begins with. Behind it come, in order, the disk's clusters of which `used` says
/// that they hold anything but zeros, the last one filled up with zeros.
///
/// # Errors
/// [`Kind::Internal`] when `used` is not of that disk.
///
/// [`Kind::Internal`]: crate::error::Kind::Internal
pub fn tables(size: u64, used: &[bool]) -> Result<Vec<u8>> {
    if used.len() as u64 != size.div_ceil(CLUSTER) {
        return Err(anyhow::anyhow!("{} clusters are not those of a disk of {size} bytes", used.len()));
    }
    Plan::new(used).encode(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(raw: &[u8]) -> Vec<u8> {
        let clusters = || raw.chunks(CLUSTER as usize).map(|cluster| (cluster, cluster.iter().any(|byte| *byte != 0)));
        let used: Vec<bool> = clusters().map(|(_, used)| used).collect();
        let mut out = tables(raw.len() as u64, &used).unwrap();
        for (cluster, _) in clusters().filter(|(_, used)| *used) {
            out.extend(cluster);
            out.resize(out.len().next_multiple_of(CLUSTER as usize), 0);
        }
        out
    }

    fn number(bytes: &[u8], at: u64) -> u64 {
        u64::from_be_bytes(bytes[at as usize..][..8].try_into().unwrap())
    }

    /// The disk as the format's text says to read it: header, first table, second table, cluster.
    fn read_back(image: &[u8]) -> Vec<u8> {
        assert_eq!(&image[..8], b"QFI\xfb\0\0\0\x03");
        let size = number(image, 24);
        let level1 = number(image, 40);
        let mut out = Vec::new();
        for cluster in 0..size.div_ceil(CLUSTER) {
            let level2 = number(image, level1 + cluster / MAPPED * 8) & !COPIED;
            let at = number(image, level2 + cluster % MAPPED * 8) & !COPIED;
            let len = (size - out.len() as u64).min(CLUSTER) as usize;
            if at == 0 { out.resize(out.len() + len, 0) } else { out.extend(&image[at as usize..][..len]) }
        }
        out
    }

    #[test]
    fn disks_come_back_without_their_zeros() {
        let cluster = CLUSTER as usize;
        let mut raw = vec![0; 40 * cluster + 512];
        raw[0] = 1;
        raw[3 * cluster - 1] = 2;
        raw[40 * cluster + 511] = 3;
        let image = converted(&raw);
        assert_eq!(read_back(&image), raw);
        assert_eq!(image.len(), (1 + 1 + 1 + 1 + 1 + 3) * cluster);
        assert_eq!(read_back(&converted(&vec![0; cluster])), vec![0; cluster]);
    }

    #[test]
    fn every_cluster_of_the_file_is_counted_once() {
        let raw: Vec<u8> = (0..5 * CLUSTER).map(|at| (at / 7) as u8).collect();
        let image = converted(&raw);
        let block = number(&image, number(&image, 48)) as usize;
        let counts =
            image[block..block + CLUSTER as usize].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let clusters = image.len() / CLUSTER as usize;
        assert!(counts.enumerate().all(|(at, count)| count == u16::from(at < clusters)));
    }

    #[test]
    fn large_disks_get_as_many_counts_as_they_need() {
        let plan = Plan::new(&[true; 3 * COUNTED as usize]);
        assert_eq!(plan.count_blocks, 4);
        assert!(plan.meta() + 3 * COUNTED <= plan.count_blocks * COUNTED);
    }
}
