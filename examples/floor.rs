//! The least that a build has to do, for `ci/bench` to compare with: reads the bytes that an image stores, hashes them as
//! their digests and dm-verity demand, writes them as raw disk, qcow2 and kernel image, hashes those and syncs them, by
//! the same means as a build. Nothing is chosen, parsed, compressed or laid out.
//!
//!     cargo run --release --example floor -- out/worker /tmp/floor

use nodelith::sys::direct::{Aligned, Direct};
use nodelith::sys::region::Disk;
use rayon::prelude::{ParallelIterator as _, ParallelSlice as _};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

const STEP: usize = 1 << 20;

/// Calls `each` with the pieces of a file that hold anything, and where they are.
fn pieces(file: &Path, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut file = File::open(file)?;
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(at);
        }
        let used = buffer[..n].chunks(64 << 10).zip((at..).step_by(64 << 10));
        for (piece, at) in used.filter(|(piece, _)| piece.iter().fold(0, |or, byte| or | byte) != 0) {
            each(at, piece)?;
        }
        at += n as u64;
    }
}

/// What is stored becomes the raw disk; each byte is hashed once as content and once as a block of dm-verity.
fn disk(from: &Path, to: &Disk) -> anyhow::Result<()> {
    let mut out = to.region(0, u64::MAX);
    let len = pieces(from, |at, piece| {
        let verity = || piece.par_chunks(4096).map(|block| Sha256::digest(block)[0]).max();
        std::hint::black_box(rayon::join(|| Sha256::digest(piece), verity));
        out.seek(SeekFrom::Start(at))?;
        out.write_all(piece)
    })?;
    to.set_len(len)
}

/// Reads the raw disk once: for its digest, for the qcow2 file, which leaves zeros out, and for that file's digest.
fn forms(raw: &Disk, copy: &Path) -> io::Result<()> {
    let out = &File::create_new(copy)?;
    let mut raw = File::open(raw.path())?;
    let hash = |pieces: Receiver<Arc<Aligned>>| {
        std::hint::black_box(
            pieces.iter().fold(Sha256::new(), |hasher, piece| hasher.chain_update(&**piece)).finalize(),
        );
    };
    std::thread::scope(|scope| {
        let [(to_one, one), (to_other, other), (to_file, pieces)] = [(); 3].map(|()| sync_channel::<Arc<Aligned>>(4));
        scope.spawn(move || hash(one));
        scope.spawn(move || hash(other));
        let written = scope.spawn(move || {
            let mut out = Direct::new(out);
            pieces.iter().try_for_each(|piece| out.write_all(&piece))?;
            out.sync()
        });
        let mut buffers = [(); 6].map(|()| Arc::new(Aligned::zeros(STEP)));
        for turn in (0..buffers.len()).cycle() {
            let buffer = Arc::make_mut(&mut buffers[turn]);
            let n = raw.read(buffer)?;
            buffer[n..].fill(0);
            let zeros = buffer.iter().fold(0, |or, byte| or | byte) == 0;
            let takers = [&to_one, &to_other, &to_file].into_iter().take(if zeros { 1 } else { 3 });
            // Whoever takes no more has failed, and says why below.
            if n == 0 || takers.map(|to| to.send(Arc::clone(&buffers[turn]))).any(|sent| sent.is_err()) {
                break;
            }
        }
        drop((to_one, to_other, to_file));
        written.join().map_err(|_| io::Error::other("writing ended early"))?
    })
}

fn kernel(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    std::hint::black_box(Sha256::digest(&bytes));
    File::create_new(to)?.write_all(&bytes)
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, out] = arguments.as_slice() else {
        anyhow::bail!("usage: floor IMAGE-DIR OUT-DIR");
    };
    let (image, out) = (Path::new(image), Path::new(out));
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let of = |dir: &Path, form: &str| dir.join(format!("{name}.{form}"));
    fs::create_dir_all(out)?;
    for form in ["raw", "qcow2", "efi"] {
        fs::remove_file(of(out, form)).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    let raw = Disk::create(&of(out, "raw"))?;
    raw.written_back(|| {
        disk(&of(image, "raw"), &raw)?;
        std::thread::scope(|scope| {
            let efi = scope.spawn(|| kernel(&of(image, "efi"), &of(out, "efi")));
            forms(&raw, &of(out, "qcow2"))?;
            Ok(efi.join().map_err(|_| io::Error::other("the kernel image is missing"))??)
        })
    })?;
    ["raw", "qcow2", "efi"].iter().try_for_each(|form| Ok(File::open(of(out, form))?.sync_all()?))
}
