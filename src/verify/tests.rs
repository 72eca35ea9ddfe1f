//! A whole image of a few files, damaged in every part.
#![expect(clippy::disallowed_methods, reason = "damages files of a test's own temporary directory")]

use super::{difference, verify};
use crate::digest::Sha256;
use crate::error::{Kind, kind_of};
use crate::format::gpt::{self, Role};
use crate::format::pe::sample_stub;
use crate::image::{self, Recipe};
use crate::manifest::{self, Manifest};
use crate::report::Silent;
use crate::store::Store;
use crate::tree::Tree;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Builds an image whose root and initrd hold these texts.
fn build(dir: &Path, hosts: &str, init: &str, change: &dyn Fn(&mut Manifest)) -> PathBuf {
    let origin = Arc::from("test");
    let (mut root, mut initrd) = (Tree::new(), Tree::new());
    root.file("etc/hosts", 0o644, hosts, &origin).unwrap();
    let big: Vec<u8> = (0..50_000u32).flat_map(|at| at.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    root.file("usr/lib/big", 0o755, big, &origin).unwrap();
    initrd.file("init", 0o755, init, &origin).unwrap();
    initrd.file("usr/lib/a", 0o755, "a", &origin).unwrap();
    let stub = sample_stub(5);
    let recipe = Recipe {
        name: "worker",
        root: &root,
        initrd: &initrd,
        kernel: b"MZ kernel",
        stub: &stub,
        os_release: "ID=x\n",
        cmdline_extra: &["quiet".into()],
        uname: "6",
        epoch: 1_700_000_000,
    };
    fs::create_dir_all(dir).unwrap();
    let store = Store::open(&dir.with_extension("store")).unwrap();
    let image = image::build(&recipe, dir, &store, &Silent).unwrap();
    let mut manifest = Manifest {
        schema: manifest::SCHEMA,
        name: "worker".into(),
        nodelith: "0".into(),
        epoch: recipe.epoch,
        lock: Sha256::of(b""),
        root_hash: Some(image.root_hash.to_string()),
        cmdline: Some(image.cmdline),
        reference: None,
        digest: None,
        containers: BTreeMap::new(),
        listeners: Vec::new(),
        certificates: BTreeMap::new(),
        outputs: image.outputs,
        packages: Vec::new(),
        binaries: Vec::new(),
        skew: std::collections::BTreeMap::new(),
        paths: manifest::paths(&root),
    };
    change(&mut manifest);
    fs::write(dir.join(manifest::FILE), manifest.to_text().unwrap()).unwrap();
    dir.to_owned()
}

fn refused(dir: &Path) -> String {
    let error = verify(dir, &Silent).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Integrity, "{error:#}");
    format!("{error:#}")
}

/// Changes a file's bytes, and, if asked, the manifest so that the digest agrees.
fn damage(dir: &Path, file: &str, agree: bool, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    if agree {
        let mut manifest = Manifest::parse(&fs::read_to_string(dir.join(manifest::FILE)).unwrap()).unwrap();
        let output = manifest.outputs.iter_mut().find(|output| output.file == file).unwrap();
        (output.sha256, output.size) = (Sha256::of(&bytes), bytes.len() as u64);
        fs::write(dir.join(manifest::FILE), manifest.to_text().unwrap()).unwrap();
    }
}

fn start(dir: &Path, role: Role) -> usize {
    gpt::find(&mut fs::File::open(dir.join("worker.raw")).unwrap(), role).unwrap().0 as usize
}

/// Where a file's data stand on the disk.
fn place(dir: &Path, path: &str) -> usize {
    let root = start(dir, Role::Root);
    let raw = fs::read(dir.join("worker.raw")).unwrap();
    root + crate::format::erofs::locate(&mut Cursor::new(&raw[root..]), path.as_bytes()).unwrap().0 as usize
}

