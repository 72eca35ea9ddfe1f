//! Locking against an archive made on the fly: what is chosen, and what is refused.

use super::testing::{DAY, Fixture, Times, image, key, rfc, sign};
use super::*;
use crate::error::{fault_of, kind_of};
use crate::remote::testing::{Answer, Server, remote};
use crate::report::Silent;
use crate::report::testing::Warnings;

const IN_RELEASE: &str = "/debian/dists/trixie/InRelease";

/// Fails unless locking fails so, with a message that holds all of these, and nothing half-written stays.
fn refuses(fixture: &Fixture, old: Option<&Lock>, kind: Kind, parts: &[&str]) {
    let error = fixture.resolve(&fixture.spec(&["base-files"]), old).unwrap_err();
    let text = format!("{error:#}");
    assert_eq!(kind_of(&error), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert_eq!(std::fs::read_dir(fixture.store.tmp()).unwrap().count(), 0);
}

fn with_base() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.package("trixie", "base-files", "13", "");
    fixture.publish();
    fixture
}

#[test]
fn a_lock_is_canonical_and_names_no_mirror() {
    let fixture = with_base();
    let spec = fixture.spec(&["base-files"]);
    let first = fixture.resolve(&spec, None).unwrap();
    let text = first.lock.to_text().unwrap();
    assert!(!text.contains("127.0.0.1") && !text.contains(&*fixture.dir.path().to_string_lossy()));
    assert_eq!(Lock::parse(&spec.lock_path(), &text).unwrap().to_text().unwrap(), text);
    assert!(first.changes.iter().any(|change| change.to_string() == "+ base-files 13  (image)"));

    // A newer release with the same packages leaves the lock alone.
    let now = sys::clock::now();
    fixture.publish_suite("trixie", &Times { date: now - 60, until: now + DAY });
    let second = fixture.resolve(&spec, Some(&first.lock)).unwrap();
    assert_eq!((second.lock.to_text().unwrap(), second.changes), (text, vec![]));
    first.lock.bind(spec).unwrap();
}

#[test]
fn forged_metadata_is_refused() {
    let fixture = with_base();
    let release = fixture.release("trixie", &Times::now());
    let other = key();
    fixture.server.put(IN_RELEASE, sign(&other, &release));
    refuses(&fixture, None, Kind::Integrity, &["suite trixie", "no trusted key"]);

    fixture.publish();
    let Answer::Good(good) = fixture.server.answer(IN_RELEASE) else { panic!("not published") };
    let good = String::from_utf8(good).unwrap();
    fixture.server.put(IN_RELEASE, good.replace("Origin: Test", "Origin: Tesu"));
    refuses(&fixture, None, Kind::Integrity, &["no trusted key"]);
    fixture.server.put(IN_RELEASE, format!("Codename: trixie\n\n{good}"));
    let prepended = fixture.resolve(&fixture.spec(&["base-files"]), None);
    if let Ok(resolution) = prepended {
        // Text before the armour is not under the signature: ignoring it is as good as refusing it.
        assert_eq!(image(&resolution.lock), ["base-files 13"]);
    }
    fixture.server.put(IN_RELEASE, release);
    refuses(&fixture, None, Kind::Integrity, &["not a signed message"]);
    fixture.server.put(IN_RELEASE, vec![0xff; 100]);
    refuses(&fixture, None, Kind::Integrity, &["not text"]);
}

#[test]
fn broken_off_metadata_is_refused() {
    let fixture = with_base();
    let Answer::Good(good) = fixture.server.answer(IN_RELEASE) else { panic!("not published") };
    fixture.server.set(IN_RELEASE, Answer::Truncated(good.clone()));
    refuses(&fixture, None, Kind::Network, &["the release of trixie", &fixture.server.base]);
    fixture.server.set(IN_RELEASE, Answer::Short(good));
    refuses(&fixture, None, Kind::Integrity, &["suite trixie"]);
    fixture.server.set(IN_RELEASE, Answer::Status(404));
    refuses(&fixture, None, Kind::Network, &["404", IN_RELEASE]);
}

