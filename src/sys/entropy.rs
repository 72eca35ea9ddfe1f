//! The host's random numbers, for keys and token numbers. Never an image.

use crate::error::{Blame, Kind, Result};
use std::io::Read as _;

/// Random bytes from the kernel.
///
/// # Errors
/// [`Kind::Environment`] when `/dev/urandom` cannot be read.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut out))
        .blame(Kind::Environment, || "reading /dev/urandom".to_owned())?;
    Ok(out)
}
