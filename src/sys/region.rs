//! A part of an open file as a stream of its own: a partition of a disk image, written and read in place.

use crate::error::{Blame, Kind, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of a file from a start on. Positions count from there; writing beyond the length is an error, so that no
/// partition runs into the next. Several regions of a file may be used at once.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    at: u64,
}

impl<'a> Region<'a> {
    /// `len` bytes of the file from `start` on.
    #[must_use]
    pub fn new(file: &'a File, start: u64, len: u64) -> Self {
        Self { file, start, len, at: 0 }
    }

    fn rest(&self, wanted: usize) -> usize {
        usize::try_from(self.len.saturating_sub(self.at)).map_or(wanted, |rest| rest.min(wanted))
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.rest(buffer.len());
        let n = self.file.read_at(&mut buffer[..wanted], self.start + self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Region<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wanted = self.rest(bytes.len());
        if wanted == 0 && !bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the partition is full"));
        }
        let n = self.file.write_at(&bytes[..wanted], self.start + self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Makes a new file for reading and writing; it must not exist yet.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn create(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path);
    file.blame(Kind::Environment, || format!("making {}", path.display()))
}

/// Sets a file's length; bytes that were never written read as zeros and take no space.
///
/// # Errors
/// [`Kind::Environment`].
pub fn set_len(file: &File, len: u64) -> Result<()> {
    file.set_len(len).blame(Kind::Environment, || format!("making a file of {len} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_ends_where_it_ends() {
        let file = tempfile::tempfile().unwrap();
        set_len(&file, 100).unwrap();
        let mut region = Region::new(&file, 10, 20);
        region.seek(SeekFrom::End(-2)).unwrap();
        region.write_all(b"ab").unwrap();
        assert!(region.write_all(b"c").is_err());
        region.seek(SeekFrom::Start(17)).unwrap();
        let mut rest = Vec::new();
        region.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\0ab");
        let mut whole = Vec::new();
        Region::new(&file, 0, 100).read_to_end(&mut whole).unwrap();
        assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), 2);
    }
}