#[test]
fn time_goes_forward_only() {
    let fixture = with_base();
    let now = sys::clock::now();
    fixture.publish_suite("trixie", &Times { date: now - 9 * DAY, until: now - DAY });
    refuses(&fixture, None, Kind::Integrity, &["suite trixie", "expired on", &rfc(now - DAY)]);
    fixture.publish_suite("trixie", &Times { date: now + DAY, until: now + 9 * DAY });
    refuses(&fixture, None, Kind::Integrity, &["from the future"]);

    fixture.publish_suite("trixie", &Times { date: now - DAY, until: now + DAY });
    let spec = fixture.spec(&["base-files"]);
    let lock = fixture.resolve(&spec, None).unwrap().lock;
    fixture.publish_suite("trixie", &Times { date: now - 2 * DAY, until: now + DAY });
    refuses(&fixture, Some(&lock), Kind::Integrity, &["older than that in the lock", &rfc(now - 2 * DAY)]);
}

#[test]
fn another_suites_release_is_refused_and_a_sound_mirror_helps() {
    let fixture = with_base();
    let other = fixture.release("trixie-security", &Times::now());
    fixture.server.put(IN_RELEASE, sign(&key(), &other));
    refuses(&fixture, None, Kind::Integrity, &["no trusted key"]);
    let Answer::Good(security) = fixture.server.answer("/debian-security/dists/trixie-security/InRelease") else {
        panic!("not published")
    };
    fixture.server.put(IN_RELEASE, security);
    refuses(&fixture, None, Kind::Integrity, &["suite trixie", "the release of `trixie-security`"]);

    fixture.publish();
    let stale = Server::start();
    stale.put(IN_RELEASE, "nonsense");
    let remote = remote(&[&stale, &fixture.server], false);
    let spec = fixture.spec(&["base-files"]);
    resolve(&spec, None, &fixture.options(Upgrade::Nothing), &fixture.store, &remote, &Silent).unwrap();
}

#[test]
fn an_index_that_is_not_what_was_signed_is_refused() {
    let fixture = with_base();
    let path = fixture.server.paths().into_iter().filter(|path| path.contains("dists/trixie/main/"));
    for path in path.collect::<Vec<_>>() {
        let Answer::Good(good) = fixture.server.answer(&path) else { panic!("not published") };
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fixture.server.put(&path, bad);
    }
    refuses(&fixture, None, Kind::Integrity, &["the package index of trixie", "these hash to"]);
}

#[test]
fn dependencies_are_followed_as_policy_says() {
    let mut fixture = Fixture::new();
    fixture.package(
        "trixie",
        "app",
        "1",
        "Pre-Depends: early (>= 2)\nDepends: missing | second, mta, lib:any (<< 3)\n",
    );
    fixture.package("trixie", "early", "1", "");
    fixture.package("trixie-security", "early", "2", "");
    fixture.package("trixie", "second", "1", "Recommends: never\n");
    fixture.package("trixie", "never", "1", "");
    fixture.package("trixie", "z-mail", "1", "Provides: mta\n");
    fixture.package("trixie", "a-mail", "1", "Provides: mta\nConflicts: mta\n");
    fixture.package("trixie", "lib", "2.9", "");
    fixture.package("trixie", "lib", "3", "");
    fixture.publish();
    let chosen = fixture.image(&["app"]).unwrap();
    assert_eq!(chosen, ["a-mail 1", "app 1", "early 2", "lib 2.9", "second 1"]);
    assert_eq!(fixture.image(&["app", "lib"]).unwrap(), chosen);
    assert_eq!(fixture.image(&["app", "z-mail"]).unwrap().len(), 5);
}

#[test]
fn a_versioned_provides_satisfies_only_its_version() {
    let mut fixture = Fixture::new();
    fixture.package("trixie", "app", "1", "Depends: api (>= 2)\n");
    fixture.package("trixie", "plain", "1", "Provides: api\n");
    fixture.package("trixie", "old", "1", "Provides: api (= 1)\n");
    fixture.package("trixie", "right", "1", "Provides: api (= 2)\n");
    fixture.publish();
    assert_eq!(fixture.image(&["app"]).unwrap(), ["app 1", "right 1"]);
}

