//! A file that is written and read in parts: partitions of a disk image, in place.

use crate::error::{Blame, Kind, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Bytes of a disk of which [`Disk::data`] says whether they hold anything.
pub const PIECE: u64 = 64 << 10;

/// How often [`Disk::written_back`] looks whether there is enough for an order to the medium.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes that are worth an order: each ends in a commit of the file system's journal and a flush of the medium's cache.
const ORDER: u64 = 16 << 20;

/// A new file that knows where anything but zeros was written to it, so that nobody has to read it to find out.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    data: Mutex<Vec<bool>>,
    /// Bytes written since the last order to the medium.
    fresh: AtomicU64,
}

impl Disk {
    /// Makes a new file; it must not exist yet.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, path) = (create(path)?, path.to_owned());
        Ok(Self { file, path, data: Mutex::default(), fresh: AtomicU64::default() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the length; bytes that were never written read as zeros and take no space.
    ///
    /// # Errors
    /// [`Kind::Environment`].
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).blame(Kind::Environment, || format!("giving {} {len} bytes", self.path.display()))
    }

    /// For each [`PIECE`] of the first `len` bytes whether anything but zeros was written to it.
    #[must_use]
    pub fn data(&self, len: u64) -> Vec<bool> {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner).clone();
        data.resize(usize::try_from(len.div_ceil(PIECE)).unwrap_or(usize::MAX), false);
        data
    }

    /// Does work that writes to the disk, while what it wrote already goes to the medium, which is slower than processors:
    /// who syncs only afterwards waits for all of it at once. When this returns a value, all of it is there.
    ///
    /// # Errors
    /// Those of the work; [`Kind::Environment`], naming the path, when the medium fails: the kernel may tell that once, so
    /// a later sync is no proof.
    pub fn written_back<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        std::thread::scope(|scope| {
            let (working, ended) = mpsc::channel::<()>();
            let orders = scope.spawn(move || {
                while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(PAUSE) {
                    if self.fresh.load(Ordering::Relaxed) >= ORDER {
                        self.fresh.store(0, Ordering::Relaxed);
                        self.file.sync_data()?;
                    }
                }
                Ok(())
            });
            let done = work();
            drop(working);
            let synced = orders.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What failed is thrown away: nobody waits for the medium to take it.
            let done = done?;
            let synced = synced.and_then(|()| self.file.sync_data());
            synced.blame(Kind::Environment, || format!("writing {}", self.path.display()))?;
            Ok(done)
        })
    }

    /// `len` bytes of the disk from `start` on; what is written there is noted.
    #[must_use]
    pub fn region(&self, start: u64, len: u64) -> Region<'_> {
        Region { note: Some(self), ..Region::new(&self.file, start, len) }
    }

    fn note(&self, mut offset: u64, mut bytes: &[u8]) {
        self.fresh.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        while !bytes.is_empty() {
            let room = usize::try_from(PIECE - offset % PIECE).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            let piece = usize::try_from(offset / PIECE).unwrap_or(usize::MAX);
            if data.len() <= piece {
                data.resize(piece + 1, false);
            }
            data[piece] = data[piece] || !is_zero(now);
            (offset, bytes) = (offset + now.len() as u64, rest);
        }
    }
}

/// Whether there is nothing but zeros.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // In steps, so that the common case, data, is seen at its first bytes and zeros are compared wide.
    bytes.chunks(4096).all(|step| step.iter().fold(0, |or, byte| or | byte) == 0)
}

/// Bytes of a file from a start on. Positions count from there; writing beyond the length is an error, so that no
/// partition runs into the next. Several regions of a file may be used at once.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    file: &'a File,
    /// The file's [`Disk`], if it has one.
    note: Option<&'a Disk>,
    start: u64,
    len: u64,
    at: u64,
}

impl<'a> Region<'a> {
    /// `len` bytes of the file from `start` on.
    #[must_use]
    pub fn new(file: &'a File, start: u64, len: u64) -> Self {
        Self { file, note: None, start, len, at: 0 }
    }

    fn rest(&self, wanted: usize) -> usize {
        usize::try_from(self.len.saturating_sub(self.at)).map_or(wanted, |rest| rest.min(wanted))
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.rest(buffer.len());
        let n = self.file.read_at(&mut buffer[..wanted], self.start.saturating_add(self.at))?;
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
        if let Some(disk) = self.note {
            disk.note(self.start + self.at, &bytes[..n]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_ends_where_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(&dir.path().join("disk")).unwrap();
        disk.set_len(100).unwrap();
        let mut region = disk.region(10, 20);
        region.seek(SeekFrom::End(-2)).unwrap();
        region.write_all(b"ab").unwrap();
        assert!(region.write_all(b"c").is_err());
        region.seek(SeekFrom::Start(17)).unwrap();
        let mut rest = Vec::new();
        region.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\0ab");
        let mut whole = Vec::new();
        disk.region(0, 100).read_to_end(&mut whole).unwrap();
        assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), 2);
    }

    #[test]
    fn what_is_written_back_is_whole_and_failures_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(&dir.path().join("disk")).unwrap();
        let said = disk.written_back(|| {
            disk.region(0, 100).write_all(&(0..100).collect::<Vec<u8>>()).unwrap();
            Ok(5)
        });
        assert_eq!(said.unwrap(), 5);
        let mut whole = Vec::new();
        disk.region(0, 100).read_to_end(&mut whole).unwrap();
        assert_eq!(whole, (0..100).collect::<Vec<u8>>());
        let refused = disk.written_back(|| Err::<(), _>(anyhow::anyhow!("no")));
        assert_eq!(refused.unwrap_err().to_string(), "no");
        // What cannot be synced: a pipe.
        let (_reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let pipe = Disk { file, path: "the/pipe".into(), data: Mutex::default(), fresh: AtomicU64::default() };
        let failed = pipe.written_back(|| Ok(())).unwrap_err();
        assert_eq!(
            (crate::error::kind_of(&failed), failed.to_string()),
            (Kind::Environment, "writing the/pipe".into())
        );
        // The orders' own failures are told too, whatever came after them.
        pipe.fresh.store(ORDER, Ordering::Relaxed);
        let waited = pipe.written_back(|| {
            let end = std::time::Instant::now() + Duration::from_secs(60);
            while pipe.fresh.load(Ordering::Relaxed) > 0 && std::time::Instant::now() < end {
                std::thread::yield_now();
            }
            Ok(())
        });
        assert!(waited.is_err() && pipe.fresh.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn a_disk_knows_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(&dir.path().join("disk")).unwrap();
        let piece = PIECE as usize;
        let mut region = disk.region(0, 10 * PIECE);
        region.write_all(&vec![0; piece + 5]).unwrap();
        let mut bytes = vec![0; 3 * piece];
        bytes[2 * piece] = 1;
        region.write_all(&bytes).unwrap();
        region.seek(SeekFrom::Start(6 * PIECE - 1)).unwrap();
        region.write_all(b"ab").unwrap();
        region.seek(SeekFrom::Start(6 * PIECE)).unwrap();
        region.write_all(b"\0").unwrap();
        assert_eq!(disk.data(8 * PIECE), [false, false, false, true, false, true, true, false]);
        assert_eq!(disk.data(8 * PIECE - 1).len(), 8);
        assert!(is_zero(&[0; 5000]) && !is_zero(&[[0; 4999].as_slice(), &[1]].concat()));
    }
}
