//! Directories: blocks of entries sorted by name, `.` and `..` among them.

use super::disk::{BLOCK, DIRENT};

/// A directory's entries: name → inode. The names must be sorted and unique.
#[derive(Debug, Default)]
pub(super) struct Entries<'a>(pub(super) Vec<(&'a [u8], usize)>);

impl<'a> Entries<'a> {
    /// The entries of each block in turn: as many as fit.
    fn blocks(&self) -> Vec<&[(&'a [u8], usize)]> {
        let mut blocks = Vec::new();
        let (mut start, mut used) = (0, 0);
        for (at, (name, _)) in self.0.iter().enumerate() {
            let need = DIRENT + name.len();
            if used + need > BLOCK {
                blocks.push(&self.0[start..at]);
                (start, used) = (at, 0);
            }
            used += need;
        }
        blocks.push(&self.0[start..]);
        blocks
    }

    /// Size of the directory in bytes: all blocks but the last are whole.
    pub(super) fn size(&self) -> usize {
        let blocks = self.blocks();
        let last: usize = blocks.last().map_or(0, |last| last.iter().map(|(name, _)| DIRENT + name.len()).sum());
        (blocks.len() - 1) * BLOCK + last
    }

    /// The directory's bytes; `place` tells an inode's number and its file type as entries name it.
    pub(super) fn encode(&self, place: impl Fn(usize) -> (u64, u8)) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        for entries in self.blocks() {
            out.resize(out.len().next_multiple_of(BLOCK), 0);
            let mut name_at = entries.len() * DIRENT;
            for (name, inode) in entries {
                let (number, kind) = place(*inode);
                out.extend(number.to_le_bytes());
                #[expect(clippy::cast_possible_truncation, reason = "an offset inside a block")]
                out.extend((name_at as u16).to_le_bytes());
                out.extend([kind, 0]);
                name_at += name.len();
            }
            for (name, _) in entries {
                out.extend_from_slice(name);
            }
        }
        out
    }
}
