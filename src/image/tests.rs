//! Small images, taken apart again by other readers.

#![expect(clippy::disallowed_methods, reason = "damages files of the store, and runs a process to be killed")]

use super::{Image, Recipe, build, keyed};
use crate::digest::Sha256;
use crate::error::{Kind, kind_of};
use crate::format::gpt::{Role, SECTOR};
use crate::format::{pe, verity};
use crate::report::Silent;
use crate::store::Store;
use crate::tree::{Node, Tree, What};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use object::read::{Object as _, ObjectSection as _};
use proptest::prelude::*;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::sync::Arc;

fn trees(text: &str) -> (Tree, Tree) {
    let origin = Arc::from("test");
    let (mut root, mut initrd) = (Tree::new(), Tree::new());
    root.file("etc/hostname", 0o644, text, &origin).unwrap();
    root.file("usr/lib/big", 0o644, "0123456789abcdef".repeat(40_000), &origin).unwrap();
    initrd.file("init", 0o755, "#!", &origin).unwrap();
    (root, initrd)
}

fn built(text: &str, extra: &[String], dir: &Path) -> crate::error::Result<Image> {
    let store = tempfile::tempdir().unwrap();
    built_with(&Store::open(store.path()).unwrap(), text, extra, dir)
}

fn built_with(store: &Store, text: &str, extra: &[String], dir: &Path) -> crate::error::Result<Image> {
    let (root, initrd) = trees(text);
    built_of(store, (&root, &initrd), extra, dir)
}

fn built_of(
    store: &Store,
    (root, initrd): (&Tree, &Tree),
    extra: &[String],
    dir: &Path,
) -> crate::error::Result<Image> {
    let stub = pe::sample_stub(5);
    let (kernel, os_release, uname) = (&b"MZ kernel"[..], "ID=x\n", "6.12.1");
    let recipe = Recipe {
        name: "worker",
        root,
        initrd,
        kernel,
        stub: &stub,
        os_release,
        cmdline_extra: extra,
        uname,
        epoch: 1_700_000_000,
    };
    build(&recipe, dir, store, &Silent)
}

#[test]
fn every_part_is_where_the_table_says_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let image = built("node", &["quiet".into()], dir.path()).unwrap();
    let raw = std::fs::read(dir.path().join("worker.raw")).unwrap();
    let efi = std::fs::read(dir.path().join("worker.efi")).unwrap();
    for output in &image.outputs {
        let bytes = std::fs::read(dir.path().join(&output.file)).unwrap();
        assert_eq!((bytes.len() as u64, Sha256::of(&bytes)), (output.size, output.sha256), "{}", output.file);
    }

    let table = gptman::GPT::read_from(&mut Cursor::new(&raw), SECTOR).unwrap();
    let part = |number: u32, role: Role| {
        let entry = &table[number];
        assert_eq!(entry.partition_type_guid, role.guid().to_bytes_le());
        let range = (entry.starting_lba * SECTOR) as usize..((entry.ending_lba + 1) * SECTOR) as usize;
        let told = image.partition(role).unwrap();
        assert_eq!((told.start, told.start + told.size), (range.start as u64, range.end as u64));
        assert_eq!(entry.unique_partition_guid, told.uuid.to_bytes_le());
        &raw[range]
    };
    let (esp, root, tree) = (part(1, Role::Esp), part(2, Role::Root), part(3, Role::RootVerity));
    assert_eq!(table[2].partition_name.as_str(), "worker-root");

    // The hash tree is of the root that is on the disk, and the kernel is told so.
    let salt = tree[88..120].try_into().unwrap();
    let uuid = tree[16..32].try_into().unwrap();
    let mut again = Vec::new();
    let hash = verity::format(&mut &root[..], root.len() as u64, &salt, uuid, &mut again).unwrap();
    assert_eq!((hash, again.as_slice()), (image.root_hash, tree));
    assert_eq!(image.cmdline, format!("roothash={hash} quiet"));
    assert_eq!(image.partition(Role::Root).unwrap().uuid.simple().to_string(), hash.to_string()[..32]);
    assert_eq!(image.partition(Role::RootVerity).unwrap().uuid.simple().to_string(), hash.to_string()[32..]);
    let uki = object::read::pe::PeFile64::parse(&*efi).unwrap();
    assert_eq!(uki.section_by_name(".cmdline").unwrap().data().unwrap(), image.cmdline.as_bytes());

    let fs = EroFS::new(SliceImage::new(root)).unwrap();
    let mut text = String::new();
    fs.open("/etc/hostname").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "node");

    let at = esp.windows(efi.len()).step_by(512).position(|window| window == efi);
    assert!(at.is_some(), "the kernel image stands in the EFI system partition in one piece");
}

