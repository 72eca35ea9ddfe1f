//! Wrong container specs, and roles that preload what cannot be preloaded, are refused at their place.
#![expect(clippy::disallowed_methods, reason = "files of a test's own temporary directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use nodelith::error::{Kind, fault_of, kind_of};
use nodelith::spec::requests::{Requests, Use};
use nodelith::spec::{self, Spec};
use std::fs;

const MACHINE: &str = r#"schema = 1
name = "worker"
epoch = 2026-11-24T00:00:00Z
roles = ["runtime"]
[debian]
suites = ["trixie"]
"#;

const RUNTIME: &str = r#"summary = "runs containers"
preload = ["pause"]
"#;

const PAUSE: &str = r#"schema = 1
kind = "container"
name = "pause"
epoch = 2026-11-24T00:00:00Z
roles = ["tool"]
packages = ["catatonit"]
[container]
tag = "1"
only = ["usr/bin/catatonit"]
entrypoint = ["/usr/bin/catatonit", "-P"]
user = "65535:65535"
env = { PATH = "/usr/bin" }
workdir = "/tmp"
ports = ["53/udp"]
labels = { "org.example.note" = "x" }
stop-signal = "SIGQUIT"
[debian]
suites = ["trixie"]
"#;

const TOOL: &str = "summary = \"a tool\"\npackages = [\"dash\"]\n";

/// The spec at this path of a house of these files, which replace the sound ones.
fn load(path: &str, files: &[(&str, &str)]) -> nodelith::error::Result<Spec> {
    let dir = tempfile::tempdir().unwrap();
    let sound = [
        ("worker.toml", MACHINE),
        ("pause.toml", PAUSE),
        ("overlays/runtime/role.toml", RUNTIME),
        ("overlays/tool/role.toml", TOOL),
    ];
    for (name, text) in sound.iter().chain(files).filter(|(_, text)| !text.is_empty()) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for (name, _) in files.iter().filter(|(_, text)| text.is_empty()) {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    spec::load(&dir.path().join(path), &dir.path().join("overlays"))
}

fn refused(path: &str, files: &[(&str, &str)], place: &str, cause: &str) {
    let error = match load(path, files) {
        Ok(_) => panic!("{files:?} was taken"),
        Err(error) => error,
    };
    let message = fault_of(&error).map(ToString::to_string).unwrap_or_default();
    assert_eq!(kind_of(&error), Kind::Spec, "{message}");
    assert!(message.contains(&format!("{place}:")), "`{place}` is not in\n{message}");
    assert!(message.contains(cause), "`{cause}` is not in\n{message}");
}

#[test]
fn a_sound_container_is_taken_and_asks_for_nothing_that_boots() {
    let spec = load("pause.toml", &[]).unwrap();
    let spec::Kind::Container(container) = &spec.kind else { panic!("a container") };
    assert_eq!(container.reference, "nodelith.dev/pause:1");
    assert_eq!(container.ports, [spec::Port { port: 53, protocol: "udp".into() }]);
    let requests = Requests::of(&spec).unwrap();
    assert_eq!(requests.packages.keys().collect::<Vec<_>>(), [&Use::Image]);
    let names: Vec<_> = requests.packages[&Use::Image].iter().map(|request| request.name.as_str()).collect();
    assert_eq!(names, ["catatonit", "dash"]);

    let machine = load("worker.toml", &[]).unwrap();
    assert_eq!(machine.preloads().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), ["pause"]);
    // A container has a lock of its own: that a machine preloads one changes nothing in the machine's.
    let without = load("worker.toml", &[("overlays/runtime/role.toml", "summary = \"s\"\n")]).unwrap();
    assert_eq!(Requests::of(&machine).unwrap().digest(), Requests::of(&without).unwrap().digest());
    assert_eq!(Requests::of(&machine).unwrap().packages.len(), Use::ALL.len());
}

#[test]
fn a_program_of_go_brings_the_toolchain_into_a_containers_lock() {
    let role = "summary = \"s\"\n[binaries.x]\ngo = \"go/x\"\npackage = \"example.org/x\"\npath = \"usr/bin/x\"\n";
    let module = "module x\n";
    let files =
        [("overlays/tool/role.toml", role), ("overlays/tool/go/x/go.mod", module), ("overlays/tool/go/x/go.sum", "\n")];
    // The files must be there while the requests are made.
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files.iter().chain(&[("pause.toml", PAUSE)]) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let spec = spec::load(&dir.path().join("pause.toml"), &dir.path().join("overlays")).unwrap();
    let requests = Requests::of(&spec).unwrap();
    assert_eq!(requests.packages.keys().collect::<Vec<_>>(), [&Use::Image, &Use::Go]);
}

