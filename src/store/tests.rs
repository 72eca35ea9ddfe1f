//! The store under damage, hostile packages and company.

#![expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]

use super::*;
use crate::error::kind_of;
use crate::format::deb::tests::deb_of;
use std::os::unix::fs::PermissionsExt as _;
use tar::EntryType::{Directory, Link, Regular, Symlink};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn put(store: &Store, bytes: &[u8]) -> Sha256 {
    let sha256 = Sha256::of(bytes);
    store.ensure(&sha256, bytes.len() as u64, |sink| sink(bytes)).unwrap();
    sha256
}

/// Regular files below a directory, but for locks and the cache tag.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("locks") {
            found.extend(files(&path));
        } else if path.is_file() && !path.ends_with("CACHEDIR.TAG") {
            found.push(path);
        }
    }
    found
}

#[test]
fn only_the_right_bytes_become_an_object() {
    let (_dir, store) = store();
    let want = Sha256::of(b"right");
    let cases: [(&[u8], &str); 3] = [(b"wrong", "these hash to"), (b"righ", "only 4 came"), (b"rightt", "more than")];
    for (bytes, message) in cases {
        let error = store.ensure(&want, 5, |sink| sink(bytes)).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Integrity);
        assert!(format!("{error:#}").contains(message), "{error:#}");
        assert_eq!(files(store.dir()), Vec::<PathBuf>::new());
    }
    assert_eq!(put(&store, b"right"), want);
    for check in [Check::Later, Check::Now] {
        assert_eq!(store.content(&want, 5, check).unwrap().unwrap().read().unwrap(), b"right");
        assert_eq!(kind_of(&store.content(&want, 6, check).unwrap_err()), Kind::Integrity);
    }
}

#[test]
fn damage_is_found_and_removed() {
    let (_dir, store) = store();
    let sha256 = put(&store, b"sound");
    let path = store.object(&sha256).unwrap().unwrap();
    std::fs::write(&path, b"sOund").unwrap();
    assert_eq!(store.object(&sha256).unwrap(), None);
    assert!(!path.exists());

    let deb = put(&store, &deb_of("Package: x\n", &[("./usr/", Directory, b""), ("./usr/f", Regular, b"file")]));
    store.unpack(&deb).unwrap();
    for suffix in ["tar", "index"] {
        let path = store.dir().join(format!("unpacked/{deb}.{suffix}"));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(store.unpacked(&deb, Check::Now).unwrap().is_none(), "{suffix}");
        store.unpack(&deb).unwrap();
        assert!(store.unpacked(&deb, Check::Now).unwrap().is_some(), "{suffix}");
    }
}

#[test]
fn a_full_disk_is_named_with_its_need_and_leaves_nothing() {
    let (_dir, mut store) = store();
    store.free = Some(1 << 20);
    let error = store.ensure(&Sha256::of(b"x"), 5 << 20, |_| Ok(())).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Environment);
    let text = format!("{error:#}");
    assert!(text.contains("needs 5 MiB, 1 MiB are free") && text.contains("objects/"), "{text}");
    assert_eq!(files(store.dir()), Vec::<PathBuf>::new());

    let error = cannot_write(io::ErrorKind::StorageFull.into(), Path::new("/x/y"), 3 << 20);
    assert_eq!(kind_of(&error), Kind::Environment);
    assert!(format!("{error:#}").contains("/x/y needs 3 MiB"));
}

#[test]
fn unpacked_packages_read_back() {
    let (_dir, store) = store();
    let deb = put(&store, &deb_of("Package: x\n", &[("./usr/", Directory, b""), ("./usr/f", Regular, b"file")]));
    let package = store.unpack(&deb).unwrap();
    let origin: Arc<str> = "deb x".into();
    let nodes: Vec<_> = package.nodes(&origin).collect();
    assert_eq!(package.control(), "Package: x\n");
    let crate::tree::What::File(content) = &nodes[1].1.what else { panic!("not a file") };
    assert_eq!((nodes[1].0, content.read().unwrap()), (&b"usr/f"[..], b"file".to_vec()));
}