#[test]
fn equal_recipes_give_equal_files_and_others_do_not() {
    let files = |threads: usize, text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| built(text, &[], dir.path())).unwrap()
    };
    let one = files(1, "node");
    assert_eq!(one, files(2, "node"));
    let other = files(2, "edon");
    assert_ne!(one.root_hash, other.root_hash);
    assert_ne!(one.disk, other.disk);
    assert!(one.partitions.iter().zip(&other.partitions).all(|(one, other)| one.uuid != other.uuid));
}

/// Archives hold time stamps, so what was kept for another epoch is not theirs.
#[test]
fn what_is_kept_is_of_one_tree_and_one_epoch() {
    let (root, initrd) = trees("a");
    assert_eq!(keyed(&root, 77), keyed(&trees("a").0, 77));
    assert_ne!(keyed(&root, 77), keyed(&root, 78));
    assert_ne!(keyed(&root, 77), keyed(&initrd, 77));
}

#[test]
fn what_the_store_keeps_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let with_store = || {
        let out = tempfile::tempdir().unwrap();
        built_with(&store, "node", &[], out.path()).unwrap()
    };
    let cold = with_store();
    assert_eq!(kept(&store).len(), 2, "one file's extents, and the initrd");
    assert_eq!(with_store(), cold);
    for path in kept(&store) {
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(with_store(), cold);
    }
    let out = tempfile::tempdir().unwrap();
    assert_eq!(built("node", &[], out.path()).unwrap(), cold);
}

/// Every file below the store's kept results.
fn kept(store: &Store) -> Vec<std::path::PathBuf> {
    let mut todo = vec![store.dir().join("memo")];
    let mut files = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() { todo.extend(crate::sys::fs::list(&path).unwrap()) } else { files.push(path) }
    }
    files
}

/// What is done to a root and its initrd between two builds.
#[derive(Debug, Clone)]
enum Edit {
    File {
        at: u8,
        size: usize,
        seed: u8,
        mode: u16,
    },
    Link {
        at: u8,
        to: u8,
    },
    HardLink {
        at: u8,
        to: u8,
    },
    Remove {
        at: u8,
    },
    /// Of the store: a bit of a kept result.
    Damage {
        which: usize,
        at: usize,
    },
}

