//! Every way in which an image can stop to be what its inputs would make.

#![expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]

use super::*;
use crate::lock::{Lock, VERSION};
use crate::spec::requests::Requests;
use std::collections::BTreeMap;
use std::fs::{self as host, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

struct House(tempfile::TempDir);

/// What is done to a house, and how.
type Change<'a> = (&'a str, &'a dyn Fn(&House));

impl House {
    fn new() -> Self {
        let house = Self(tempfile::tempdir().unwrap());
        house.put("overlays/base/role.toml", "summary = \"s\"\n");
        house.put("overlays/base/rootfs/etc/motd", "hello\n");
        house.put(
            "worker.toml",
            "schema = 1\nname = \"worker\"\nepoch = 2026-01-01T00:00:00Z\nroles = [\"base\"]\n[debian]\nsuites = [\"trixie\"]\n",
        );
        house
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        host::create_dir_all(path.parent().unwrap()).unwrap();
        host::write(path, text).unwrap();
    }

    fn locked(&self, spec: &str, overlays: &str) -> Locked {
        let spec = crate::spec::load(&self.path(spec), &self.path(overlays)).unwrap();
        let requests = Requests::of(&spec).unwrap().digest();
        let lock =
            Lock { version: VERSION, requests, releases: Vec::new(), packages: Vec::new(), binaries: Vec::new() };
        lock.bind(spec).unwrap()
    }

    fn inputs(&self) -> Inputs {
        Inputs::of(&self.locked("worker.toml", "overlays")).unwrap()
    }

    /// Builds an "image" of one file, `during` which something may happen to the inputs.
    fn build_while(&self, during: impl FnOnce()) {
        let (before, out) = (self.inputs(), self.path("out"));
        let slot = Slot::take(&out, "worker").unwrap();
        let state = slot.fill(|work| {
            host::write(work.join("worker.raw"), b"disk").unwrap();
            let manifest = manifest();
            let text = manifest.to_text().unwrap();
            host::write(work.join(manifest::FILE), &text).unwrap();
            State::of(work, &before, &manifest, &text)
        });
        during();
        remember(&slot, state.unwrap(), &self.inputs()).unwrap();
    }

    fn build(&self) {
        self.build_while(|| ());
    }

    fn stands(&self) -> bool {
        self.stands_in("out", &self.inputs())
    }

    fn stands_in(&self, out: &str, inputs: &Inputs) -> bool {
        let out = self.path(out);
        find(&Slot::take(&out, "worker").unwrap(), inputs).is_some()
    }

    fn state(&self) -> State {
        serde_json::from_slice(&host::read(self.path("out/.worker.state")).unwrap()).unwrap()
    }
}

fn manifest() -> Manifest {
    Manifest {
        schema: manifest::SCHEMA,
        name: "worker".into(),
        nodelith: "0".into(),
        epoch: 1,
        lock: Sha256::of(b""),
        root_hash: Some("00".into()),
        reference: None,
        digest: None,
        containers: std::collections::BTreeMap::new(),
        cmdline: Some("ro".into()),
        listeners: Vec::new(),
        certificates: BTreeMap::new(),
        outputs: vec![Output { file: "worker.raw".into(), size: 4, sha256: Sha256::of(b"disk") }],
        packages: Vec::new(),
        binaries: Vec::new(),
        skew: std::collections::BTreeMap::new(),
        paths: BTreeMap::new(),
    }
}

#[test]
fn a_second_build_has_nothing_to_do() {
    let house = House::new();
    assert!(!house.stands(), "nothing was built");
    house.build();
    assert!(house.stands() && house.stands());
    let out = house.path("out");
    let made = find(&Slot::take(&out, "worker").unwrap(), &house.inputs()).unwrap();
    assert_eq!((made.root_hash.as_deref(), made.outputs), (Some("00"), manifest().outputs));
    // Another directory has its own state.
    assert!(!house.stands_in("elsewhere", &house.inputs()));
}

#[test]
fn changed_inputs_are_seen() {
    let changes: [Change<'_>; 8] = [
        ("an overlay's file", &|house| house.put("overlays/base/rootfs/etc/motd", "hellO\n")),
        ("a new file", &|house| house.put("overlays/base/rootfs/etc/new", "")),
        ("a vanished file", &|house| host::remove_file(house.path("overlays/base/rootfs/etc/motd")).unwrap()),
        ("a renamed file", &|house| {
            host::rename(house.path("overlays/base/rootfs/etc/motd"), house.path("overlays/base/rootfs/etc/x"))
                .unwrap();
        }),
        ("a mode", &|house| {
            let path = house.path("overlays/base/rootfs/etc/motd");
            host::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }),
        ("a link in a file's place", &|house| {
            let path = house.path("overlays/base/rootfs/etc/motd");
            host::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("hello\n", path).unwrap();
        }),
        ("the role itself", &|house| house.put("overlays/base/role.toml", "summary = \"t\"\n")),
        ("the spec", &|house| {
            let text = host::read_to_string(house.path("worker.toml")).unwrap();
            house.put("worker.toml", &text.replace("2026", "2027"));
        }),
    ];
    for (what, change) in changes {
        let house = House::new();
        house.build();
        assert!(house.stands(), "{what}");
        change(&house);
        assert!(!house.stands(), "{what}");
        house.build();
        assert!(house.stands(), "{what}: built again");
    }
}

#[test]
fn another_lock_or_other_overlays_are_other_inputs() {
    let house = House::new();
    house.build();
    let locked = house.locked("worker.toml", "overlays");
    let mut lock = locked.lock().clone();
    lock.releases.push(crate::lock::Release {
        suite: "trixie".into(),
        date: String::new(),
        sha256: Sha256::of(b""),
        signed_by: Vec::new(),
    });
    let relocked = lock.bind(locked.spec().clone()).unwrap();
    assert!(!house.stands_in("out", &Inputs::of(&relocked).unwrap()));
    house.put("others/base/role.toml", "summary = \"s\"\n");
    assert!(!house.stands_in("out", &Inputs::of(&house.locked("worker.toml", "others")).unwrap()));
    assert!(house.stands());
}

#[test]
fn inputs_that_are_touched_but_equal_are_equal() {
    let house = House::new();
    house.build();
    house.put("overlays/base/rootfs/etc/motd", "hello\n");
    assert!(house.stands());
}

#[test]
fn outputs_must_be_whole() {
    let changes: [Change<'_>; 6] = [
        ("other bytes of the same length", &|house| house.put("out/worker/worker.raw", "disc")),
        ("another manifest", &|house| house.put("out/worker/manifest.json", "{}")),
        ("a vanished file", &|house| host::remove_file(house.path("out/worker/worker.raw")).unwrap()),
        ("a file more", &|house| house.put("out/worker/x", "")),
        ("a mode", &|house| {
            // No umask makes it so.
            host::set_permissions(house.path("out/worker/worker.raw"), Permissions::from_mode(0o500)).unwrap();
        }),
        ("a damaged state", &|house| house.put("out/.worker.state", "{")),
    ];
    for (what, change) in changes {
        let house = House::new();
        house.build();
        change(&house);
        assert!(!house.stands(), "{what}");
        house.build();
        assert!(house.stands(), "{what}: built again");
    }
}

#[test]
fn a_time_set_back_hides_nothing() {
    let house = House::new();
    house.build();
    let raw = house.path("out/worker/worker.raw");
    let modified = host::metadata(&raw).unwrap().modified().unwrap();
    house.put("out/worker/worker.raw", "disc");
    host::File::options().write(true).open(&raw).unwrap().set_modified(modified).unwrap();
    assert!(!house.stands());
}

#[test]
fn what_was_only_copied_is_read_once_and_stands() {
    let house = House::new();
    house.build();
    host::create_dir(house.path("copy")).unwrap();
    host::create_dir(house.path("copy/worker")).unwrap();
    for file in ["worker/worker.raw", "worker/manifest.json", ".worker.state"] {
        host::copy(house.path("out").join(file), house.path("copy").join(file)).unwrap();
    }
    assert!(house.stands_in("copy", &house.inputs()));
    house.put("copy/worker/worker.raw", "disc");
    assert!(!house.stands_in("copy", &house.inputs()), "a copy with other bytes");
    host::rename(house.path("out"), house.path("moved")).unwrap();
    assert!(house.stands_in("moved", &house.inputs()));
}

#[test]
fn stamps_of_the_state_s_own_tick_prove_nothing() {
    let house = House::new();
    house.build();
    // As on a file system with coarse times: the output changes, and its stamp does not.
    house.put("out/worker/worker.raw", "disc");
    let mut state = house.state();
    state.stamps = stamps(&house.path("out/worker")).unwrap();
    host::write(house.path("out/.worker.state"), serde_json::to_string(&state).unwrap()).unwrap();
    let times = state.stamps["worker.raw"].inode_changed;
    let tick = std::time::UNIX_EPOCH + std::time::Duration::new(times.0 as u64, times.1 as u32);
    host::File::options().write(true).open(house.path("out/.worker.state")).unwrap().set_modified(tick).unwrap();
    assert!(!house.stands());
}

#[test]
fn inputs_that_change_during_a_build_are_not_remembered() {
    let motd = "overlays/base/rootfs/etc/motd";
    let house = House::new();
    house.build_while(|| house.put(motd, "changed\n"));
    assert!(!house.stands());
    // There and back again: what the build has read in between, nobody knows.
    house.build_while(|| {
        house.put(motd, "other\n");
        house.put(motd, "changed\n");
    });
    assert!(!house.stands());
    house.build();
    assert!(house.stands());
}
