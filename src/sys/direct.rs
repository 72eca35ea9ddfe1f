//! Writing to the medium past the page cache: large outputs that nobody reads soon. The kernel then neither looks for
//! memory nor copies, and at the end there is little left to wait for.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};

/// What addresses, lengths and offsets must be a multiple of: the largest block of a medium that is common.
pub const ALIGN: usize = 4096;

/// Bytes at an address that the medium takes.
#[derive(Debug)]
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// So many zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        // At most ALIGN - 1, unless the address of bytes cannot be had: then it is as good as any other.
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { bytes, start }
    }

    /// These bytes, at another address.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeros(bytes.len());
        aligned.copy_from_slice(bytes);
        aligned
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.bytes.len() - ALIGN]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.bytes.len() - ALIGN;
        &mut self.bytes[self.start..][..len]
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        Self::of(self)
    }
}

/// Writes to a file past the page cache, as long as the file system, the addresses and the lengths allow it; else as usual.
#[derive(Debug)]
pub struct Direct<'a> {
    file: &'a File,
    direct: bool,
}

impl<'a> Direct<'a> {
    /// Starts where the file stands.
    #[must_use]
    pub fn new(file: &'a File) -> Self {
        let mut new = Self { file, direct: false };
        new.direct = new.set(true).is_ok();
        new
    }

    /// Waits until all that was written is on the medium, and what the file system notes of it.
    ///
    /// # Errors
    /// When the medium fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set(&self, direct: bool) -> Result<(), Errno> {
        let mut flags = fcntl_getfl(self.file)?;
        flags.set(OFlags::DIRECT, direct);
        fcntl_setfl(self.file, flags)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            // Nothing was written: this file system, or this write, is not for it.
            Err(error) if self.direct && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.set(false)?;
                self.direct = false;
                self.file.write(bytes)
            }
            done => done,
        }
    }

    /// Nothing: there is no buffer. See [`Direct::sync`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Direct<'_> {
    /// Whoever else has the file may read what is not aligned.
    fn drop(&mut self) {
        if self.direct {
            let _ = self.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::region;

    #[test]
    fn what_is_written_is_there_whatever_its_length() {
        let dir = tempfile::tempdir().unwrap();
        for (turn, lens) in [[8192, 4096, 12288], [4096, 100, 8192], [1, 4096, 4096]].into_iter().enumerate() {
            let path = dir.path().join(turn.to_string());
            let file = region::create(&path).unwrap();
            let mut direct = Direct::new(&file);
            let past_the_cache = || fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT);
            assert_eq!(past_the_cache(), direct.direct, "what it says of itself");
            let mut expected = Vec::new();
            for (len, byte) in lens.into_iter().zip(1..) {
                let piece = Aligned::of(&vec![byte; len]);
                assert_eq!((piece.as_ptr().addr() % ALIGN, piece.len()), (0, len));
                direct.write_all(&piece).unwrap();
                assert_eq!(past_the_cache(), direct.direct, "after {len} bytes");
                expected.extend_from_slice(&piece);
            }
            direct.sync().unwrap();
            drop(direct);
            assert!(!past_the_cache(), "for whoever reads it next");
            assert_eq!(crate::sys::fs::read(&path).unwrap(), expected);
        }
    }

    #[test]
    fn a_copy_is_aligned_too() {
        let one = Aligned::of(b"bytes");
        let other = one.clone();
        assert_eq!((&*other, other.as_ptr().addr() % ALIGN), (b"bytes".as_slice(), 0));
    }
}
