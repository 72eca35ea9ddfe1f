//! dm-verity, GPT, FAT and qcow2 against the tools that everybody uses.

use crate::random::Random;
use crate::tools::tools;
use nodelith::format::qcow2::{self, CLUSTER};
use nodelith::format::{fat, gpt, verity};
use nodelith::sys::region::Disk;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use uuid::Uuid;

/// Around every change of the tree's height, and sizes between.
const BLOCKS: [usize; 17] =
    [1, 2, 3, 127, 128, 129, 255, 256, 257, 1000, 4095, 4096, 4097, 16_383, 16_384, 16_385, 20_001];

#[test]
fn verity_is_veritysetups_byte_for_byte() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut random = Random::new(1);
    for blocks in BLOCKS {
        let data: Vec<u8> = (0..blocks * 512).flat_map(|_| random.next().to_le_bytes()).collect();
        let salt: [u8; 32] = random.noise(32).try_into().unwrap();
        let uuid = Uuid::from_u128(u128::from(random.next()));
        let mut ours = Vec::new();
        let root =
            verity::format(&mut &data[..], data.len() as u64, &salt, uuid.into_bytes(), &mut ours).unwrap().to_string();
        fs::write(at("data"), &data).unwrap();
        fs::write(at("ours"), &ours).unwrap();
        tools.must("veritysetup", &[&"verify", &at("data"), &at("ours"), &root]);

        let _ = fs::remove_file(at("theirs"));
        let salt = salt.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (salt, id) = (format!("--salt={salt}"), format!("--uuid={uuid}"));
        let said = tools.text("veritysetup", &[&"format", &salt, &id, &at("data"), &at("theirs")]);
        assert!(said.lines().any(|line| line.starts_with("Root hash:") && line.ends_with(&root)), "{said}");
        assert!(fs::read(at("theirs")).unwrap() == ours, "{blocks} blocks: the trees differ");

        // One flipped bit, anywhere, and it no longer verifies.
        let mut damaged = data;
        let place = random.below(damaged.len());
        damaged[place] ^= 1;
        fs::write(at("data"), &damaged).unwrap();
        let output = tools.run("veritysetup", &[&"verify", &at("data"), &at("ours"), &root]);
        assert!(!output.status.success(), "{blocks} blocks: damage at {place} is not seen");
    }
}

#[test]
fn sfdisk_reads_the_table_and_finds_nothing_wrong() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(2);
    for case in 0..20 {
        let mut parts: Vec<gpt::Partition> = Vec::new();
        for role in [gpt::Role::Esp, gpt::Role::Root, gpt::Role::RootVerity].into_iter().take(1 + case % 3) {
            let start = parts.last().map_or(gpt::ALIGN, gpt::Partition::next);
            let size = (1 + random.below(40_000) as u64) * 4096;
            let label = format!("{}-{role:?}", ["a", "näme", "x y", "0123456789012345678901234"][case % 4]);
            let uuid = Uuid::from_u128(u128::from(random.next()) << 64 | u128::from(random.next()));
            parts.push(gpt::Partition { role, uuid, label, start, size });
        }
        let path = dir.path().join("disk");
        let file = fs::File::create(&path).unwrap();
        file.set_len(gpt::disk_size(parts.last().unwrap().next())).unwrap();
        let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let disk = Uuid::from_u128(random.next().into());
        gpt::write(&mut file, disk, &parts).unwrap();

        let said = tools.text("sfdisk", &[&"--verify", &path]);
        assert!(said.contains("No errors detected"), "{said}");
        table_is(&tools.text("sfdisk", &[&"--json", &path]), disk, &parts);
    }
}

/// What `sfdisk --json` says is what was meant.
pub fn table_is(json: &str, disk: Uuid, parts: &[gpt::Partition]) {
    let table: serde_json::Value = serde_json::from_str(json).unwrap();
    let table = &table["partitiontable"];
    let same = |found: &serde_json::Value, wanted: &str| {
        assert!(found.as_str().unwrap().eq_ignore_ascii_case(wanted), "{found} is not {wanted}");
    };
    same(&table["label"], "gpt");
    same(&table["id"], &disk.to_string());
    let found = table["partitions"].as_array().unwrap();
    assert_eq!(found.len(), parts.len(), "{json}");
    for (found, part) in found.iter().zip(parts) {
        assert_eq!(found["start"].as_u64().unwrap() * gpt::SECTOR, part.start, "{json}");
        assert_eq!(found["size"].as_u64().unwrap() * gpt::SECTOR, part.size, "{json}");
        same(&found["type"], &part.role.guid().to_string());
        same(&found["uuid"], &part.uuid.to_string());
        assert_eq!(found["name"].as_str().unwrap(), part.label);
        assert_eq!(found["attrs"].as_str().is_some_and(|attrs| attrs.contains("60")), part.role != gpt::Role::Esp);
    }
}

