//! Containers from a spec to an archive, against an archive of packages made on the fly.

#![expect(clippy::disallowed_methods, reason = "tests prepare files and run themselves under another umask")]

use super::*;
use crate::error::kind_of;
use crate::report::Silent;
use crate::report::testing::Warnings;
use crate::resolve::testing::Fixture;
use std::io::Read as _;
use std::process::Command;
use tar::EntryType::{Directory, Link, Regular, Symlink};

/// A house with the packages `app`, which links to a file of its own, and `more`, of which nothing is chosen.
fn house() -> Fixture {
    let mut fixture = Fixture::new();
    let members = [
        ("./usr/bin/app", Regular, &b"#!app"[..]),
        ("./usr/bin/again", Link, b"usr/bin/app"),
        ("./usr/share/app/data", Regular, b"data"),
        ("./usr/share/app/here", Symlink, b"data"),
        ("./usr/share/doc/app/copyright", Regular, b"(c)"),
        ("./usr/share/doc/app/README", Regular, b"read"),
        ("./etc/apt/sources.list", Regular, b"deb x"),
        ("./var/lib/app", Directory, b""),
    ];
    fixture.package_of("trixie", "app", "1", "Depends: more\n", &members);
    fixture.package("trixie", "more", "1", "");
    fixture.package_of("trixie", "hostile", "1", "", &[("./usr/bin/.wh.app", Regular, b"x")]);
    fixture.publish();
    fixture
}

/// A spec of these packages, with these lines of `[container]`, written and locked.
fn locked(fixture: &Fixture, packages: &str, lines: &str) -> Locked {
    let dir = fixture.dir.path();
    let role = dir.join("overlays/tool/rootfs/etc");
    std::fs::create_dir_all(&role).unwrap();
    std::fs::write(dir.join("overlays/tool/role.toml"), "summary = \"a tool\"\n").unwrap();
    std::fs::write(role.join("tool.conf"), "x = 1\n").unwrap();
    let path = dir.join("tool.toml");
    let text = format!(
        "schema = 1\nkind = \"container\"\nname = \"tool\"\nepoch = 2026-11-01T00:00:00Z\nroles = [\"tool\"]\n\
         packages = [{packages}]\n[container]\ntag = \"1\"\nentrypoint = [\"/bin/app\"]\nuser = \"1:1\"\n{lines}\n\
         [debian]\nsuites = [\"trixie\"]\n"
    );
    std::fs::write(&path, text).unwrap();
    let spec = spec::load(&path, &dir.join("overlays")).unwrap();
    write_lock(fixture, &spec);
    bind(spec).unwrap()
}

/// Resolves a spec and writes its lock beside it.
fn write_lock(fixture: &Fixture, spec: &Spec) {
    let lock = fixture.resolve(spec, None).unwrap().lock;
    std::fs::write(spec.lock_path(), lock.to_text().unwrap()).unwrap();
}

fn context(fixture: &Fixture) -> Context<'static> {
    let store = Store::open(fixture.store.dir()).unwrap();
    Context { store, remote: fixture.remote(false), report: &Silent }
}

