//! ELF: what a program or library needs of other files before it can run.
//!
//! Formats: the System V ABI's dynamic section; `.note.dlopen` by the ELF notes specification of systemd
//! (`docs/ELF_DLOPEN_METADATA.md`), by which a program names the libraries that it opens while running.

use crate::error::{Blame, Kind, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

/// The needs of one 64-bit ELF file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Elf {
    /// The program loader's path, in programs only.
    pub interpreter: Option<String>,
    /// Names of libraries that must be there, in the file's order.
    pub needed: Vec<String>,
    /// Directories that are searched first; `$ORIGIN` is the file's own directory.
    pub runpath: Vec<String>,
    /// Names of libraries that are opened while running, where the file calls them required or recommended.
    pub dlopen: Vec<String>,
}

/// The type of a note with dlopen metadata, owner `FDO`.
const DLOPEN_NOTE: u32 = 0x407c_0c0a;

#[derive(serde::Deserialize)]
struct Dlopen {
    soname: Vec<String>,
    #[serde(default)]
    priority: Option<String>,
}

/// Reads a file's needs; nothing when it is no 64-bit ELF file.
///
/// # Errors
/// [`Kind::Build`] when it says that it is one and is broken.
pub fn needs(bytes: &[u8]) -> Result<Option<Elf>> {
    // Class 2 is 64 bits.
    if !bytes.starts_with(b"\x7fELF\x02") {
        return Ok(None);
    }
    read(bytes).map(Some).blame(Kind::Build, || "reading an ELF file".into())
}

fn read(bytes: &[u8]) -> Result<Elf> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let mut elf = Elf::default();
    for segment in header.program_headers(endian, bytes)?.iter().filter(|segment| segment.p_type(endian) == PT_INTERP) {
        elf.interpreter = segment.interpreter(endian, bytes)?.map(text).transpose()?;
    }
    let sections = header.sections(endian, bytes)?;
    let dynamic = sections.dynamic_table(endian, bytes)?;
    for entry in &dynamic {
        if [DT_NEEDED, DT_RUNPATH, DT_RPATH].contains(&entry.tag) {
            let value = text(dynamic.string(entry)?)?;
            match entry.tag {
                DT_NEEDED => elf.needed.push(value),
                _ => elf.runpath.extend(value.split(':').map(str::to_owned)),
            }
        }
    }
    if let Some((_, section)) = sections.section_by_name(endian, b".note.dlopen")
        && let Some(mut notes) = section.notes(endian, bytes)?
    {
        while let Some(note) = notes.next()? {
            if note.n_type(endian).0 == DLOPEN_NOTE && note.name() == b"FDO" {
                elf.dlopen.extend(dlopen(note.desc())?);
            }
        }
    }
    Ok(elf)
}

/// The library names of a note that are more than a suggestion; without a priority it counts as recommended.
fn dlopen(json: &[u8]) -> Result<Vec<String>> {
    let end = json.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let entries: Vec<Dlopen> = serde_json::from_slice(&json[..end])?;
    let wanted = entries.into_iter().filter(|entry| entry.priority.as_deref() != Some("suggested"));
    Ok(wanted.flat_map(|entry| entry.soname).collect())
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_test_program_needs_the_c_library() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = needs(&bytes).unwrap().unwrap();
        assert!(elf.interpreter.unwrap().contains("ld-"));
        assert!(elf.needed.iter().any(|name| name.starts_with("libc.so")));
        assert!(needs(&bytes[..100]).is_err(), "cut off");
    }

    #[test]
    fn scripts_are_not_elf_and_suggestions_are_left_out() {
        assert_eq!(needs(b"#!/bin/sh\n").unwrap(), None);
        let note = br#"[{"soname":["a.so.1"],"priority":"suggested"},{"soname":["b.so.1"]}]"#;
        assert_eq!(dlopen(&[note.as_slice(), b"\0"].concat()).unwrap(), ["b.so.1"]);
    }
}
