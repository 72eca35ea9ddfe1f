//! A program for tests, ours and those of `tests/`, which take this file by its path.

/// Bytes of a section's header.
const SECTION: usize = 40;

/// A PE program of one section whose headers have room for `room` more.
pub(crate) fn sample_stub(room: usize) -> Vec<u8> {
    let mut out = vec![0; 0x40];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = 0x40;
    out.extend(b"PE\0\0");
    out.extend(0x8664u16.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend([0; 12]);
    out.extend(240u16.to_le_bytes());
    out.extend(0x22u16.to_le_bytes());
    let optional = out.len();
    out.resize(optional + 240, 0);
    let headers = out.len() + SECTION * (1 + room);
    let mut put = |at: usize, bytes: &[u8]| out[optional + at..][..bytes.len()].copy_from_slice(bytes);
    put(0, &0x20bu16.to_le_bytes());
    // Entry, alignments of sections and of the file, sizes of image and headers, subsystem EFI, directories.
    put(16, &4096u32.to_le_bytes());
    put(32, &4096u32.to_le_bytes());
    put(36, &512u32.to_le_bytes());
    put(56, &8192u32.to_le_bytes());
    put(60, &u32::try_from(headers).unwrap_or(u32::MAX).to_le_bytes());
    put(68, &10u16.to_le_bytes());
    put(108, &16u32.to_le_bytes());
    out.extend(b".text\0\0\0");
    for field in [5u32, 4096, 512, 0x400, 0, 0, 0, 0x6000_0020] {
        out.extend(field.to_le_bytes());
    }
    out.resize(0x400, 0);
    out.extend(b"code!");
    out.resize(0x600, 0);
    out
}