/// The paths of an archive's layer.
fn layer(archive: &Path) -> Vec<String> {
    let mut blobs = Vec::new();
    for entry in tar::Archive::new(sys::fs::open(archive).unwrap()).entries().unwrap() {
        let mut bytes = Vec::new();
        entry.unwrap().read_to_end(&mut bytes).unwrap();
        blobs.push(bytes);
    }
    let packed = blobs.iter().find(|bytes| bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])).unwrap();
    let tar = zstd::decode_all(packed.as_slice()).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn a_container_holds_what_is_chosen_and_what_roles_bring() {
    let fixture = house();
    let out = fixture.dir.path().join("out");
    let chosen = locked(&fixture, "\"app\"", "only = [\"usr/bin/app\"]");
    let built = build(&chosen, &out, false, &context(&fixture)).unwrap();
    let expected = "bin etc/ etc/tool.conf lib lib64 sbin tmp/ usr/ usr/bin/ usr/bin/app usr/lib/ usr/lib64/ usr/sbin/ \
                    usr/share/ usr/share/doc/ usr/share/doc/app/ usr/share/doc/app/copyright";
    assert_eq!(layer(&built.dir.join("tool.oci.tar")).join(" "), expected);
    assert_eq!(built.made.reference.as_deref(), Some("nodelith.dev/tool:1"));

    let manifest = Manifest::parse(&sys::fs::read_text(&built.dir.join(manifest::FILE)).unwrap()).unwrap();
    assert_eq!((manifest.reference, manifest.digest), (built.made.reference, built.made.digest));
    assert_eq!(manifest.root_hash.or(manifest.cmdline), None);
    assert_eq!(manifest.paths["/usr/bin/app"].origin, "deb app 1");
    assert_eq!(manifest.paths["/etc/tool.conf"].origin, "role tool");
    assert!(build(&chosen, &out, false, &context(&fixture)).unwrap().up_to_date);

    // Without a choice: the closure, less documents and apt.
    let whole = build(&locked(&fixture, "\"app\"", ""), &out, false, &context(&fixture)).unwrap();
    assert!(!whole.up_to_date);
    let paths = layer(&whole.dir.join("tool.oci.tar"));
    for (path, there) in [
        ("usr/share/app/here", true),
        ("usr/bin/again", true),
        ("usr/share/more", true),
        ("var/lib/app/", true),
        ("usr/share/doc/app/README", false),
        ("etc/apt/sources.list", false),
        ("etc/passwd", false),
    ] {
        assert_eq!(paths.iter().any(|found| found == path), there, "{path}");
    }
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let fixture = house();
    let out = fixture.dir.path().join("out");
    for (packages, lines, kind, cause) in [
        ("\"app\"", "only = [\"usr/bin/none\"]", Kind::Build, "needs `usr/bin/none`"),
        ("\"app\"", "only = [\"usr/share/app/data\"]", Kind::Spec, "holds no program `/bin/app`"),
        ("\"app\", \"hostile\"", "", Kind::Build, "`usr/bin/.wh.app` is the name of a removal"),
        ("", "", Kind::Spec, "holds no program `/bin/app`"),
    ] {
        let locked = locked(&fixture, packages, lines);
        let error = build(&locked, &out, false, &context(&fixture)).unwrap_err();
        let said = format!("{error:#}");
        assert_eq!(kind_of(&error), kind, "{said}");
        assert!(said.contains(cause), "`{cause}` is not in {said}");
        let left: Vec<_> = sys::fs::list(&out).unwrap();
        assert_eq!(left, [out.join(".tool.lock")], "{cause}");
    }
}

/// The packages stay, but what the lock answers is another question: a check that passed would let the build fail.
#[test]
fn a_check_refuses_each_lock_that_a_build_refuses() {
    let fixture = house();
    let mut options = fixture.options(resolve::Upgrade::Nothing);
    let first = fixture.spec(&["app"]);
    lock(&first, &options, &context(&fixture)).unwrap();
    for packages in [&["app", "more"][..], &["app/trixie", "more"]] {
        let spec = fixture.spec(packages);
        assert_eq!(kind_of(&bind(spec.clone()).unwrap_err()), Kind::Spec);
        options.check = true;
        let error = lock(&spec, &options, &context(&fixture)).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Spec);
        assert!(
            format!("{error:#}").contains("worker.lock is stale\n  ~ requests: the spec asks otherwise"),
            "{error:#}"
        );
        options.check = false;
        assert_eq!(lock(&spec, &options, &context(&fixture)).unwrap().len(), 1);
        options.check = true;
        assert!(lock(&spec, &options, &context(&fixture)).unwrap().is_empty());
        bind(spec).unwrap();
    }
}

#[test]
fn a_container_that_a_machine_preloads_needs_its_own_lock() {
    let fixture = house();
    let container = locked(&fixture, "\"app\"", "");
    let machine = fixture.spec_with(&["app"], "preload = [\"tool\"]\n");
    write_lock(&fixture, &machine);
    let bound = bind(machine.clone()).unwrap();
    assert_eq!(bound.containers().len(), 1);

    let preload = preload(&bound.containers()[0], &fixture.dir.path().join("out"), false, &context(&fixture)).unwrap();
    assert_eq!(preload.reference, "nodelith.dev/tool:1");
    let archive = std::fs::read(fixture.dir.path().join("out/tool/tool.oci.tar")).unwrap();
    assert_eq!(preload.archive.read().unwrap(), archive);

    std::fs::remove_file(container.spec().lock_path()).unwrap();
    let error = bind(machine).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Spec);
    assert!(format!("{error:#}").contains("tool.lock is missing"), "{error:#}");
}

