//! Fetching from an archive that lies, a store that rots, a disk that is full.

#![expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]

use super::*;
use crate::error::kind_of;
use crate::remote::testing::Answer;
use crate::report::Silent;
use crate::resolve::testing::Fixture;
use crate::store::verify_tool;
use crate::tree::What;
use std::sync::Arc;
use tar::EntryType::{Char, Regular, Symlink};

const APP: &str = "/debian/pool/main/app/app_1_amd64.deb";

fn with_app() -> (Fixture, Locked) {
    let mut fixture = Fixture::new();
    fixture.package("trixie", "app", "1", "");
    fixture.publish();
    let locked = fixture.locked(&["app"]);
    (fixture, locked)
}

fn run(fixture: &Fixture, locked: &Locked, offline: bool) -> Result<Fetched> {
    let result = fetch(locked, &fixture.store, &fixture.remote(offline), Check::Now, &Silent);
    assert_eq!(std::fs::read_dir(fixture.store.tmp()).unwrap().count(), 0, "nothing half-written stays");
    result
}

fn app(fetched: &Fetched) -> Vec<u8> {
    try_app(fetched).unwrap()
}

fn try_app(fetched: &Fetched) -> Result<Vec<u8>> {
    let (_, package) = fetched.packages(Use::Image).find(|(package, _)| package.name == "app").unwrap();
    let origin: Arc<str> = "deb app 1".into();
    let (_, node) = package.nodes(&origin).find(|(path, _)| *path == b"usr/share/app").unwrap();
    let What::File(content) = node.what else { panic!("not a file") };
    content.read()
}

#[test]
fn a_warm_store_needs_no_network() {
    let (fixture, locked) = with_app();
    let cold = run(&fixture, &locked, true).unwrap_err();
    assert_eq!(kind_of(&cold), Kind::Network);
    assert!(format!("{cold:#}").contains("is not in the store, and --offline"), "{cold:#}");
    assert_eq!(app(&run(&fixture, &locked, false).unwrap()), b"app 1");
    let fetched = run(&fixture, &locked, true).unwrap();
    assert_eq!(app(&fetched), b"app 1");
    assert_eq!(std::fs::read(fetched.kmod().unwrap().join("usr/share/kmod")).unwrap(), b"kmod 1");
    assert_eq!(fetched.packages(Use::Initrd).count(), Use::Initrd.packages().len());
    assert_eq!(fixture.server.asked("_1_amd64.deb"), 10, "nothing that a build does not need");
}

/// Flips a bit in the middle of every file of the store's packages.
fn damage(fixture: &Fixture) {
    let mut todo = ["unpacked", "objects"].map(|dir| fixture.store.dir().join(dir)).to_vec();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(crate::sys::fs::list(&path).unwrap());
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn a_damaged_store_is_mended() {
    let (fixture, locked) = with_app();
    run(&fixture, &locked, false).unwrap();
    damage(&fixture);
    assert_eq!(app(&run(&fixture, &locked, false).unwrap()), b"app 1");
    assert_eq!(fixture.server.asked("app_1_amd64.deb"), 2);
}

#[test]
fn damage_that_shows_late_is_mended_and_the_work_done_again() {
    let (fixture, locked) = with_app();
    run(&fixture, &locked, false).unwrap();
    // The content itself, of a tar whose size and index are right.
    let deb = locked.packages(Use::Image).find(|package| package.name == "app").unwrap().sha256;
    let tar = fixture.store.dir().join(format!("unpacked/{deb}.tar"));
    let mut bytes = std::fs::read(&tar).unwrap();
    let at = bytes.windows(5).position(|window| window == b"app 1").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&tar, bytes).unwrap();
    let tries = std::sync::atomic::AtomicU32::new(0);
    let content = |fetched: &Fetched| {
        tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        try_app(fetched)
    };
    assert_eq!(with_inputs(&locked, &fixture.store, &fixture.remote(false), &Silent, content).unwrap(), b"app 1");
    assert_eq!(tries.into_inner(), 2);
    let never = |_: &Fetched| -> Result<()> { Err(Fault::new(Kind::Integrity, "always").into()) };
    assert!(with_inputs(&locked, &fixture.store, &fixture.remote(false), &Silent, never).is_err(), "not for ever");
}

