//! The seeds of `fuzz/corpus`: sound and small, so that a changed byte is likely to matter.

use super::targets::{RELEASE, SPEC};
use crate::sample::sample_stub;
use nodelith::digest::Sha256;
use nodelith::format::{cpio, erofs, gpt, pe, verity};
use nodelith::manifest::{self, Manifest};
use nodelith::tree::{Node, Tree, What};
use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use uuid::Uuid;

/// The seeds of a reader.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let text = |path: &str| std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    match name {
        "ar" => vec![deb("", |tar| tar), deb(".gz", gzip), deb(".zst", |tar| zstd::bulk::compress(&tar, 3).unwrap())],
        "tar" => vec![tar()],
        "release" => vec![
            [
                RELEASE,
                "Suite: stable\nValid-Until: Thu, 01 Jan 2099 00:00:00 UTC\nNotAutomatic: yes\nSHA256:\n ",
                &"a".repeat(64),
                " 100 main/binary-amd64/Packages.xz\n",
            ]
            .concat()
            .into(),
        ],
        "index" => vec![INDEX.into()],
        "lock" => vec![LOCK.into()],
        "manifest" => vec![manifest()],
        "spec" => vec![SPEC.into(), text("image-specs/worker.toml")],
        "role" => vec![text("overlays/flannel/role.toml"), text("overlays/network/role.toml")],
        "claim" => vec![
            text("vm-tests/join/flannel.toml"),
            text("vm-tests/join/lease-lost.toml"),
            text("vm-tests/verity/flipped-byte.toml"),
        ],
        "jwk" => vec![nodelith::token::Key::from_entropy(&[1; 32]).unwrap().private_jwk().into()],
        "cpio" => vec![[cpio::archive(&tree(), 1).unwrap(), cpio::archive(&tree(), 1).unwrap()].concat()],
        "pe" => {
            let parts = pe::Uki {
                stub: &sample_stub(5),
                os_release: "ID=x\n",
                cmdline: "quiet",
                uname: "6",
                initrd: b"i",
                kernel: b"k",
            };
            vec![sample_stub(5), pe::uki(&parts).unwrap()]
        }
        "elf" => vec![program()],
        "erofs" => {
            let mut out = Cursor::new(Vec::new());
            erofs::write(&tree(), &erofs::Options::new(1, [7; 16]), &mut out).unwrap();
            vec![out.into_inner()]
        }
        "gpt" => {
            let mut disk = vec![0; 4 << 20];
            let part = |role, start, size: u64| gpt::Partition {
                role,
                uuid: Uuid::from_u128(size.into()),
                label: "x".into(),
                start,
                size,
            };
            let parts = [part(gpt::Role::Esp, 1 << 20, 1 << 20), part(gpt::Role::Root, 2 << 20, 4096)];
            gpt::write(&mut Cursor::new(&mut disk[..]), Uuid::from_u128(9), &parts).unwrap();
            disk.truncate(34 * 512);
            vec![disk]
        }
        "verity" => {
            let data = vec![7; 2 * 4096];
            let mut out = data.clone();
            verity::format(&mut &data[..], data.len() as u64, &[1; 32], [2; 16], &mut out).unwrap();
            vec![out]
        }
        other => panic!("{other} has no seeds"),
    }
}

fn tree() -> Tree {
    let origin = "test".into();
    let mut tree = Tree::new();
    tree.file("etc/hosts", 0o644, "127.0.0.1 localhost\n", &origin).unwrap();
    tree.file("usr/lib/big", 0o755, b"abcdefgh".repeat(3000), &origin).unwrap();
    tree.symlink("lib", "usr/lib", &origin).unwrap();
    tree.put("hard", Node::new(What::HardLink(b"etc/hosts".to_vec()), 0, &origin)).unwrap();
    tree.get_mut("etc/hosts").unwrap().xattrs.insert(b"user.x".to_vec(), b"y".to_vec());
    tree
}

fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", &b"\x01\0"[..])]).unwrap();
    for (path, kind, target, body) in [
        ("./usr/", tar::EntryType::Directory, "", &b""[..]),
        ("./usr/file", tar::EntryType::Regular, "", b"content"),
        ("./usr/hard", tar::EntryType::Link, "./usr/file", b""),
        ("./usr/soft", tar::EntryType::Symlink, "file", b""),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(body.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if target.is_empty() {
            tar.append_data(&mut header, path, body).unwrap();
        } else {
            tar.append_link(&mut header, path, target).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: Vec<u8>) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(&bytes).unwrap();
    out.finish().unwrap()
}

fn deb(suffix: &str, pack: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut control = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(11);
    header.set_mode(0o644);
    control.append_data(&mut header, "./control", &b"Package: x\n"[..]).unwrap();
    let control = pack(control.into_inner().unwrap());
    let mut out = b"!<arch>\n".to_vec();
    let members = [
        ("debian-binary".to_owned(), b"2.0\n".to_vec()),
        (format!("control.tar{suffix}"), control),
        (format!("data.tar{suffix}"), pack(tar())),
    ];
    for (name, body) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", body.len()).bytes());
        out.extend(&body);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

fn manifest() -> Vec<u8> {
    let manifest = Manifest {
        schema: manifest::SCHEMA,
        name: "worker".into(),
        nodelith: "0".into(),
        epoch: 1,
        lock: Sha256::of(b""),
        root_hash: Some(Sha256::of(b"").to_string()),
        cmdline: Some("roothash=x".into()),
        reference: None,
        digest: None,
        containers: BTreeMap::new(),
        listeners: vec!["udp 8472 kernel".into()],
        certificates: BTreeMap::from([("a".into(), "b".into())]),
        outputs: vec![manifest::Output { file: "worker.raw".into(), size: 1, sha256: Sha256::of(b"r") }],
        packages: Vec::new(),
        binaries: Vec::new(),
        skew: std::collections::BTreeMap::new(),
        paths: manifest::paths(&tree()),
    };
    manifest.to_text().unwrap().into()
}

const INDEX: &str = "Package: libc6\nVersion: 2.41-12\nArchitecture: amd64\nDepends: libgcc-s1 (>= 4:3.0~rc) [amd64] | x:any, y\nBreaks: a (<< 1)\nProvides: libc (= 2.41)\nPriority: optional\nDescription: C\n more\nFilename: pool/main/g/glibc/libc6.deb\nSize: 100\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\nPackage: y\nVersion: 1\nArchitecture: all\nFilename: pool/y.deb\nSize: 1\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
const LOCK: &str = "version = 1\nrequests = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n\n[[release]]\nsuite = \"trixie\"\ndate = \"Sat, 21 Nov 2026 09:15:44 UTC\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\nsigned_by = [\"aa\"]\n\n[[package]]\nname = \"dash\"\nversion = \"1\"\narchitecture = \"amd64\"\nsuite = \"trixie\"\npath = \"pool/d.deb\"\nsize = 1\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\nuses = [\"image\"]\n\n[[binary]]\nid = \"a/b\"\nfrom = \"x\"\nrecipe = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\nsize = 1\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";

/// A 64-bit ELF program with an interpreter and one needed library.
fn program() -> Vec<u8> {
    const BASE: u64 = 0;
    let strings = b"\0libc.so.6\0$ORIGIN\0";
    let (interpreter, dynamic, table) = (0x100u64, 0x120u64, 0x1a0u64);
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0x1000u64, 64, 0x200] {
        out.extend(word.to_le_bytes());
    }
    out.extend([0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 64, 0, 3, 0, 2, 0]);
    for (kind, at, len) in [(1u32, 0, 0x200u64), (3, interpreter, 8), (2, dynamic, 0x60)] {
        out.extend(kind.to_le_bytes());
        out.extend(5u32.to_le_bytes());
        for word in [at, BASE + at, BASE + at, len, len, 8] {
            out.extend(word.to_le_bytes());
        }
    }
    out.resize(interpreter as usize, 0);
    out.extend(b"/lib/ld\0");
    out.resize(dynamic as usize, 0);
    for (tag, value) in [(1u64, 1u64), (29, 11), (5, BASE + table), (10, strings.len() as u64), (0, 0)] {
        out.extend(tag.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out.resize(table as usize, 0);
    out.extend(strings);
    // Sections: none, the dynamic table with its strings, the strings.
    out.resize(0x240, 0);
    for (kind, at, len, link, entry) in [(6u32, dynamic, 80u64, 2u32, 16u64), (3, table, strings.len() as u64, 0, 0)] {
        out.extend([0; 4]);
        out.extend(kind.to_le_bytes());
        for word in [2, BASE + at, at, len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(u64::from(link).to_le_bytes());
        out.extend(8u64.to_le_bytes());
        out.extend(entry.to_le_bytes());
    }
    out
}
