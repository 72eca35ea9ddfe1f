//! The least that a build has to do, for `ci/bench` to compare with: reads the bytes that an image stores, hashes them as
//! their digests and dm-verity demand, writes them as raw disk, qcow2 and kernel image, hashes those and syncs them.
//! Nothing is chosen, parsed, compressed or laid out.
//!
//!     cargo run --release --example floor -- out/worker /tmp/floor

use rayon::prelude::{ParallelIterator as _, ParallelSlice as _};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

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
fn disk(from: &Path, to: &Path) -> io::Result<()> {
    let mut out = File::create_new(to)?;
    let len = pieces(from, |at, piece| {
        let verity = || piece.par_chunks(4096).map(|block| Sha256::digest(block)[0]).max();
        std::hint::black_box(rayon::join(|| Sha256::digest(piece), verity));
        out.seek(SeekFrom::Start(at))?;
        out.write_all(piece)
    })?;
    out.set_len(len)
}

fn hash(file: &Path) -> io::Result<()> {
    let (mut file, mut buffer, mut hasher) = (File::open(file)?, vec![0; STEP], Sha256::new());
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    std::hint::black_box(hasher.finalize());
    Ok(())
}

/// Reads a file, hashes it and writes it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut file, mut out, mut buffer, mut hasher) =
        (File::open(from)?, File::create_new(to)?, vec![0; STEP], Sha256::new());
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                out.write_all(&buffer[..n])?;
            }
        }
    }
    std::hint::black_box(hasher.finalize());
    Ok(())
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, out] = arguments.as_slice() else {
        return Err(io::Error::other("usage: floor IMAGE-DIR OUT-DIR"));
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
    let both = |form: &str| copy(&of(image, form), &of(out, form));
    disk(&of(image, "raw"), &of(out, "raw"))?;
    let (raw, others) = rayon::join(|| hash(&of(out, "raw")), || both("qcow2").and_then(|()| both("efi")));
    raw.and(others)?;
    ["raw", "qcow2", "efi"].iter().try_for_each(|form| File::open(of(out, form))?.sync_all())
}