#[test]
fn what_cannot_be_is_explained_with_names() {
    let mut fixture = Fixture::new();
    fixture.package("trixie", "postfix", "3", "Provides: mta\nConflicts: mta\n");
    fixture.package("trixie", "exim", "4", "Provides: mta\nConflicts: mta\n");
    fixture.package("trixie", "app", "1", "Depends: gone (>= 7)\n");
    fixture.package("trixie", "virtual-one", "1", "Provides: virtual\n");
    fixture.publish();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["postfix", "exim"], &["postfix", "exim", "mta"]),
        (&["app"], &["app", "gone", ">= 7"]),
        (&["no-such"], &["there is no package `no-such`"]),
        (&["virtual"], &["there is no package `virtual`"]),
    ];
    for (packages, parts) in cases {
        let error = fixture.image(packages).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(kind_of(&error), Kind::Spec, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    let error = fixture.image(&["virtual"]).unwrap_err();
    assert!(fault_of(&error).unwrap().hints[0].contains("`virtual-one`"));
}

#[test]
fn backports_are_taken_only_by_name() {
    let mut fixture = Fixture::new();
    fixture.package("trixie", "tool", "1", "Depends: lib\n");
    fixture.package("trixie", "lib", "1", "");
    fixture.package("trixie-backports", "tool", "2~bpo", "Depends: lib\n");
    fixture.package("trixie-backports", "lib", "2~bpo", "");
    fixture.package("trixie-backports", "fresh", "1~bpo", "");
    fixture.publish();
    assert_eq!(fixture.image(&["tool"]).unwrap(), ["lib 1", "tool 1"]);
    assert_eq!(fixture.image(&["tool/trixie-backports"]).unwrap(), ["lib 1", "tool 2~bpo"]);
    assert_eq!(fixture.image(&["tool/trixie"]).unwrap(), ["lib 1", "tool 1"]);
    let error = fixture.image(&["fresh"]).unwrap_err();
    assert!(fault_of(&error).unwrap().hints[0].contains("`fresh/trixie-backports`"));
}

/// A point release takes packages over from `-security`.
#[test]
fn a_package_that_two_suites_hold_is_taken_by_the_name_of_each() {
    let mut fixture = Fixture::new();
    for suite in ["trixie", "trixie-security"] {
        fixture.package(suite, "tool", "1", "");
    }
    fixture.publish();
    for request in ["tool", "tool/trixie", "tool/trixie-security"] {
        let lock = fixture.resolve(&fixture.spec(&[request]), None).unwrap().lock;
        let tool = lock.packages.iter().find(|package| package.name == "tool").unwrap();
        assert_eq!((tool.version.as_str(), tool.suite.as_str()), ("1", "trixie"), "{request}");
    }
    let error = fixture.image(&["tool/trixie-backports"]).unwrap_err();
    let hint = &fault_of(&error).unwrap().hints[0];
    assert_eq!(hint, "write `tool/trixie-security`, `tool/trixie`");
}

#[test]
fn locked_versions_stay_until_asked_or_gone() {
    let mut fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        fixture.package("trixie", &format!("{name}-pkg"), "1", "");
    }
    fixture.publish();
    let spec = fixture.spec(&["a-pkg", "b-pkg", "c-pkg"]);
    let lock = fixture.resolve(&spec, None).unwrap().lock;
    for name in ["a", "b", "c"] {
        fixture.package("trixie-security", &format!("{name}-pkg"), "2", "");
    }
    fixture.drop_package("trixie", "c-pkg", "1");
    fixture.publish();

    let stayed = fixture.resolve(&spec, Some(&lock)).unwrap();
    assert_eq!(image(&stayed.lock), ["a-pkg 1", "b-pkg 1", "c-pkg 2"]);
    let said: Vec<_> = stayed.changes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["~ c-pkg 1 → 2  (image), the archive dropped the old version"]);
    let newer: Vec<_> = stayed.newer.iter().map(ToString::to_string).collect();
    assert_eq!(newer, ["~ a-pkg 1 → 2  (image)", "~ b-pkg 1 → 2  (image)"]);

    let one = fixture.resolve_with(&spec, Some(&lock), Upgrade::Named(vec!["a-pkg".into()])).unwrap();
    assert_eq!(image(&one.lock), ["a-pkg 2", "b-pkg 1", "c-pkg 2"]);
    let all = fixture.resolve_with(&spec, Some(&lock), Upgrade::Everything).unwrap();
    assert_eq!(image(&all.lock), ["a-pkg 2", "b-pkg 2", "c-pkg 2"]);
    assert_eq!(all.lock.releases.len(), 3);
}