#[test]
fn fsck_fat_and_mtools_read_the_volume() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(3);
    let mib = 1 << 20;
    for (case, size) in [64, 65, 80, 128, 260, 300, 520, 1100].into_iter().enumerate() {
        let size = size * mib + [0, 512, 4096, 1_000_448][case % 4];
        for len in [0, 1, 511, 512, 513, 4095, 4096, 4097, 3_000_001 + random.below(9_000_000)] {
            let content = random.noise(len);
            let serial = random.next() as u32;
            let path = dir.path().join("volume");
            let _ = fs::remove_file(&path);
            let mut file = fs::File::create(&path).unwrap();
            file.set_len(size).unwrap();
            let epoch = [0, 315_532_800, 1_700_000_001, 4_000_000_000][random.below(4)];
            let volume = fat::Volume {
                size,
                offset: mib,
                serial,
                epoch,
                path: &["EFI", "BOOT", "BOOTX64.EFI"],
                content: &content,
            };
            fat::write(&volume, &mut file).unwrap();
            let said = tools.text("fsck.fat", &[&"-n", &"-v", &path]);
            let context = format!("{size} bytes with a file of {len}: {said}");
            assert!(!said.contains("rrors"), "{context}");
            file_is(&path, &content, &context);
            let said = tools.text("minfo", &[&"-i", &path]);
            assert!(said.to_lowercase().contains(&format!("{serial:08x}")), "{said}");
            assert!(said.contains("FAT32"), "{said}");
        }
    }
}

/// mtools copy the file out as it went in, and there is no other.
pub fn file_is(volume: &Path, content: &[u8], context: &str) {
    let tools = tools().unwrap();
    let said = tools.text("mdir", &[&"-i", &volume, &"-b", &"-/", &"::/"]);
    assert_eq!(said.lines().filter(|line| !line.ends_with('/')).collect::<Vec<_>>(), ["::/EFI/BOOT/BOOTX64.EFI"]);
    let out = tempfile::tempdir().unwrap();
    let copy = out.path().join("copy");
    tools.must("mcopy", &[&"-i", &volume, &"::/EFI/BOOT/BOOTX64.EFI", &copy]);
    assert!(fs::read(copy).unwrap() == content, "{context}");
}

#[test]
fn qemu_img_reads_the_same_disk() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (raw_path, path) = (dir.path().join("raw"), dir.path().join("qcow2"));
    let mut random = Random::new(4);
    for size in [1 << 20, (1 << 20) + 512, 3 << 20, 64 << 20, (512 << 20) + (1 << 20), 1030 << 20] {
        let _ = fs::remove_file(&raw_path);
        let disk = Disk::create(&raw_path).unwrap();
        disk.set_len(size).unwrap();
        for _ in 0..random.below(60) {
            let len = (1 + random.below(300_000)).min(size as usize);
            let at = random.next() % (size - len as u64 + 1);
            disk.region(at, len as u64).write_all(&random.noise(len)).unwrap();
        }
        // As `image::forms` writes it, whose tests hold it to the same bytes.
        let used = disk.data(size);
        let mut out = qcow2::tables(size, &used).unwrap();
        for at in (0..).zip(&used).filter(|(_, used)| **used).map(|(cluster, _): (u64, _)| cluster * CLUSTER) {
            let len = CLUSTER.min(size - at);
            disk.region(at, len).read_to_end(&mut out).unwrap();
            out.resize(out.len().next_multiple_of(CLUSTER as usize), 0);
        }
        fs::write(&path, out).unwrap();
        let said = tools.text("qemu-img", &[&"check", &"-f", &"qcow2", &path]);
        assert!(said.contains("No errors were found"), "{said}");
        let said = tools.text("qemu-img", &[&"compare", &"-f", &"raw", &"-F", &"qcow2", &raw_path, &path]);
        assert!(said.contains("identical"), "{said}");
    }
}
