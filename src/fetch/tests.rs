#![expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]

use super::*;
use crate::error::kind_of;
use crate::remote::testing::Answer;
use crate::report::Silent;
use crate::resolve::testing::Fixture;
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
    let result = fetch(locked, &fixture.store, &fixture.remote(offline), &Silent);
    assert_eq!(std::fs::read_dir(fixture.store.tmp()).unwrap().count(), 0, "nothing half-written stays");
    result
}

fn app(fetched: &Fetched) -> Vec<u8> {
    let (_, package) = fetched.packages(Use::Image).find(|(package, _)| package.name == "app").unwrap();
    let origin: Arc<str> = "deb app 1".into();
    let (_, node) = package.nodes(&origin).find(|(path, _)| *path == b"usr/share/app").unwrap();
    let What::File(content) = node.what else { panic!("not a file") };
    content.read().unwrap()
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
    assert_eq!(std::fs::read(fetched.kmod().join("usr/share/kmod")).unwrap(), b"kmod 1");
    assert_eq!(fetched.packages(Use::Initrd).count(), Use::Initrd.packages().len());
    assert_eq!(fixture.server.asked("_1_amd64.deb"), 10, "nothing that a build does not need");
}

#[test]
fn a_damaged_store_is_mended() {
    let (fixture, locked) = with_app();
    run(&fixture, &locked, false).unwrap();
    for dir in ["unpacked", "objects"] {
        let mut todo = vec![fixture.store.dir().join(dir)];
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
    assert_eq!(app(&run(&fixture, &locked, false).unwrap()), b"app 1");
    assert_eq!(fixture.server.asked("app_1_amd64.deb"), 2);
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
            scope.spawn(move || assert_eq!(app(&fetch(locked, store, &remote, &Silent).unwrap()), b"app 1"));
        }
    });
    assert!(fixture.store.has(&locked.packages(Use::Image).next().unwrap().sha256));
}