#[test]
fn a_damaged_tool_is_mended_before_it_runs_and_not_looked_at_otherwise() {
    let (fixture, locked) = with_app();
    let file = run(&fixture, &locked, false).unwrap().kmod().unwrap().join("usr/share/kmod");
    std::fs::write(&file, b"kmod 2").unwrap();
    let read = |fetched: &Fetched| Ok(std::fs::read(fetched.kmod()?.join("usr/share/kmod"))?);
    let with = |use_them: &dyn Fn(&Fetched) -> Result<Vec<u8>>| {
        with_inputs(&locked, &fixture.store, &fixture.remote(true), &Silent, use_them).unwrap()
    };
    assert_eq!(with(&read), b"kmod 2", "a build that runs no tool does not pay for it");
    assert_eq!(with(&|fetched| verify_tool(fetched.kmod()?).and_then(|()| read(fetched))), b"kmod 1");
    std::fs::write(&file, b"kmod 2").unwrap();
    fetch_tool(&locked, Use::Kmod, &fixture.store, &fixture.remote(true), &Silent).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"kmod 1");
}

#[test]
fn a_package_with_other_bytes_is_refused_by_name() {
    let (fixture, locked) = with_app();
    let Answer::Good(good) = fixture.server.answer(APP) else { panic!("not published") };
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let cases = [
        (Answer::Good(forged), Kind::Integrity, "these hash to"),
        (Answer::Truncated(good.clone()), Kind::Network, "downloading app 1"),
        (Answer::Status(404), Kind::Network, "404"),
    ];
    for (answer, kind, part) in cases {
        fixture.server.set(APP, answer);
        let error = run(&fixture, &locked, false).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(kind_of(&error), kind, "{text}");
        assert!(text.contains(part) && text.contains("app"), "{text}");
    }
}

#[test]
fn hostile_packages_are_refused_by_name() {
    let cases: [(&[crate::format::deb::tests::Member<'_>], &str); 4] = [
        (&[("/etc/cron.d/x", Regular, b"x")], "unsafe path"),
        (&[("./../../x", Regular, b"x")], "unsafe path"),
        (&[("./l", Symlink, b"/etc"), ("./l/x", Regular, b"x")], "leads through `l`"),
        (&[("./dev/sda", Char, b"")], "Char"),
    ];
    for (members, part) in cases {
        let mut fixture = Fixture::new();
        fixture.package_of("trixie", "app", "1", "", members);
        fixture.publish();
        let error = run(&fixture, &fixture.locked(&["app"]), false).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(kind_of(&error), Kind::Integrity, "{text}");
        assert!(text.contains(part) && text.contains("app 1"), "{text}");
    }
}

#[test]
fn a_full_disk_is_told_before_anything_is_downloaded() {
    let (mut fixture, locked) = with_app();
    Arc::get_mut(&mut fixture.store).unwrap().free = Some(100);
    let error = run(&fixture, &locked, false).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Environment);
    let text = format!("{error:#}");
    assert!(text.contains("the disk is full") && text.contains(&*fixture.store.dir().to_string_lossy()), "{text}");
    assert_eq!(fixture.server.asked(".deb"), 0);
}

#[test]
fn two_builds_at_once_share_the_work() {
    let (fixture, locked) = with_app();
    let second = Store::open(fixture.store.dir()).unwrap();
    std::thread::scope(|scope| {
        for store in [&*fixture.store, &second] {
            let (locked, remote) = (&locked, fixture.remote(false));
            scope.spawn(move || {
                assert_eq!(app(&fetch(locked, store, &remote, Check::Later, &Silent).unwrap()), b"app 1")
            });
        }
    });
    assert!(fixture.store.has(&locked.packages(Use::Image).next().unwrap().sha256));
}

/// Stands in for Go's compiler. What it does is decided by the text of `go.mod`.
const COMPILER: &str = r#"#!/bin/sh
mode=$(cat go.mod)
case "$1 $mode" in
list*forged) echo "verifying x@v1.0.0: checksum mismatch" >&2; exit 1;;
list*unpinned) echo "missing go.sum entry for module" >&2; exit 1;;
list*away) echo "dial tcp: connection refused" >&2; exit 1;;
build*broken) echo "x.go:1: syntax error" >&2; exit 1;;
build*adds) echo "y v1.0.0 h1:=" >> go.sum;;
build*random) salt=$PWD;;
esac
[ "$1" = build ] || exit 0
[ "$GOPROXY" = off ] && [ "$GOSUMDB" = off ] && [ "$GOTOOLCHAIN" = local ] && [ "$CGO_ENABLED" = 0 ] || exit 9
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
echo "program $mode $salt" > "$out"
"#;