#[test]
fn a_hostile_package_leaves_nothing() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    let deb = put(&store, &deb_of("Package: x\n", &[("./l", Symlink, b"../../outside"), ("./l/x", Regular, b"x")]));
    assert_eq!(kind_of(&store.unpack(&deb).unwrap_err()), Kind::Integrity);
    assert_eq!(kind_of(&store.extract(&[deb]).unwrap_err()), Kind::Integrity);
    assert_eq!(files(store.dir()).len(), 1, "only the object itself");
    assert!(!outside.exists());

    // The same by two packages: each is sound alone.
    let link = put(&store, &deb_of("Package: a\n", &[("./l", Symlink, b"../../../outside")]));
    let file = put(&store, &deb_of("Package: b\n", &[("./l/x", Regular, b"x")]));
    assert_eq!(kind_of(&store.extract(&[link, file]).unwrap_err()), Kind::Integrity);
    assert!(!outside.exists());
    // A link that leaves is not made at all.
    let tool = store.extract(&[link]).unwrap();
    assert!(tool.join("l").symlink_metadata().is_err());
}

#[test]
fn a_tool_is_extracted_once_without_set_id_bits() {
    let (_dir, store) = store();
    let deb = put(&store, &deb_of("Package: x\n", &[("./usr/bin/", Directory, b""), ("./usr/bin/x", Regular, b"#!")]));
    let tool = store.extract(&[deb]).unwrap();
    assert_eq!(std::fs::read(tool.join("usr/bin/x")).unwrap(), b"#!");
    assert_eq!(tool.join("usr/bin/x").metadata().unwrap().permissions().mode() & 0o7000, 0);
    assert_eq!(store.extracted(&[deb], Check::Now), Some(tool.clone()));
    assert_eq!(store.extract(&[deb]).unwrap(), tool);
    assert_eq!(sys::fs::list(&store.tmp()).unwrap(), Vec::<PathBuf>::new());
}

/// What is done to a path.
type Damage = &'static dyn Fn(&Path);

#[test]
fn a_damaged_tool_is_found_and_extracted_again() {
    let (_dir, store) = store();
    let members: &[crate::format::deb::tests::Member<'_>] = &[
        ("./usr/bin/", Directory, b""),
        ("./usr/bin/x", Regular, b"#!"),
        ("./usr/empty/", Directory, b""),
        ("./usr/hard", Link, b"./usr/bin/x"),
        ("./usr/link", Symlink, b"bin/x"),
    ];
    let debs = [put(&store, &deb_of("Package: x\n", members))];
    let tool = store.extract(&debs).unwrap();
    let damages: [(&str, Damage); 9] = [
        ("usr/bin/x", &|path| std::fs::write(path, "#?").unwrap()),
        ("usr/bin/x", &|path| std::fs::write(path, "").unwrap()),
        ("usr/bin/x", &|path| std::fs::remove_file(path).unwrap()),
        ("usr/bin/x", &|path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap()),
        ("usr/hard", &|path| std::fs::remove_file(path).unwrap()),
        ("usr/empty", &|path| std::fs::remove_dir(path).unwrap()),
        ("usr/link", &|path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("bin/y", path).unwrap();
        }),
        (".nodelith-listing", &|path| std::fs::remove_file(path).unwrap()),
        (".nodelith-listing", &|path| std::fs::write(path, "").unwrap()),
    ];
    for (path, damage) in damages {
        damage(&tool.join(path));
        let error = verify_tool(&tool).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Integrity);
        assert!(format!("{error:#}").contains(path), "{error:#}");
        assert_eq!(store.extracted(&debs, Check::Now), None);
        assert_eq!(store.extract(&debs).unwrap(), tool);
        verify_tool(&tool).unwrap();
    }
    std::fs::write(tool.join("usr/bin/x.pyc"), "a cache").unwrap();
    assert_eq!(store.extract(&debs).unwrap(), tool);
    assert!(tool.join("usr/bin/x.pyc").exists(), "what a program left beside its files is no damage");
}

#[test]
fn two_at_once_make_an_object_once() {
    let (_dir, store) = store();
    let made = std::sync::atomic::AtomicU32::new(0);
    let bytes = vec![7; 1 << 20];
    let sha256 = Sha256::of(&bytes);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                store
                    .ensure(&sha256, bytes.len() as u64, |sink| {
                        made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        bytes.chunks(1000).try_for_each(&mut *sink)
                    })
                    .unwrap();
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
}

#[test]
fn leftovers_of_a_killed_build_are_swept_but_not_those_of_a_live_one() {
    let (dir, store) = store();
    let leftover = store.tmp().join(".nodelith-old");
    std::fs::write(&leftover, b"half").unwrap();
    let second = Store::open(&dir.path().join("store")).unwrap();
    assert!(leftover.exists(), "the first is still open");
    drop((store, second));
    Store::open(&dir.path().join("store")).unwrap();
    assert!(!leftover.exists());
}
