//! Unified kernel image: systemd's EFI stub with operating system, command line, initrd and kernel as sections.
//!
//! Formats: <https://uapi-group.org/specifications/specs/unified_kernel_image/> and Microsoft's PE specification.

use crate::error::{Fault, Kind, Result};
use object::LittleEndian as LE;
use object::read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _, PeFile64};
use object::read::{Object as _, ObjectSection as _};

/// What a unified kernel image holds besides the stub.
#[derive(Debug, Clone, Copy)]
pub struct Uki<'a> {
    /// systemd's `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// Text of `os-release`, shown by boot menus.
    pub os_release: &'a str,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The kernel's release, `uname -r`.
    pub uname: &'a str,
    /// A cpio archive, compressed or not.
    pub initrd: &'a [u8],
    /// The kernel, bootable as an EFI program.
    pub kernel: &'a [u8],
}

/// Bytes of a section header.
const SECTION: usize = 40;
const INITIALIZED_READ: u32 = 0x4000_0040;
const CODE_READ: u32 = 0x4000_0020;

/// Where the stub's headers say what, in bytes from its start.
struct Headers {
    /// The PE signature.
    nt: usize,
    /// Behind the last section header.
    table_end: usize,
    sections: u16,
    section_align: u32,
    file_align: u32,
    /// First address behind the stub's sections, not aligned.
    next_address: u32,
    initialized: u32,
}

/// Puts a unified kernel image together. Equal parts give equal bytes.
///
/// # Errors
/// [`Kind::Build`] when the stub is not a 64-bit PE file or its headers have no room for five sections.
pub fn uki(parts: &Uki<'_>) -> Result<Vec<u8>> {
    let headers = headers(parts.stub)?;
    // The kernel comes last: a kernel that runs in place may then use the memory behind it.
    let sections: [(&[u8; 8], &[u8], u32); 5] = [
        (b".osrel\0\0", parts.os_release.as_bytes(), INITIALIZED_READ),
        (b".cmdline", parts.cmdline.as_bytes(), INITIALIZED_READ),
        (b".uname\0\0", parts.uname.as_bytes(), INITIALIZED_READ),
        (b".initrd\0", parts.initrd, INITIALIZED_READ),
        (b".linux\0\0", parts.kernel, CODE_READ),
    ];
    let mut out = Vec::with_capacity(parts.stub.len() + parts.initrd.len() + parts.kernel.len() + (64 << 10));
    out.extend_from_slice(parts.stub);
    let mut address = headers.next_address;
    let mut initialized = headers.initialized;
    for (at, (name, bytes, flags)) in sections.into_iter().enumerate() {
        out.resize(out.len().next_multiple_of(headers.file_align as usize), 0);
        let start = u32::try_from(out.len())?;
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(headers.file_align as usize), 0);
        let raw = u32::try_from(out.len())? - start;
        let virtual_size = u32::try_from(bytes.len())?;
        address = address.checked_next_multiple_of(headers.section_align).ok_or_else(too_big)?;
        let mut header = Vec::with_capacity(SECTION);
        header.extend(name);
        for field in [virtual_size, address, raw, start, 0, 0, 0, flags] {
            header.extend(field.to_le_bytes());
        }
        let place = headers.table_end + at * SECTION;
        out[place..place + SECTION].copy_from_slice(&header);
        address = address.checked_add(virtual_size).ok_or_else(too_big)?;
        initialized = initialized.checked_add(raw).ok_or_else(too_big)?;
    }
    let optional = headers.nt + 24;
    let image = address.checked_next_multiple_of(headers.section_align).ok_or_else(too_big)?;
    out[headers.nt + 6..][..2].copy_from_slice(&(headers.sections + 5).to_le_bytes());
    out[optional + 8..][..4].copy_from_slice(&initialized.to_le_bytes());
    out[optional + 56..][..4].copy_from_slice(&image.to_le_bytes());
    let sum = checksum(&mut out, optional + 64)?;
    out[optional + 64..][..4].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// The sections of a unified kernel image, in order: name and bytes.
///
/// # Errors
/// [`Kind::Integrity`] when it is not a 64-bit PE file whose sections are all there.
pub fn sections(file: &[u8]) -> Result<Vec<(String, &[u8])>> {
    let refuse = |error: object::read::Error| Fault::new(Kind::Integrity, format!("this is no kernel image: {error}"));
    let parsed = PeFile64::parse(file).map_err(refuse)?;
    let sections = parsed.sections().map(|section| {
        let name = String::from_utf8_lossy(section.name_bytes().map_err(refuse)?).into_owned();
        Ok((name, section.data().map_err(refuse)?))
    });
    sections.collect()
}

fn too_big() -> Fault {
    Fault::new(Kind::Build, "the kernel and the initrd are too big for a unified kernel image (4 GiB)")
}