#[test]
fn wrong_containers_are_refused_at_their_place() {
    for (old, new, line, cause) in [
        ("kind = \"container\"", "kind = \"kontainer\"", 2, "is not a kind of image"),
        ("kind = \"container\"\n", "", 6, "a machine has no table [container]"),
        ("kind = \"container\"", "kind = \"machine\"", 7, "a machine has no table [container]"),
        ("packages = [\"catatonit\"]", "cmdline = [\"quiet\"]", 6, "no kernel"),
        ("tag = \"1\"\n", "", 7, "missing field `tag`"),
        ("tag = \"1\"", "tag = \"\"", 8, "is not a tag"),
        ("tag = \"1\"", "tag = \"-1\"", 8, "is not a tag"),
        ("tag = \"1\"", "tag = \"1:2\"", 8, "is not a tag"),
        ("tag = \"1\"", "tag = \"1\\n2\"", 8, "is not a tag"),
        ("tag = \"1\"", "tag = \"1\"\nentry = []", 9, "unknown field `entry`"),
        ("[\"usr/bin/catatonit\"]", "[]", 9, "no path"),
        ("[\"usr/bin/catatonit\"]", "[\"/usr/bin/catatonit\"]", 9, "is not a relative path"),
        ("[\"usr/bin/catatonit\"]", "[\"usr/../../etc/shadow\"]", 9, "is not a relative path"),
        ("[\"/usr/bin/catatonit\", \"-P\"]", "[]", 10, "nothing to start"),
        ("\"-P\"", "\"\"", 10, "an empty argument"),
        ("\"-P\"", "\"a\\nb\"", 10, "control character"),
        ("65535:65535", "65535", 11, "is not `uid:gid`"),
        ("65535:65535", "nobody:nogroup", 11, "is not `uid:gid`"),
        ("65535:65535", "+1:1", 11, "is not `uid:gid`"),
        ("65535:65535", "01:1", 11, "is not `uid:gid`"),
        ("65535:65535", "4294967295:1", 11, "is not `uid:gid`"),
        ("user = \"65535:65535\"\n", "", 7, "missing field `user`"),
        ("{ PATH =", "{ \"A=B\" =", 12, "is not the name of an environment variable"),
        ("PATH = \"/usr/bin\"", "PATH = \"a\\nLD_PRELOAD=x\"", 12, "control character"),
        ("\"/tmp\"", "\"tmp\"", 13, "is not an absolute path"),
        ("\"/tmp\"", "\"/tmp/..\"", 13, "is not an absolute path"),
        ("53/udp", "53", 14, "is not a port"),
        ("53/udp", "0/udp", 14, "is not a port"),
        ("53/udp", "53/sctp", 14, "is not a port"),
        ("org.example.note", "note", 15, "is not a label"),
        ("SIGQUIT", "QUIT", 16, "is not a signal"),
        ("[debian]", "[values.none]\nx = 1\n[debian]", 17, "the spec has no role `none`"),
    ] {
        assert!(PAUSE.contains(old), "{old:?}");
        let text = PAUSE.replacen(old, new, 1);
        refused("pause.toml", &[("pause.toml", &text)], &format!("pause.toml:{line}"), cause);
    }
    let start = PAUSE.find("[container]").unwrap();
    let bare = format!("{}[debian]\nsuites = [\"trixie\"]\n", &PAUSE[..start]);
    refused("pause.toml", &[("pause.toml", &bare)], "pause.toml:2", "needs the table [container]");
}

#[test]
fn what_only_a_machine_has_is_refused_in_a_containers_role() {
    for (line, cause) in [
        ("units = [\"x.service\"]", "enables units"),
        ("modules = [\"vxlan\"]", "wants kernel modules"),
        ("listeners = [\"udp 53 x\"]", "declares listeners"),
        ("[certificates.x]\nprovisioner = \"x\"\nowner = \"root\"", "fetches certificates"),
        ("[variables.x]\ntype = \"string\"\nset = \"boot\"\ndoc = \"x\"", "set at boot"),
    ] {
        let role = format!("{TOOL}{line}\n");
        refused("pause.toml", &[("overlays/tool/role.toml", &role)], "pause.toml:5", cause);
    }
    // Two containers that preload each other would never end.
    let role = format!("{TOOL}preload = [\"pause\"]\n");
    let place = "overlays/tool/role.toml:3";
    refused("pause.toml", &[("overlays/tool/role.toml", &role)], place, "a container preloads nothing");
}

#[test]
fn what_cannot_be_preloaded_is_refused_at_the_roles_line() {
    let place = "overlays/runtime/role.toml:2";
    refused("worker.toml", &[("pause.toml", "")], place, "no spec builds the container `pause`");
    let role = RUNTIME.replace("pause", "../pause");
    refused("worker.toml", &[("overlays/runtime/role.toml", &role)], place, "is not a name");
    let role = RUNTIME.replace("\"pause\"", "\"pause\", \"pause\"");
    refused("worker.toml", &[("overlays/runtime/role.toml", &role)], place, "listed twice");
    let other = MACHINE.replace("worker", "other").replace("runtime", "tool");
    let role = RUNTIME.replace("pause", "other");
    let files = [("other.toml", other.as_str()), ("overlays/runtime/role.toml", &role)];
    refused("worker.toml", &files, place, "is the spec of a machine");
    // A machine that preloads itself would never end.
    let role = RUNTIME.replace("pause", "worker");
    refused("worker.toml", &[("overlays/runtime/role.toml", &role)], place, "is the spec of a machine");
    // Two roles that bring one reference.
    let machine = MACHINE.replace("[\"runtime\"]", "[\"runtime\", \"more\"]");
    let files = [("worker.toml", machine.as_str()), ("overlays/more/role.toml", RUNTIME)];
    refused("worker.toml", &files, "worker.toml:4", "brings the container `pause`, as `runtime` does");
    // A wrong container is refused in its own file, also when a machine is built.
    let pause = PAUSE.replace("tag = \"1\"", "tag = \":\"");
    refused("worker.toml", &[("pause.toml", &pause)], "pause.toml:8", "is not a tag");
}
