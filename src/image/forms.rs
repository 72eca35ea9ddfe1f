//! What is made of a finished disk: the digest of the raw file, and the qcow2 file. The disk is read once for both, and
//! the two digests and the writing have a thread each: no core waits while another is still at work.

use super::disk::Named;
use crate::digest::Hashing;
use crate::error::{Blame, Kind, Result};
use crate::format::qcow2::{self, CLUSTER};
use crate::manifest::Output;
use crate::sys::direct::{Aligned, Direct};
use crate::sys::region::{self, Disk, PIECE};
use std::io::{self, Read as _, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::ScopedJoinHandle;

/// Bytes that are passed on at a time.
const STEP: usize = 16 * CLUSTER as usize;
/// Pieces that may wait for each thread.
const AHEAD: usize = 4;
/// Buffers that are read into in turns: the slowest thread has [`AHEAD`] pieces before it and one in its hands.
const BUFFERS: usize = AHEAD + 2;

/// A piece of a disk.
#[derive(Clone)]
enum Piece {
    /// So many bytes of zeros.
    Zeros(usize),
    /// So many bytes that were read, and zeros behind them.
    Data(usize, Arc<Aligned>),
}

/// Hashes a raw disk of so many bytes, and writes it as qcow2.
pub(super) fn make(raw: &Disk, size: u64, raw_name: String, form: &Named<'_>) -> Result<[Output; 2]> {
    let used = raw.data(size);
    let tables = Aligned::of(&qcow2::tables(size, &used)?);
    let path = form.dir.join(&form.file);
    let file = region::create(&path)?;
    let (raw_digest, form_digest) = std::thread::scope(|scope| {
        let [(to_raw, of_raw), (to_digest, of_digest), (to_file, of_file)] = [(); 3].map(|()| sync_channel(AHEAD));
        let raw_digest = scope.spawn(|| write_raw(of_raw, Hashing::new(io::sink())));
        let form_digest = scope.spawn(|| write_form(&tables, of_digest, Hashing::new(io::sink())));
        let written = scope.spawn(|| write_form(&tables, of_file, Direct::new(&file))?.sync());
        let read = read(raw, size, &used, [to_raw, to_digest, to_file]);
        joined(written).blame(Kind::Environment, || format!("writing {}", path.display()))?;
        read.and_then(|()| Ok((joined(raw_digest)?.finish(), joined(form_digest)?.finish())))
            .blame(Kind::Environment, || format!("reading {}", raw.path().display()))
    })?;
    let output = |file, (_, sha256, size)| Output { file, size, sha256 };
    Ok([output(raw_name, raw_digest), output(form.file.clone(), form_digest)])
}

/// Reads the pieces that hold data, and passes all on; ends early when somebody takes no more.
fn read(raw: &Disk, size: u64, used: &[bool], to: [SyncSender<Piece>; 3]) -> io::Result<()> {
    let mut buffers = [(); BUFFERS].map(|()| Arc::new(Aligned::zeros(STEP)));
    let (mut turn, mut at) = (0, 0);
    for run in used.chunk_by(|one, next| one == next) {
        let end = (at + run.len() as u64 * PIECE).min(size);
        let mut region = raw.region(at, end - at);
        while at < end {
            let now = usize::try_from(end - at).map_or(STEP, |rest| rest.min(STEP));
            let piece = if run[0] {
                turn = (turn + 1) % BUFFERS;
                // Nobody has it any more; if somebody did, this would make another one.
                let buffer = Arc::make_mut(&mut buffers[turn]);
                region.read_exact(&mut buffer[..now])?;
                buffer[now..].fill(0);
                Piece::Data(now, Arc::clone(&buffers[turn]))
            } else {
                Piece::Zeros(now)
            };
            if to.iter().any(|to| to.send(piece.clone()).is_err()) {
                return Ok(());
            }
            at += now as u64;
        }
    }
    Ok(())
}

fn write_raw<W: Write>(pieces: Receiver<Piece>, mut out: W) -> io::Result<W> {
    let zeros = vec![0; STEP];
    for piece in pieces {
        match &piece {
            Piece::Zeros(len) => out.write_all(&zeros[..*len])?,
            Piece::Data(len, bytes) => out.write_all(&bytes[..*len])?,
        }
    }
    Ok(out)
}

/// Tables first, then the clusters that hold data.
fn write_form<W: Write>(tables: &[u8], pieces: Receiver<Piece>, mut out: W) -> io::Result<W> {
    out.write_all(tables)?;
    for piece in pieces {
        if let Piece::Data(len, bytes) = &piece {
            // The last cluster may be longer than what is left of the disk.
            out.write_all(&bytes[..len.next_multiple_of(CLUSTER as usize)])?;
        }
    }
    Ok(out)
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the disk knows of its pieces is what qcow2 wants to know of its clusters.
const _: () = assert!(PIECE == CLUSTER);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    #[test]
    fn both_forms_are_of_every_byte() {
        const MIB: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        // Runs of data and of zeros that end within a step, at its end, and behind more steps than are kept ahead.
        let disks: [(u64, &[(u64, u64)]); 5] = [
            (CLUSTER, &[]),
            (CLUSTER + 512, &[(CLUSTER + 511, 1)]),
            (3 * MIB, &[(0, 3 * MIB)]),
            (40 * MIB + 4096, &[(5, 1), (2 * MIB - 1, 9 * MIB), (20 * MIB, 13 * MIB), (40 * MIB, 4096)]),
            (30 * MIB - 512, &[(MIB / 2, 29 * MIB)]),
        ];
        for (turn, (size, runs)) in disks.into_iter().enumerate() {
            let path = dir.path().join(format!("{turn}.raw"));
            let raw = Disk::create(&path).unwrap();
            raw.set_len(size).unwrap();
            for (start, len) in runs {
                let bytes: Vec<u8> = (0..*len).map(|at| (at / 999 + at % 251) as u8 | 1).collect();
                raw.region(*start, *len).write_all(&bytes).unwrap();
            }
            let form = Named { dir: dir.path(), file: format!("{turn}.qcow2") };
            let [one, other] = make(&raw, size, "raw".into(), &form).unwrap();

            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((one.size, one.sha256), (size, Sha256::of(&bytes)));
            let clusters = || bytes.chunks(CLUSTER as usize).map(|cluster| (cluster, !region::is_zero(cluster)));
            let mut expected = qcow2::tables(size, &clusters().map(|(_, used)| used).collect::<Vec<_>>()).unwrap();
            for (cluster, _) in clusters().filter(|(_, used)| *used) {
                expected.extend(cluster);
                expected.resize(expected.len().next_multiple_of(CLUSTER as usize), 0);
            }
            let written = std::fs::read(dir.path().join(&form.file)).unwrap();
            assert!(written == expected, "{size}");
            assert_eq!((other.size, other.sha256), (written.len() as u64, Sha256::of(&written)));
        }
    }

    #[test]
    fn reading_ends_when_somebody_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let raw = Disk::create(&dir.path().join("raw")).unwrap();
        let pieces = AHEAD + 3;
        let size = (pieces * STEP) as u64;
        raw.region(0, size).write_all(&vec![1; pieces * STEP]).unwrap();
        let [(to_one, one), (to_other, other), (to_third, third)] = [(); 3].map(|()| sync_channel(pieces));
        drop(other);
        read(&raw, size, &raw.data(size), [to_one, to_other, to_third]).unwrap();
        assert!(one.iter().count() <= 1 && third.iter().count() == 0, "nothing is read for nobody");
    }
}
