//! Results of pure functions, kept by a digest of all that decides them: what took seconds once is then read. Nothing
//! here is trusted: bytes that are not whole count as missing and are made again, so nothing needs to be synced either.

use super::{Store, cannot_write};
use crate::digest::Sha256;
use crate::error::Result;
use crate::sys;
use bytes::Bytes;
use rayon::prelude::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use std::io::Write as _;
use std::path::PathBuf;

/// Bytes before the parts' lengths: the [`digest`] of all the rest, and the number of parts.
const HEAD: usize = 32 + 4;
/// Bytes that are hashed at a time.
const PIECE: usize = 1 << 20;

impl Store {
    /// What `make` returned for this key before, or returns now. `of` names the function and its version: whatever
    /// decides the result besides the key.
    ///
    /// # Errors
    /// Those of `make`; [`crate::error::Kind::Environment`] when the store cannot be read or written.
    pub fn memo(&self, of: &str, key: &Sha256, make: impl FnOnce() -> Result<Vec<Bytes>>) -> Result<Vec<Bytes>> {
        let path = self.memo_path(of, key);
        if let Some(parts) = std::fs::read(&path).ok().and_then(|bytes| parse(&bytes.into())) {
            return Ok(parts);
        }
        let parts = make()?;
        let head = head(&parts)?;
        if let Some(parent) = path.parent() {
            sys::fs::make_dir(parent)?;
        }
        let mut file = sys::fs::temp_in(&self.tmp())?;
        let size = (head.len() + parts.iter().map(Bytes::len).sum::<usize>()) as u64;
        let mut pieces = std::iter::once(&head).chain(&parts);
        pieces.try_for_each(|piece| file.write_all(piece)).map_err(|error| cannot_write(error, &path, size))?;
        sys::fs::place(file, &path)?;
        Ok(parts)
    }

    /// As [`Store::memo`], for a result of one part.
    ///
    /// # Errors
    /// As [`Store::memo`].
    pub fn memo_bytes(&self, of: &str, key: &Sha256, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let parts = self.memo(of, key, || Ok(vec![make()?.into()]))?;
        parts
            .into_iter()
            .next()
            .map(Vec::from)
            .ok_or_else(|| anyhow::anyhow!("{of} of {key} was kept without its bytes"))
    }

    fn memo_path(&self, of: &str, key: &Sha256) -> PathBuf {
        let hex = key.to_string();
        self.dir.join("memo").join(of).join(&hex[..2]).join(&hex[2..])
    }
}

/// All that stands before the parts.
fn head(parts: &[Bytes]) -> Result<Bytes> {
    let mut head = Vec::with_capacity(HEAD + parts.len() * 8);
    head.extend_from_slice(&[0; 32]);
    head.extend_from_slice(&u32::try_from(parts.len())?.to_le_bytes());
    for part in parts {
        head.extend_from_slice(&(part.len() as u64).to_le_bytes());
    }
    let digest = digest(&head[32..], parts);
    head[..32].copy_from_slice(&digest.0);
    Ok(head.into())
}

/// Of what stands before the parts, and of each piece of them: they are hashed on all cores.
fn digest(head: &[u8], parts: &[Bytes]) -> Sha256 {
    let pieces: Vec<&[u8]> = parts.iter().flat_map(|part| part.chunks(PIECE)).collect();
    let digests: Vec<[u8; 32]> = pieces.par_iter().with_max_len(1).map(|piece| Sha256::of(piece).0).collect();
    Sha256::of(&[head, digests.as_flattened()].concat())
}

/// The parts, which share one buffer.
fn parse(bytes: &Bytes) -> Option<Vec<Bytes>> {
    let (expected, rest) = bytes.split_first_chunk::<32>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (lens, _) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(8)?)?;
    let mut parts = Vec::with_capacity(lens.len() / 8);
    let mut at = HEAD + lens.len();
    for len in lens.chunks_exact(8) {
        let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
        let end = at.checked_add(len).filter(|end| *end <= bytes.len())?;
        parts.push(bytes.slice(at..end));
        at = end;
    }
    let whole = at == bytes.len() && digest(&bytes[32..HEAD + lens.len()], &parts).0 == *expected;
    whole.then_some(parts)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests damage files")]

    use super::*;

    #[test]
    fn what_was_made_is_not_made_again_unless_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (key, other) = (Sha256::of(b"key"), Sha256::of(b"other"));
        let parts = vec![Bytes::from_static(b"one"), Bytes::new(), vec![7; PIECE + 1].into()];
        let never = || -> Result<Vec<Bytes>> { panic!("made again") };
        assert_eq!(store.memo("f-1", &key, || Ok(parts.clone())).unwrap(), parts);
        assert_eq!(store.memo("f-1", &key, never).unwrap(), parts);
        assert_eq!(store.memo("f-2", &key, || Ok(Vec::new())).unwrap(), Vec::<Bytes>::new());
        assert_eq!(store.memo("f-2", &key, never).unwrap(), Vec::<Bytes>::new());
        assert_eq!(store.memo("f-1", &other, || Ok(vec![Bytes::from_static(b"two")])).unwrap(), [b"two".as_slice()]);

        let path = store.memo_path("f-1", &key);
        let whole = std::fs::read(&path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let (mut longer, empty) = (whole.clone(), Vec::new());
        longer.push(0);
        for damaged in [
            flipped(0),
            flipped(33),
            flipped(40),
            flipped(64),
            flipped(whole.len() - 1),
            whole[..80].into(),
            longer,
            empty,
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(store.memo("f-1", &key, || Ok(parts.clone())).unwrap(), parts);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "made again and kept");
        }
        assert_eq!(std::fs::read_dir(store.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Sha256::of(b"key");
        assert!(store.memo("f", &key, || Err(anyhow::anyhow!("no"))).is_err());
        assert_eq!(store.memo("f", &key, || Ok(vec![Bytes::from_static(b"yes")])).unwrap(), [b"yes".as_slice()]);
    }
}