impl Edit {
    fn apply(&self, trees: [&mut Tree; 2], store: &Store) {
        let origin = Arc::from("edit");
        let path = |at: &u8| format!("usr/{}/{at}", ["lib", "bin", "share"][usize::from(*at % 3)]);
        if let Self::Damage { which, at } = self {
            let files = kept(store);
            if let Some(path) = files.get(which % files.len().max(1)) {
                let mut bytes = std::fs::read(path).unwrap();
                let at = at % bytes.len();
                bytes[at] ^= 0x10;
                std::fs::write(path, bytes).unwrap();
            }
        }
        for tree in trees {
            match self {
                Self::File { at, size, seed, mode } => {
                    // Even seeds compress well, odd ones hardly.
                    let byte = |at: usize| match seed % 2 {
                        0 => (at / 100) as u8 ^ seed,
                        _ => (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed,
                    };
                    tree.file(&path(at), *mode, (0..*size).map(byte).collect::<Vec<_>>(), &origin).unwrap();
                }
                Self::Link { at, to } => tree.symlink(&path(at), &path(to), &origin).unwrap(),
                Self::HardLink { at, to } => {
                    let is_file =
                        |tree: &Tree| matches!(tree.get(path(to)).map(|node| &node.what), Some(What::File(_)));
                    if at != to && is_file(tree) {
                        tree.put(path(at), Node::new(What::HardLink(path(to).into()), 0o644, &origin)).unwrap();
                    }
                }
                Self::Remove { at } => {
                    tree.remove(path(at));
                }
                Self::Damage { .. } => {}
            }
            // Links to what has gone are no tree's.
            let lost = |node: &Node| matches!(&node.what, What::HardLink(to) if tree.get(to).is_none_or(|node| !matches!(node.what, What::File(_))));
            let lost: Vec<_> = tree.iter().filter(|(_, node)| lost(node)).map(|(path, _)| path.to_vec()).collect();
            for path in lost {
                tree.remove(path);
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let size = prop::sample::select(vec![0, 1, 4095, 4096, 4097, 40_000, 131_072, 131_073, 300_000]);
    let mode = prop::sample::select(vec![0o644, 0o755, 0o4755]);
    prop_oneof![
        5 => (0..12u8, size, 0..6u8, mode).prop_map(|(at, size, seed, mode)| Edit::File { at, size, seed, mode }),
        1 => (0..12u8, 0..12u8).prop_map(|(at, to)| Edit::Link { at, to }),
        1 => (0..12u8, 0..12u8).prop_map(|(at, to)| Edit::HardLink { at, to }),
        2 => (0..12u8).prop_map(|at| Edit::Remove { at }),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(which, at)| Edit::Damage { which, at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// A build that takes from the store what earlier builds left there gives what a build of an empty store gives.
    #[test]
    fn after_any_edits_a_warm_build_equals_a_cold_one(rounds in prop::collection::vec(prop::collection::vec(edit(), 1..6), 3)) {
        let dir = tempfile::tempdir().unwrap();
        let warm = Store::open(&dir.path().join("warm")).unwrap();
        let (mut root, mut initrd) = trees("node");
        for (round, edits) in rounds.iter().enumerate() {
            edits.iter().for_each(|edit| edit.apply([&mut root, &mut initrd], &warm));
            let cold = Store::open(&dir.path().join(format!("cold-{round}"))).unwrap();
            let build = |store: &Store| {
                let out = tempfile::tempdir().unwrap();
                built_of(store, (&root, &initrd), &[], out.path()).unwrap()
            };
            prop_assert_eq!(build(&warm), build(&cold), "round {}", round);
        }
    }
}

#[test]
fn outputs_are_never_overwritten_and_command_lines_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("worker.raw")).unwrap();
    assert_eq!(kind_of(&built("x", &[], dir.path()).unwrap_err()), Kind::Environment);
    for extra in ["x".repeat(2000), "a\nb".into()] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kind_of(&built("x", &[extra], dir.path()).unwrap_err()), Kind::Build);
    }
}

/// The directory in which a process of this test builds until it is killed.
const KILLED: &str = "NODELITH_TEST_KILLED";

#[test]
fn a_killed_build_leaves_the_old_output_or_the_new_one() {
    let publish = |out: &Path, text: &str| {
        let slot = crate::sys::slot::Slot::take(out, "worker").unwrap();
        slot.fill(|work| Ok(built(text, &[], work)?.outputs)).unwrap()
    };
    if let Some(out) = std::env::var_os(KILLED) {
        loop {
            publish(Path::new(&out), "even");
            publish(Path::new(&out), "odd");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let known = ["even", "odd"].map(|text| publish(&dir.path().join(text), text));
    let out = dir.path().join("out");
    publish(&out, "even");
    for round in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::tests::a_killed_build_leaves_the_old_output_or_the_new_one"])
            .env(KILLED, &out)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Not awaited but spread: over start, write, sync and exchange.
        std::thread::sleep(std::time::Duration::from_millis(14 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let whole = |outputs: &Vec<crate::manifest::Output>| {
            outputs.iter().all(|output| {
                let bytes = std::fs::read(out.join("worker").join(&output.file)).unwrap_or_default();
                Sha256::of(&bytes) == output.sha256
            })
        };
        assert_eq!(known.iter().filter(|outputs| whole(outputs)).count(), 1, "round {round}");
    }
    publish(&out, "even");
    let names = crate::sys::fs::list(&out).unwrap();
    let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, [".worker.lock", "worker"], "what the killed left is gone");
}