fn headers(stub: &[u8]) -> Result<Headers> {
    let refuse = |why: &str| Fault::new(Kind::Build, format!("the EFI stub cannot be extended: {why}"));
    let file = PeFile64::parse(stub).map_err(|error| refuse(&error.to_string()))?;
    let optional = file.nt_headers().optional_header();
    let nt = file.dos_header().e_lfanew.get(LE) as usize;
    let header = file.nt_headers().file_header();
    let sections = header.number_of_sections.get(LE);
    let table = nt + 24 + usize::from(header.size_of_optional_header.get(LE));
    let table_end = table + usize::from(sections) * SECTION;
    let table_of = file.section_table();
    let first_raw = table_of.iter().map(|section| section.pointer_to_raw_data.get(LE)).filter(|at| *at > 0).min();
    let room = optional.size_of_headers().min(first_raw.unwrap_or(u32::MAX)) as usize;
    if table_end + 5 * SECTION > room.min(stub.len()) {
        return Err(refuse("its headers have no room for five more sections").into());
    }
    let (section_align, file_align) = (optional.section_alignment(), optional.file_alignment());
    if !section_align.is_power_of_two() || !file_align.is_power_of_two() {
        return Err(refuse("its alignment is not a power of two").into());
    }
    // The format's own limit; a stub that asks for more would make every section gigabytes of zeros.
    if file_align > 64 << 10 {
        return Err(refuse("its sections are to be aligned to more than 64 KiB").into());
    }
    let ends = table_of.iter().map(|section| {
        section
            .virtual_address
            .get(LE)
            .saturating_add(section.virtual_size.get(LE).max(section.size_of_raw_data.get(LE)))
    });
    let next_address = ends.max().unwrap_or(0);
    let initialized = optional.size_of_initialized_data();
    Ok(Headers { nt, table_end, sections, section_align, file_align, next_address, initialized })
}

/// The PE checksum: the 16-bit words, added with carry around, plus the length; the field itself counts as zero.
fn checksum(file: &mut [u8], field: usize) -> Result<u32> {
    file[field..field + 4].fill(0);
    // Four words at a time into 64 bits cannot overflow for a file under 4 GiB, and folding is the same at the end.
    let mut sum: u64 = file.chunks(2).map(|word| u64::from(word[0]) | u64::from(*word.get(1).unwrap_or(&0)) << 8).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Ok(u32::try_from(sum + file.len() as u64)?)
}

#[cfg(test)]
mod sample;
#[cfg(test)]
pub(crate) use sample::sample_stub;

#[cfg(test)]
mod tests {
    use super::*;
    fn parts<'a>(stub: &'a [u8], initrd: &'a [u8]) -> Uki<'a> {
        Uki { stub, os_release: "ID=x\n", cmdline: "quiet", uname: "6.12.1", initrd, kernel: b"MZkernel" }
    }

    #[test]
    fn sections_come_back_and_do_not_overlap() {
        let stub = sample_stub(5);
        let initrd = vec![7; 10_000];
        let out = uki(&parts(&stub, &initrd)).unwrap();
        assert_eq!(out, uki(&parts(&stub, &initrd)).unwrap());
        let file = PeFile64::parse(&*out).unwrap();
        let names: Vec<_> = file.sections().map(|section| section.name().unwrap().to_owned()).collect();
        assert_eq!(names, [".text", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"]);
        let data = |name: &str| file.section_by_name(name).unwrap().data().unwrap();
        assert_eq!(data(".cmdline"), b"quiet");
        assert_eq!(data(".initrd"), initrd);
        assert_eq!(data(".linux"), b"MZkernel");
        let read = sections(&out).unwrap();
        assert_eq!(read.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
        assert_eq!((read[2].1, read[5].1), (&b"quiet"[..], &b"MZkernel"[..]));
        assert!(sections(&out[..out.len() / 2]).is_err() && sections(b"MZ").is_err());
        let mut end = 0;
        for section in file.sections() {
            assert!(section.address() >= end && section.address().is_multiple_of(4096));
            end = section.address() + section.size();
        }
        let image = file.nt_headers().optional_header().size_of_image();
        assert_eq!(u64::from(image), end.next_multiple_of(4096));
    }

    #[test]
    fn checksum_is_of_all_but_itself() {
        let stub = sample_stub(5);
        let mut out = uki(&parts(&stub, b"initrd")).unwrap();
        let field = 0x40 + 24 + 64;
        let stored = u32::from_le_bytes(out[field..field + 4].try_into().unwrap());
        assert_eq!(checksum(&mut out, field).unwrap(), stored);
        *out.last_mut().unwrap() ^= 1;
        assert_ne!(checksum(&mut out, field).unwrap(), stored);
    }

    #[test]
    fn stubs_without_room_are_refused() {
        let mut wide = sample_stub(5);
        // The file's alignment: 36 bytes behind the start of the optional header.
        wide[0x40 + 24 + 36..][..4].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        for bad in [sample_stub(4), Vec::new(), b"MZ".to_vec(), vec![0; 4096], wide] {
            let error = uki(&parts(&bad, b"")).unwrap_err();
            assert_eq!(crate::error::kind_of(&error), Kind::Build);
        }
    }
}
