//! Real images, opened by public tools: those in the directory that `NODELITH_IMAGES` names, such as `out`.

use crate::archives::{section, sections};
use crate::disks::{file_is, table_is};
use crate::tools::{Tools, digest, is_root, tools};
use nodelith::digest::Sha256;
use nodelith::format::gpt::{self, Partition, Role};
use nodelith::manifest::{Entry, Manifest};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use uuid::Uuid;

#[test]
fn built_images_are_what_their_manifests_say() {
    let Some(tools) = tools() else { return };
    let Some(out) = std::env::var_os("NODELITH_IMAGES").map(PathBuf::from) else {
        eprintln!("skipped: NODELITH_IMAGES is not set; ci/oracles sets it to out");
        return;
    };
    let mut seen = 0;
    for entry in fs::read_dir(out).unwrap() {
        let dir = entry.unwrap().path();
        // Containers, reports and images under way are none of it.
        if let Ok(text) = fs::read_to_string(dir.join("manifest.json"))
            && let Ok(manifest) = Manifest::parse(&text)
            && dir.join(format!("{}.raw", manifest.name)).is_file()
        {
            image(tools, &dir, &manifest);
            seen += 1;
        }
    }
    assert!(seen > 0, "there is no image");
}

fn image(tools: &Tools, dir: &Path, manifest: &Manifest) {
    let name = &manifest.name;
    let at = |suffix: &str| dir.join(format!("{name}.{suffix}"));
    let (root_hash, told) = (manifest.root_hash.as_deref().unwrap(), manifest.cmdline.as_deref().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    for output in &manifest.outputs {
        assert_eq!(digest(&dir.join(&output.file)), output.sha256, "{}", output.file);
    }

    let raw = at("raw");
    let said = tools.text("sfdisk", &[&"--verify", &raw]);
    assert!(said.contains("No errors detected"), "{said}");
    let json = tools.text("sfdisk", &[&"--json", &raw]);
    let parts = partitions(&raw, &json, manifest);
    table_is(&json, Uuid::parse_str(&word(&json, "id")).unwrap(), &parts);

    let carve = |role: Role| {
        let path = scratch.path().join(format!("{role:?}"));
        let part = parts.iter().find(|part| part.role == role).unwrap();
        let mut file = fs::File::open(&raw).unwrap();
        file.seek(SeekFrom::Start(part.start)).unwrap();
        std::io::copy(&mut file.take(part.size), &mut fs::File::create(&path).unwrap()).unwrap();
        path
    };
    let (esp, root, tree) = (carve(Role::Esp), carve(Role::Root), carve(Role::RootVerity));
    tools.must("veritysetup", &[&"verify", &root, &tree, &root_hash]);
    let said = tools.text("fsck.fat", &[&"-n", &"-v", &esp]);
    assert!(!said.contains("rrors"), "{said}");
    let efi = fs::read(at("efi")).unwrap();
    file_is(&esp, &efi, "the kernel image in the EFI system partition");

    let table = sections(tools, &at("efi"));
    let cmdline = section(&efi, &table, ".cmdline");
    assert!(cmdline.starts_with(told.as_bytes()), "{table:?}");
    assert!(told.starts_with(&format!("roothash={root_hash}")));
    let initrd = section(&efi, &table, ".initrd");
    let archive = scratch.path().join("initrd");
    let mut unpacked = zstd::stream::read::Decoder::new(initrd).unwrap().single_frame();
    std::io::copy(&mut unpacked, &mut fs::File::create(&archive).unwrap()).unwrap();
    let listed = tools.text("cpio", &[&"-t", &"--quiet", &"-F", &archive]);
    // bsdtar shows a backslash as two.
    let also = tools.text("bsdtar", &[&"-t", &"-f", &archive]).replace("\\\\", "\\");
    assert!(listed == also, "cpio and bsdtar list different files");
    assert!(listed.lines().any(|line| line == "init"), "{listed}");

    let said = tools.text("qemu-img", &[&"check", &"-f", &"qcow2", &at("qcow2")]);
    assert!(said.contains("No errors were found"), "{said}");
    let said = tools.text("qemu-img", &[&"compare", &"-f", &"raw", &"-F", &"qcow2", &raw, &at("qcow2")]);
    assert!(said.contains("identical"), "{said}");
    extracted_is(tools, &root, manifest, &scratch.path().join("files"));
}

fn word(json: &str, key: &str) -> String {
    let table: serde_json::Value = serde_json::from_str(json).unwrap();
    table["partitiontable"][key].as_str().unwrap().to_owned()
}

/// The partitions as they ought to be; where they start is taken from `nodelith` itself, and compared with sfdisk's.
fn partitions(raw: &Path, json: &str, manifest: &Manifest) -> Vec<Partition> {
    let table: serde_json::Value = serde_json::from_str(json).unwrap();
    let hash: Sha256 = manifest.root_hash.as_deref().unwrap().parse().unwrap();
    let [root, verity] = nodelith::format::verity::RootHash(hash).partition_uuids();
    let esp = Uuid::parse_str(table["partitiontable"]["partitions"][0]["uuid"].as_str().unwrap()).unwrap();
    let name = &manifest.name;
    let labels = ["esp".to_owned(), format!("{name}-root"), format!("{name}-verity")];
    let roles = [Role::Esp, Role::Root, Role::RootVerity].into_iter().zip([esp, root, verity]).zip(labels);
    let mut file = fs::File::open(raw).unwrap();
    roles
        .map(|((role, uuid), label)| {
            let (start, size) = gpt::find(&mut file, role).unwrap();
            Partition { role, uuid, label, start, size }
        })
        .collect()
}

/// Every path that erofs-utils extract is in the manifest, with its target and digest, and no other; root, who may set them,
/// also sees mode, owner and time.
fn extracted_is(tools: &Tools, root: &Path, manifest: &Manifest, files: &Path) {
    let keep = if is_root() { "--preserve" } else { "--no-preserve" };
    let extract = format!("--extract={}", files.display());
    tools.must("fsck.erofs", &[&extract, &keep, &root]);
    let mut todo = vec![files.to_owned()];
    let mut seen = 0;
    while let Some(at) = todo.pop() {
        let path = format!("/{}", nodelith::tree::show(at.strip_prefix(files).unwrap().as_os_str().as_bytes()));
        let entry = manifest.paths.get(&path).unwrap_or_else(|| panic!("{path} was invented"));
        let original = entry.mode.starts_with('h').then(|| format!("/{}", entry.target.as_deref().unwrap()));
        let entry = original.map_or(entry, |target| &manifest.paths[&target]);
        let found = fs::symlink_metadata(&at).unwrap();
        same(entry, &at, &found, manifest.epoch, &path);
        if found.is_dir() {
            todo.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    assert_eq!(seen, manifest.paths.len(), "paths were lost");
}

fn same(entry: &Entry, at: &Path, found: &fs::Metadata, epoch: u64, path: &str) {
    let kind = found.file_type();
    let letter = if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_file() {
        'f'
    } else {
        '?'
    };
    let mode = if kind.is_symlink() { entry.mode[1..].to_owned() } else { format!("{:04o}", found.mode() & 0o7777) };
    assert!(entry.mode.starts_with(letter), "{path} is {letter}, not {}", entry.mode);
    if is_root() {
        assert_eq!(format!("{letter}{mode}"), entry.mode, "{path}");
        assert_eq!(format!("{}:{}", found.uid(), found.gid()), entry.owner, "{path}");
        assert_eq!(found.mtime().unsigned_abs(), epoch, "{path}");
    }
    if kind.is_symlink() {
        let target = fs::read_link(at).unwrap();
        assert_eq!(Some(nodelith::tree::show(target.as_os_str().as_bytes())), entry.target, "{path}");
    }
    if kind.is_file() {
        assert_eq!(Some(digest(at)), entry.sha256, "{path}");
    }
}