fn with_go(mode: &str) -> (Fixture, crate::spec::Spec) {
    let mut fixture = Fixture::new();
    let members = [("./usr/lib/go-1.26/bin/go", Regular, COMPILER.as_bytes())];
    fixture.package_of("trixie-backports", "golang-1.26-go", "2", "", &members);
    fixture.publish();
    let module = fixture.dir.path().join("overlays/base/go/tool");
    std::fs::create_dir_all(&module).unwrap();
    std::fs::write(module.join("go.mod"), mode).unwrap();
    std::fs::write(module.join("go.sum"), "x v1.0.0 h1:=\n").unwrap();
    let role = "[binaries.tool]\ngo = \"go/tool\"\npackage = \"example.org/x/cmd/tool\"\npath = \"usr/bin/tool\"\n";
    let spec = fixture.spec_with(&[], role);
    (fixture, spec)
}

#[test]
fn a_go_program_is_built_once_and_a_cold_store_must_reach_the_same_bytes() {
    let (fixture, spec) = with_go("steady");
    let lock = fixture.resolve(&spec, None).unwrap().lock;
    assert_eq!(fixture.resolve(&spec, None).unwrap().lock, lock);
    let locked = lock.bind(spec).unwrap();
    let cold = Store::open(&fixture.dir.path().join("cold")).unwrap();
    let fetched = fetch(&locked, &cold, &fixture.remote(false), Check::Later, &Silent).unwrap();
    assert_eq!(fetched.binary("base/tool").unwrap().read().unwrap(), b"program steady \n");
    assert_eq!(crate::sys::fs::list(&cold.dir().join("work")).unwrap(), Vec::<PathBuf>::new());
    fetch(&locked, &cold, &fixture.remote(true), Check::Later, &Silent).unwrap();

    let (fixture, spec) = with_go("random");
    let locked = fixture.resolve(&spec, None).unwrap().lock.bind(spec).unwrap();
    let cold = Store::open(&fixture.dir.path().join("cold")).unwrap();
    let error = fetch(&locked, &cold, &fixture.remote(false), Check::Later, &Silent).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Integrity);
    assert!(format!("{error:#}").contains("base/tool was built to"), "{error:#}");
}

#[test]
fn a_go_program_that_cannot_be_built_says_whose_fault_it_is() {
    let cases = [
        ("forged", Kind::Integrity, "checksum mismatch"),
        ("unpinned", Kind::Spec, "do not pin every module"),
        ("adds", Kind::Spec, "does not name every module"),
        ("away", Kind::Network, "connection refused"),
        ("broken", Kind::Build, "syntax error"),
    ];
    for (mode, kind, part) in cases {
        let (fixture, spec) = with_go(mode);
        let error = fixture.resolve(&spec, None).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(kind_of(&error), kind, "{text}");
        assert!(text.contains(part) && text.contains("base/tool"), "{text}");
        assert_eq!(std::fs::read_dir(fixture.store.tmp()).unwrap().count(), 0);
    }
}
