//! Reading xz as Debian packs with it: packages, indexes, kernel modules.

use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, IGNORE_CHECK, Stream};
use std::io::{self, Read};

/// The most memory that decoding may take, in bytes. What `xz -9` made needs 65 MiB, and dpkg's own level an eighth of
/// that; the head of a stream can ask for 4 GiB.
const MEMORY: u64 = 80 << 20;

/// What an xz file holds. Its own checksums are not looked at, which are a fiftieth of a first build's time: the SHA-256 of
/// all that Debian packs is known. The older format of `xz --format=lzma` is refused.
///
/// # Errors
/// When the decoder does not start. The reader's own are those of `from`, and of a file that is damaged or wants more
/// memory than Debian's do.
pub fn reader<R: Read>(from: R) -> io::Result<impl Read> {
    Ok(XzDecoder::new_stream(from, Stream::new_stream_decoder(MEMORY, CONCATENATED | IGNORE_CHECK)?))
}

/// All that an xz file holds.
///
/// # Errors
/// As [`reader`].
pub fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader(bytes)?.read_to_end(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use liblzma::stream::{Action, Check, Filters, LzmaOptions};
    use liblzma::write::XzEncoder;
    use std::io::Write as _;

    /// By a preset whose dictionary is of this many bytes.
    fn packed(preset: u32, dictionary: u32, bytes: &[u8]) -> Vec<u8> {
        let mut options = LzmaOptions::new_preset(preset).unwrap();
        options.dict_size(dictionary);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
        let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn streams_are_read_one_after_the_other() {
        let both = [packed(0, 1 << 20, b"one"), packed(9, 64 << 20, b" two")].concat();
        assert_eq!(decode(&both).unwrap(), b"one two");
        assert!(decode(&both[..both.len() - 1]).is_err(), "cut short");
    }

    #[test]
    fn a_head_that_asks_for_too_much_memory_is_refused() {
        let error = decode(&packed(0, 512 << 20, b"bytes")).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn the_older_format_is_refused() {
        let mut old = Stream::new_lzma_encoder(&LzmaOptions::new_preset(0).unwrap()).unwrap();
        let mut bytes = Vec::with_capacity(1000);
        old.process_vec(b"bytes", &mut bytes, Action::Finish).unwrap();
        assert!(decode(&bytes).is_err());
    }
}