#[test]
fn damage_is_told_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let sound = build(&dir.path().join("sound"), "hosts", "#!init", &|_| ());
    assert_eq!(verify(&sound, &Silent).unwrap().name, "worker");
    let mut number = 0;
    let mut case = |file: &str, agree: bool, change: &dyn Fn(&mut Vec<u8>)| {
        number += 1;
        let copy = dir.path().join(number.to_string());
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&sound).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        damage(&copy, file, agree, change);
        refused(&copy)
    };
    let big = place(&sound, "usr/lib/big");
    let said = case("worker.raw", false, &|raw| raw[big + 9000] ^= 1);
    assert!(said.contains("/usr/lib/big") && said.contains("worker.raw is "), "{said}");
    // The same when the manifest was made to agree: the root hash stands in the kernel image too.
    let said = case("worker.raw", true, &|raw| raw[big + 9000] ^= 1);
    assert!(said.contains("/usr/lib/big"), "{said}");
    let tree = start(&sound, Role::RootVerity);
    assert!(case("worker.raw", true, &|raw| raw[tree + 5000] ^= 1).contains("verity tree"));
    // The first 16 bytes of the root's entry are its type, the next its identity.
    assert!(case("worker.raw", true, &|raw| raw[1024 + 128 + 16] ^= 1).contains("by the root hash it is"));
    assert!(case("worker.raw", true, &|raw| raw[1024 + 128] ^= 1).contains("no whole Root partition"));
    assert!(case("worker.raw", true, &|raw| raw[512] ^= 1).contains("partition table"));
    assert!(case("worker.raw", true, &|raw| raw.truncate(3 << 20)).contains("partition"));
    assert!(case("worker.raw", true, &|raw| raw.clear()).contains("partition table"));
    let esp = start(&sound, Role::Esp);
    let uki = fs::read(sound.join("worker.efi")).unwrap();
    let raw = fs::read(sound.join("worker.raw")).unwrap();
    let at = (esp..).step_by(512).find(|at| raw[*at..].starts_with(&uki)).unwrap();
    assert!(case("worker.raw", true, &|raw| raw[at + 700] ^= 1).contains("EFI system partition does not hold"));
    assert!(case("worker.efi", true, &|efi| efi[0] = 0).contains("no kernel image"));
    let line = uki.windows(6).position(|window| window == b" quiet").unwrap();
    assert!(case("worker.efi", true, &|efi| efi[line + 1] = b'Q').contains("Quiet"));
    assert!(case("worker.qcow2", false, &|qcow2| qcow2[7] ^= 1).contains("worker.qcow2 is "));
    assert!(case(manifest::FILE, false, &|text| text[0] = b'x').contains("manifest.json is damaged"));
}

#[test]
fn directories_that_are_no_image_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(kind_of(&verify(dir.path(), &Silent).unwrap_err()), Kind::Usage);
    assert_eq!(kind_of(&verify(&dir.path().join("no"), &Silent).unwrap_err()), Kind::Usage);
    let outside = build(&dir.path().join("outside"), "x", "y", &|manifest| {
        manifest.outputs[0].file = "../../etc/passwd".into();
    });
    assert!(refused(&outside).contains("other files"));
    let gone = build(&dir.path().join("gone"), "x", "y", &|_| ());
    fs::remove_file(gone.join("worker.qcow2")).unwrap();
    assert!(refused(&gone).contains("worker.qcow2 is missing"));
    let wrong = build(&dir.path().join("wrong"), "x", "y", &|manifest| manifest.root_hash = Some("beef".into()));
    refused(&wrong);
}

#[test]
fn builds_are_compared_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut made = |hosts: &str, init: &str, change: &dyn Fn(&mut Manifest)| {
        number += 1;
        build(&dir.path().join(number.to_string()), hosts, init, change)
    };
    let one = made("hosts", "#!init", &|_| ());
    let same = made("hosts", "#!init", &|_| ());
    assert_eq!(difference(&one, &same).unwrap(), None);
    let said = |other: &Path| difference(&one, other).unwrap().unwrap();
    assert!(said(&made("hosts!", "#!init", &|_| ())).starts_with("/etc/hosts: its content is "));
    assert_eq!(said(&made("hosts", "#!tini", &|_| ())), "worker.efi: /init of the initrd");
    let renamed = made("hosts", "#!init", &|manifest| drop(manifest.paths.remove("/etc/hosts")));
    assert_eq!(said(&renamed), "/etc/hosts is in the first only");
    // Bytes that differ though the manifests agree: a build that is not reproducible.
    let at = place(&same, "usr/lib/big");
    damage(&same, "worker.raw", false, |raw| raw[at + 9000] ^= 1);
    assert_eq!(said(&same), "/usr/lib/big: how the root file system stores it");
    let table = made("hosts", "#!init", &|_| ());
    damage(&table, "worker.raw", false, |raw| raw[600] ^= 1);
    assert!(said(&table).starts_with("worker.raw from byte 600 on"), "{}", said(&table));
    let other = made("hosts", "#!init", &|manifest| manifest.lock = Sha256::of(b"other"));
    assert!(said(&other).starts_with("manifest.json from byte "));
}