#[test]
fn a_package_that_is_to_move_takes_along_what_holds_it_or_says_why_not() {
    let mut fixture = Fixture::new();
    fixture.package("trixie", "core", "1", "");
    fixture.package("trixie", "extra", "1", "Depends: core (= 1)\n");
    fixture.package("trixie", "other", "1", "");
    fixture.publish();
    let spec = fixture.spec(&["extra", "other"]);
    let lock = fixture.resolve(&spec, None).unwrap().lock;
    for version in ["2", "3"] {
        fixture.package("trixie-security", "core", version, "");
        fixture.package("trixie-security", "other", version, "");
    }
    fixture.package("trixie-backports", "core", "4", "");
    fixture.package("trixie-security", "extra", "2", "Depends: core (= 2)\n");
    fixture.publish();

    let upgrade = |spec: &Spec, name: &str| {
        let (options, warnings) = (fixture.options(Upgrade::Named(vec![name.into()])), Warnings::default());
        let done = resolve(spec, Some(&lock), &options, &fixture.store, &fixture.remote(false), &warnings);
        (image(&done.unwrap().lock), warnings.0.into_inner().unwrap())
    };
    assert_eq!(upgrade(&spec, "other"), (vec!["core 1".into(), "extra 1".into(), "other 3".into()], vec![]));
    // `extra` is not asked for, and goes as far as it lets `core` go.
    let (chosen, warnings) = upgrade(&spec, "core");
    assert_eq!(chosen, ["core 2", "extra 2", "other 1"]);
    assert!(warnings.len() == 1 && warnings[0].contains("core cannot move to 3: ") && warnings[0].contains("extra"));
    let (chosen, warnings) = upgrade(&fixture.spec(&["core/trixie", "extra", "other"]), "core");
    assert_eq!((chosen.join(", ").as_str(), warnings.len()), ("core 1, extra 1, other 1", 2));
    assert!(warnings[0].contains("from trixie"), "{warnings:?}");
}

#[test]
fn what_cannot_be_upgraded_by_name_is_refused() {
    let fixture = with_base();
    let role = format!(
        "[binaries.tool]\nurl = \"https://example.org/tool\"\npath = \"tool\"\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    let spec = fixture.spec_with(&["base-files"], &role);
    for (name, message, hint) in [
        ("base-fils", "worker.toml needs no package `base-fils`", "worker.lock"),
        ("tool", "`tool` is no package: its role pins it", "url and sha256 in role.toml"),
        ("base/tool", "`base/tool` is no package", "overlays/base"),
    ] {
        let error = fixture.resolve_with(&spec, None, Upgrade::Named(vec![name.into()])).unwrap_err();
        let fault = fault_of(&error).unwrap();
        assert_eq!(fault.kind, Kind::Usage, "{error:#}");
        assert!(fault.message.contains(message) && fault.hints[0].contains(hint), "{fault:?}");
    }
}

#[test]
fn a_binary_from_a_url_is_pinned_by_its_digest() {
    let fixture = with_base();
    let spec_of = |bytes: &[u8]| {
        let text = "[binaries.tool]\nurl = \"https://example.org/tool\"\npath = \"usr/bin/tool\"\n";
        let mut spec = fixture.spec_with(&["base-files"], &format!("{text}sha256 = \"{}\"\n", Sha256::of(bytes)));
        // Specs take https only; the test's server speaks http.
        for binary in spec.roles.iter_mut().flat_map(|role| role.binaries.values_mut()) {
            let BinarySource::Url { url, .. } = &mut binary.source else { continue };
            *url = format!("{}/tool", fixture.server.base);
        }
        spec
    };
    fixture.server.put("/tool", b"right".to_vec());
    let spec = spec_of(b"right");
    let lock = fixture.resolve(&spec, None).unwrap().lock;
    assert_eq!((lock.binaries[0].id.as_str(), lock.binaries[0].size), ("base/tool", 5));
    // Locked and unchanged: not asked for again.
    fixture.resolve(&spec, Some(&lock)).unwrap();
    assert_eq!(fixture.server.asked("/tool"), 1);

    let spec = spec_of(b"other");
    let error = fixture.resolve(&spec, Some(&lock)).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Integrity);
    assert!(format!("{error:#}").contains("base/tool"), "{error:#}");
    let mut check = fixture.options(Upgrade::Nothing);
    check.check = true;
    let checked = resolve(&spec, Some(&lock), &check, &fixture.store, &fixture.remote(false), &Silent).unwrap();
    assert_eq!(checked.changes.len(), 1);
}