/// A fault of its own is no damage in the machine's store, which would be checked and everything done again.
#[test]
fn a_container_that_cannot_be_had_is_told_once() {
    let fixture = house();
    let container = locked(&fixture, "\"app\"", "");
    let machine = fixture.spec_with(&["more"], "preload = [\"tool\"]\n");
    write_lock(&fixture, &machine);
    let path = container.spec().lock_path();
    let text = std::fs::read_to_string(&path).unwrap();
    let digest = container.packages(spec::requests::Use::Image).find(|package| package.name == "app").unwrap().sha256;
    std::fs::write(&path, text.replace(&digest.to_string(), &"0".repeat(64))).unwrap();

    let warnings = Warnings::default();
    let cx = Context { report: &warnings, ..context(&fixture) };
    let out = fixture.dir.path().join("out");
    let error = build(&bind(machine).unwrap(), &out, false, &cx).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Integrity, "{error:#}");
    assert!(format!("{error:#}").contains("app"), "{error:#}");
    let said = warnings.0.into_inner().unwrap();
    assert!(said.iter().all(|text| !text.contains("the whole store")), "{said:?}");
    assert!(!out.join("worker").exists() && !out.join("tool").exists());
}

/// Where a child of the test below builds to.
const CHILD: &str = "NODELITH_TEST_CONTAINER";

#[test]
fn an_image_of_other_containers_is_another_images_and_no_fault_of_the_build() {
    let containers = |digest: u8| BTreeMap::from([("nodelith.dev/tool:1".to_owned(), Sha256([digest; 32]))]);
    let check = |now: &BTreeMap<String, Sha256>| same_containers(Path::new("out/worker"), &containers(1), now);
    check(&containers(1)).unwrap();
    for now in [containers(2), BTreeMap::new()] {
        let error = check(&now).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Spec);
        assert!(error.to_string().contains("nodelith.dev/tool:1 of digest 0101"), "{error}");
    }
}

#[test]
fn equal_inputs_give_equal_bytes_in_any_directory_under_any_umask() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let spec = spec::load(&dir.join("tool.toml"), &dir.join("overlays")).unwrap();
        let fixture = Fixture::new();
        let store = Store::open(&dir.join("store")).unwrap();
        let cx = Context { store, remote: fixture.remote(true), report: &Silent };
        build(&bind(spec).unwrap(), &dir.join("out"), true, &cx).unwrap();
        return;
    }
    let fixture = house();
    locked(&fixture, "\"app\"", "");
    let first = fixture.dir.path();
    build(
        &bind(spec::load(&first.join("tool.toml"), &first.join("overlays")).unwrap()).unwrap(),
        &first.join("out"),
        false,
        &context(&fixture),
    )
    .unwrap();
    let second = tempfile::tempdir().unwrap();
    let script = "umask \"$1\" && cp -R \"$2/tool.toml\" \"$2/tool.lock\" \"$2/overlays\" \"$2/store\" \"$3\" && \
                  exec \"$4\" --exact \"$5\"";
    for umask in ["0077", "0002"] {
        let place = second.path().join(umask);
        std::fs::create_dir(&place).unwrap();
        let name = "pipeline::tests::equal_inputs_give_equal_bytes_in_any_directory_under_any_umask";
        let mut child = Command::new("/bin/sh");
        child.args(["-c", script, "sh", umask]).arg(first).arg(&place).arg(std::env::current_exe().unwrap()).arg(name);
        let output = child.env(CHILD, &place).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        for file in ["tool.oci.tar", manifest::FILE] {
            let [one, two] =
                [first, place.as_path()].map(|dir| std::fs::read(dir.join("out/tool").join(file)).unwrap());
            assert!(one == two, "{file} differs under umask {umask}");
        }
    }
}
