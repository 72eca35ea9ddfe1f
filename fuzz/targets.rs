// Every reader of bytes that others made: a name, and what is done with arbitrary bytes. A reader may refuse them; it
// must not panic, hang or take memory without bound. `fuzz_targets/` gives these to libFuzzer, `tests/mutations.rs` to a
// runner of its own that needs no nightly compiler.

use nodelith::digest::Sha256;
use nodelith::format::verity::{self, RootHash};
use nodelith::format::{cpio, deb, elf, erofs, gpt, pe};
use nodelith::lock::Lock;
use nodelith::manifest::Manifest;
use std::io::Cursor;
use std::path::Path;

/// A reader's name, and the reader.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 16] = [
    ("ar", |bytes| drop(deb::read(bytes, &mut |_| Ok(())))),
    ("tar", |bytes| drop(deb::index(bytes))),
    ("release", |bytes| with_text(bytes, |text| drop(nodelith::resolve::read_archive(text, "")))),
    ("index", |bytes| with_text(bytes, |text| drop(nodelith::resolve::read_archive(RELEASE, text)))),
    ("lock", |bytes| with_text(bytes, |text| drop(Lock::parse(Path::new("x.lock"), text)))),
    ("manifest", |bytes| with_text(bytes, |text| drop(Manifest::parse(text)))),
    ("spec", |bytes| load("x.toml", bytes)),
    ("role", |bytes| load("overlays/base/role.toml", bytes)),
    ("claim", |bytes| {
        let dir = scratch();
        put(dir.path(), "area/claim.toml", bytes);
        drop(nodelith::trial::load(dir.path()));
    }),
    ("jwk", |bytes| with_text(bytes, |text| drop(nodelith::token::Key::from_jwk(text)))),
    ("cpio", |bytes| {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        drop(cpio::difference(one, other));
        drop(cpio::difference(bytes, one));
    }),
    ("pe", |bytes| {
        drop(pe::sections(bytes));
        let uki = pe::Uki { stub: bytes, os_release: "", cmdline: "", uname: "", initrd: b"i", kernel: b"k" };
        drop(pe::uki(&uki));
    }),
    ("elf", |bytes| drop(elf::needs(bytes))),
    ("erofs", |bytes| {
        for offset in [1024, 4096, bytes.len() as u64 / 2, u64::MAX] {
            drop(erofs::owner(&mut Cursor::new(bytes), offset));
        }
        for path in [&b"etc/hosts"[..], b"usr/lib/big", b"", b"/"] {
            drop(erofs::locate(&mut Cursor::new(bytes), path));
        }
        drop(erofs::measure(&mut Cursor::new(bytes)));
    }),
    ("gpt", |bytes| drop(gpt::read(&mut Cursor::new(bytes)))),
    ("verity", |bytes| {
        let (data, tree) = bytes.split_at(bytes.len() / 2 / 4096 * 4096);
        let root = RootHash(Sha256::of(b""));
        drop(verity::check(&mut &data[..], data.len() as u64, &mut &tree[..], &root));
    }),
];

/// A release as far as the index needs it.
pub const RELEASE: &str = "Codename: trixie\nDate: Thu, 01 Jan 1970 00:00:00 UTC\n";

/// Readers of text are only ever given text.
fn with_text(bytes: &[u8], read: impl Fn(&str)) {
    read(&String::from_utf8_lossy(bytes));
}

fn load(file: &str, bytes: &[u8]) {
    let dir = scratch();
    put(dir.path(), "x.toml", SPEC.as_bytes());
    put(dir.path(), "overlays/base/role.toml", b"summary = \"s\"\n");
    put(dir.path(), file, bytes);
    drop(nodelith::spec::load(&dir.path().join("x.toml"), &dir.path().join("overlays")));
}

/// The smallest spec.
pub const SPEC: &str =
    "schema = 1\nname = \"x\"\nepoch = 2026-01-01T00:00:00Z\nroles = [\"base\"]\n[debian]\nsuites = [\"trixie\"]\n";

fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a temporary directory")
}

fn put(dir: &Path, file: &str, bytes: &[u8]) {
    nodelith::sys::fs::write_scratch(&dir.join(file), bytes).expect("a temporary file");
}
