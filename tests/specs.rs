//! Wrong specs and roles are refused with file:line:column, the line, the cause, and exit code 3.
#![expect(clippy::disallowed_methods, reason = "files of a test's own temporary directory")]
#![expect(clippy::unwrap_used, clippy::too_many_lines, reason = "helpers of tests, and tables")]

use nodelith::error::{Kind, fault_of, kind_of};
use nodelith::spec;
use std::fs;
use std::path::{Path, PathBuf};

const SPEC: &str = r#"schema = 1
name = "worker"
epoch = 2026-11-24T00:00:00Z
roles = ["base", "net"]
packages = ["socat"]
cmdline = ["quiet"]
[debian]
suites = ["trixie", "trixie-security"]
[values.net]
cidr = "10.0.0.0/8"
"#;

const BASE: &str = r#"summary = "the base"
packages = ["systemd"]
"#;

const NET: &str = r#"summary = "the network"
needs = ["base"]
packages = ["iproute2", "ethtool/trixie-backports"]
modules = ["vxlan"]
units = ["net.service", "net@eth0.timer"]
listeners = ["udp 8472 kernel"]
[variables.cidr]
type = "cidr"
set = "build"
doc = "pods"
[variables.mode]
type = "choice"
choices = ["a", "b"]
default = "a"
set = "build"
doc = "mode"
[variables.token]
type = "string"
set = "boot"
secret = true
doc = "token"
[binaries.tool]
url = "https://example.org/tool"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
path = "usr/bin/tool"
[certificates.net]
provisioner = "net"
owner = "root"
"#;

struct House(tempfile::TempDir);

impl House {
    fn new(spec: &str, base: &str, net: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("worker.toml", spec), ("overlays/base/role.toml", base), ("overlays/net/role.toml", net)]
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn load(&self) -> nodelith::error::Result<spec::Spec> {
        spec::load(&self.path("worker.toml"), &self.path("overlays"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

/// What a change to one of the files must lead to: file, text to replace, replacement, line of the refusal, cause.
type Wrong = (&'static str, &'static str, &'static str, usize, &'static str);

fn refused(house: &House, wrong: &Wrong) {
    let (file, old, new, line, cause) = wrong;
    let error = match house.load() {
        Ok(_) => panic!("{old:?} → {new:?} was taken"),
        Err(error) => error,
    };
    let message = fault_of(&error).map(ToString::to_string).unwrap_or_default();
    assert_eq!(kind_of(&error), Kind::Spec, "{message}");
    let place = format!("{file}:{line}:");
    assert!(message.contains(&place), "{new:?}: `{place}` is not in\n{message}");
    assert!(message.contains(cause), "{new:?}: `{cause}` is not in\n{message}");
}

#[test]
fn a_sound_spec_is_taken() {
    let spec = House::new(SPEC, BASE, NET).load().unwrap();
    assert_eq!(spec.epoch, 1_795_478_400);
    assert_eq!(spec.roles.len(), 2);
    assert_eq!(spec.values.values().map(std::collections::BTreeMap::len).sum::<usize>(), 2);
}

#[test]
fn wrong_specs_are_refused_at_their_place() {
    let wrongs: &[Wrong] = &[
        ("worker.toml", "schema = 1", "schema = 2", 1, "schema 2 is not known"),
        ("worker.toml", "schema = 1", "schema = \"1\"", 1, "invalid type"),
        ("worker.toml", "schema = 1", "schema 1", 1, ""),
        ("worker.toml", "schema = 1", "schema = ", 1, ""),
        ("worker.toml", "schema = 1\n", "", 1, "missing field `schema`"),
        ("worker.toml", "name = \"worker\"", "name = \"other\"", 2, "not the file's"),
        ("worker.toml", "name = \"worker\"", "name = \"Worker\"", 2, "is not a name"),
        ("worker.toml", "name = \"worker\"", "name = \"\"", 2, "is not a name"),
        ("worker.toml", "name = \"worker\"", "name = \"../worker\"", 2, "is not a name"),
        ("worker.toml", "name = \"worker\"", "name = worker", 2, ""),
        ("worker.toml", "name = \"worker\"", "name = 5", 2, "invalid type"),
        ("worker.toml", "name = \"worker\"", "name = \"worker", 2, ""),
        ("worker.toml", "name = \"worker\"", "name = \"worker\"\nname = \"worker\"", 3, "duplicate"),
        ("worker.toml", "name = \"worker\"", "nmae = \"worker\"", 2, "unknown field `nmae`"),
        ("worker.toml", "name = \"worker\"\n", "", 1, "missing field `name`"),
        ("worker.toml", "2026-11-24T00:00:00Z", "2026-11-24", 3, "not a date and time in UTC"),
        ("worker.toml", "2026-11-24T00:00:00Z", "2026-11-24T00:00:00+01:00", 3, "not a date and time in UTC"),
        ("worker.toml", "2026-11-24T00:00:00Z", "2026-11-24T00:00:00", 3, "not a date and time in UTC"),
        ("worker.toml", "2026-11-24T00:00:00Z", "2026-13-24T00:00:00Z", 3, ""),
        ("worker.toml", "2026-11-24T00:00:00Z", "1969-01-01T00:00:00Z", 3, "before 1970"),
        ("worker.toml", "2026-11-24T00:00:00Z", "12345", 3, ""),
        ("worker.toml", "2026-11-24T00:00:00Z", "\"today\"", 3, ""),
        ("worker.toml", "[\"base\", \"net\"]", "[]", 4, "no role"),
        ("worker.toml", "[\"base\", \"net\"]", "\"base\"", 4, "invalid type"),
        ("worker.toml", "[\"base\", \"net\"]", "[1]", 4, "invalid type"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"base\", \"base\"]", 4, "listed twice"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"net\", \"base\"]", 4, "needs `base`"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"net\"]", 4, "needs `base`"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"base\"]", 9, "the spec has no role `net`"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"base\", \"flanel\"]", 4, "there is no role `flanel`"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"base\", \"../net\"]", 4, "is not a name"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"base\", \"/etc\"]", 4, "is not a name"),
        ("worker.toml", "[\"base\", \"net\"]", "[\"base\" \"net\"]", 4, ""),
        ("worker.toml", "[\"socat\"]", "[\"Socat\"]", 5, "not the name of a Debian package"),
        ("worker.toml", "[\"socat\"]", "[\"so cat\"]", 5, "not the name of a Debian package"),
        ("worker.toml", "[\"socat\"]", "[\"socat=1.0\"]", 5, "not the name of a Debian package"),
        ("worker.toml", "[\"socat\"]", "[\"socat/Trixie\"]", 5, "not the name of a suite"),
        ("worker.toml", "[\"socat\"]", "[\"\"]", 5, "not the name of a Debian package"),
        ("worker.toml", "[\"socat\"]", "{ socat = 1 }", 5, "invalid type"),
        ("worker.toml", "[\"socat\"]", "[\"../../etc/shadow\"]", 5, "not the name of a Debian package"),
        ("worker.toml", "[\"quiet\"]", "[\"a b\"]", 6, "one word"),
        ("worker.toml", "[\"quiet\"]", "[\"\"]", 6, "one word"),
        ("worker.toml", "[\"quiet\"]", "[\"a\\nb\"]", 6, "control character"),
        ("worker.toml", "[\"quiet\"]", "\"quiet\"", 6, "invalid type"),
        ("worker.toml", "[debian]", "[debain]", 7, "unknown field `debain`"),
        ("worker.toml", "[debian]", "[debian", 7, ""),
        ("worker.toml", "[debian]", "[[debian]]", 7, ""),
        ("worker.toml", "suites = [\"trixie\", \"trixie-security\"]", "suites = []", 8, "no suite"),
        (
            "worker.toml",
            "suites = [\"trixie\", \"trixie-security\"]",
            "suites = [\"tri xie\"]",
            8,
            "not the name of a suite",
        ),
        ("worker.toml", "suites = [\"trixie\", \"trixie-security\"]", "suite = \"trixie\"", 8, "unknown field `suite`"),
        ("worker.toml", "suites = [\"trixie\", \"trixie-security\"]", "", 7, "missing field `suites`"),
        ("worker.toml", "[values.net]", "[values.base]", 10, "has no variable `cidr`"),
        ("worker.toml", "[values.net]", "[values.nett]", 9, "the spec has no role `nett`"),
        ("worker.toml", "[values.net]", "[value.net]", 9, "unknown field `value`"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "", 4, "needs a value for `cidr`"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cird = \"10.0.0.0/8\"", 10, "has no variable `cird`"),
        (
            "worker.toml",
            "cidr = \"10.0.0.0/8\"",
            "cidr = \"10.0.0.0/33\"",
            10,
            "is not an address with a prefix length",
        ),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0\"", 10, "is not an address with a prefix length"),
        (
            "worker.toml",
            "cidr = \"10.0.0.0/8\"",
            "cidr = \"10.0.0.256/8\"",
            10,
            "is not an address with a prefix length",
        ),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = 10", 10, "expected an address"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = [\"10.0.0.0/8\"]", 10, "expected an address"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0/8\\nx\"", 10, "control character"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0/8\"\nmode = \"c\"", 11, "is not one of `a`, `b`"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0/8\"\nmode = true", 11, "expected one of `a`, `b`"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0/8\"\ntoken = \"x\"", 11, "is a secret"),
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0/8\"\ncidr = \"10.0.0.0/8\"", 11, "duplicate"),
        ("worker.toml", "schema = 1", "\u{0}", 1, ""),
    ];
    for wrong in wrongs {
        assert!(SPEC.contains(wrong.1), "{:?}", wrong.1);
        refused(&House::new(&SPEC.replacen(wrong.1, wrong.2, 1), BASE, NET), wrong);
    }
}

#[test]
fn wrong_roles_are_refused_at_their_place() {
    let file = "overlays/net/role.toml";
    let wrongs: &[Wrong] = &[
        (file, "summary = \"the network\"\n", "", 1, "missing field `summary`"),
        (file, "summary = \"the network\"", "summary = \"a\\nb\"", 1, "control character"),
        (file, "summary = \"the network\"", "summary = 1", 1, "invalid type"),
        (file, "summary = \"the network\"", "sumary = \"the network\"", 1, "unknown field `sumary`"),
        (file, "[\"base\"]", "[\"Base\"]", 2, "is not a name"),
        (file, "[\"base\"]", "\"base\"", 2, "invalid type"),
        (file, "[\"iproute2\", ", "[\"ip route\", ", 3, "not the name of a Debian package"),
        (file, "ethtool/trixie-backports", "ethtool/", 3, "not the name of a suite"),
        (file, "[\"vxlan\"]", "[\"vx lan\"]", 4, "not the name of a kernel module"),
        (file, "[\"vxlan\"]", "[\"\"]", 4, "not the name of a kernel module"),
        (file, "[\"vxlan\"]", "[\"../vxlan\"]", 4, "not the name of a kernel module"),
        (file, "net.service", "net", 5, "not the name of a unit"),
        (file, "net.service", ".service", 5, "not the name of a unit"),
        (file, "net.service", "net.sh", 5, "not the name of a unit"),
        (file, "net.service", "../net.service", 5, "not the name of a unit"),
        (file, "udp 8472 kernel", "udp kernel", 6, "is not a listener"),
        (file, "udp 8472 kernel", "sctp 8472 kernel", 6, "is not a listener"),
        (file, "udp 8472 kernel", "udp 0 kernel", 6, "is not a listener"),
        (file, "udp 8472 kernel", "udp 70000 kernel", 6, "is not a listener"),
        (file, "udp 8472 kernel", "udp 8472 kernel x", 6, "is not a listener"),
        (file, "listeners =", "private = [\"etc/x\"]\nlisteners =", 6, "has no file rootfs/etc/x"),
        (file, "listeners =", "private = [\"../role.toml\"]\nlisteners =", 6, "is not a relative path"),
        (file, "[variables.cidr]", "[variables.Cidr]", 7, "is not a name"),
        (file, "[variables.cidr]", "[variable.cidr]", 7, "unknown field `variable`"),
        (file, "type = \"cidr\"", "type = \"subnet\"", 8, "is not a type"),
        (file, "type = \"cidr\"", "type = \"choice\"", 8, "a choice of nothing"),
        (file, "type = \"cidr\"", "typ = \"cidr\"", 8, "unknown field `typ`"),
        (file, "set = \"build\"", "set = \"never\"", 9, "set when?"),
        (file, "set = \"build\"", "set = true", 9, "invalid type"),
        (file, "doc = \"pods\"\n", "", 7, "missing field `doc`"),
        (file, "doc = \"pods\"", "doc = \"a\\tb\"", 10, "control character"),
        (file, "doc = \"pods\"", "doc = \"pods\"\nchoices = [\"a\"]", 11, "choices without"),
        (file, "doc = \"pods\"", "doc = \"pods\"\nknown = \"list\"", 11, "a list of switches without"),
        (file, "type = \"cidr\"", "type = \"switches\"", 8, "switches of nothing"),
        (file, "type = \"cidr\"", "type = \"switches\"\nknown = \"list\"", 9, "list is missing"),
        (file, "type = \"cidr\"", "type = \"switches\"\nknown = \"../list\"", 9, "is not a relative path"),
        (file, "default = \"a\"", "default = \"c\"", 14, "is not one of"),
        (file, "default = \"a\"", "default = 1", 14, "expected one of"),
        (file, "set = \"boot\"", "set = \"build\"", 19, "would be in the image"),
        (file, "secret = true", "secret = \"yes\"", 20, "invalid type"),
        (file, "[binaries.tool]", "[binaries.\"to ol\"]", 22, "is not a name"),
        (file, "https://example.org/tool", "http://example.org/tool", 23, "by https"),
        (file, "https://example.org/tool", "file:///etc/shadow", 23, "by https"),
        (file, "url = \"https://example.org/tool\"\n", "", 22, "no source, or two"),
        (
            file,
            "url = \"https://example.org/tool\"",
            "url = \"https://example.org/tool\"\ngo = \"go\"",
            22,
            "no source, or two",
        ),
        (file, "usr/bin/tool\"", "usr/bin/tool\"\nldflags = [\"-X a=b\"]", 26, "goes with `go` only"),
        (file, "usr/bin/tool\"", "usr/bin/tool\"\npatches = [\"a.patch\"]", 26, "goes with `go` only"),
        (file, "e3b0c4", "E3B0C4", 24, "is not a SHA-256"),
        (file, "e3b0c4", "e3b0", 24, "is not a SHA-256"),
        (file, "usr/bin/tool", "/usr/bin/tool", 25, "is not a relative path"),
        (file, "usr/bin/tool", "usr/../bin/tool", 25, "is not a relative path"),
        (file, "usr/bin/tool", "usr/bin/tool\\n", 25, "control character"),
        (file, "usr/bin/tool\"", "usr/bin/tool\"\nskew = [\"base/x 1\"]", 26, "is not a skew such as"),
        (file, "[certificates.net]", "[certificates.net_]", 26, "is not a name"),
        (file, "provisioner = \"net\"", "provisioner = \"a b\"", 27, "is not a name"),
        (file, "owner = \"root\"", "owner = \"root\"\nreload = [\"x\"]", 29, "not the name of a unit"),
        (file, "owner = \"root\"", "owner = \"a\\u0000b\"", 28, "control character"),
    ];
    for wrong in wrongs {
        assert!(NET.contains(wrong.1), "{:?}", wrong.1);
        refused(&House::new(SPEC, BASE, &NET.replacen(wrong.1, wrong.2, 1)), wrong);
    }
}

#[test]
fn two_roles_cannot_bring_the_same_program() {
    let base = format!(
        "{BASE}[binaries.other]\nurl = \"https://example.org/x\"\nsha256 = \"{}\"\npath = \"usr/bin/tool\"\n",
        "0".repeat(64)
    );
    refused(
        &House::new(SPEC, &base, NET),
        &("worker.toml", "", "", 4, "brings the program `usr/bin/tool`, as `base` does"),
    );
}

#[test]
fn a_missing_spec_names_the_path_and_what_to_pass() {
    let error = spec::load(Path::new("/nonexistent/worker.toml"), Path::new("overlays")).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Spec);
    assert!(format!("{error:#}").contains("/nonexistent/worker.toml"));
}

#[test]
fn a_module_directory_without_go_sum_is_refused() {
    let net = NET.replace(
        "url = \"https://example.org/tool\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        "go = \"go/tool\"\npackage = \"example.org/tool\"",
    );
    refused(&House::new(SPEC, BASE, &net), &("overlays/net/role.toml", "", "", 23, "go.mod is missing"));
}

#[test]
fn a_module_of_another_role_is_taken_when_that_role_is_needed() {
    let binary = |of: &str| {
        NET.replace(
            "url = \"https://example.org/tool\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
            &format!("go = \"go/tool\"\nof = \"{of}\"\npackage = \"example.org/tool\"\nldflags = [\"-X a=own\"]"),
        )
    };
    let house = House::new(SPEC, BASE, &binary("base"));
    for (file, text) in [("go.mod", ""), ("go.sum", ""), ("ldflags", "# of every program\n-X a=shared\n")] {
        fs::create_dir_all(house.path("overlays/base/go/tool")).unwrap();
        fs::write(house.path("overlays/base/go/tool").join(file), text).unwrap();
    }
    let spec = house.load().unwrap();
    let spec::BinarySource::Go(module) = &spec.roles[1].binaries.values().next().unwrap().source else { panic!() };
    assert!(module.dir.ends_with("overlays/base/go/tool"));
    assert_eq!(module.ldflags, ["-X a=shared", "-X a=own"]);

    let file = "overlays/net/role.toml";
    refused(&House::new(SPEC, BASE, &binary("base")), &(file, "", "", 23, "base/go/tool/go.mod is missing"));
    refused(&House::new(SPEC, BASE, &binary("other")), &(file, "", "", 24, "does not need `other`"));
    refused(&House::new(SPEC, BASE, &binary("../base")), &(file, "", "", 24, "is not a name"));
    let url = NET.replace("path = \"usr/bin/tool\"", "path = \"usr/bin/tool\"\nof = \"base\"");
    refused(&House::new(SPEC, BASE, &url), &(file, "", "", 26, "goes with `go` only"));
}

#[test]
fn values_that_do_not_fit_each_other_are_refused_at_the_value() {
    let related = |name: &str, kind: &str, default: &str, relation: &str| {
        format!(
            "[variables.{name}]\ntype = \"{kind}\"\ndefault = \"{default}\"\nset = \"build\"\ndoc = \"x\"\n{relation}\n"
        )
    };
    let base = format!("{BASE}{}", related("pods", "cidr", "10.0.0.0/8", "same = [\"net.cidr\"]"));
    let net = format!(
        "{NET}{}{}",
        related("services", "cidr", "172.16.0.0/16", "apart = [\"cidr\", \"base.pods\", \"absent.network\"]"),
        related("dns", "address", "172.16.0.10", "within = [\"services\"]"),
    );
    House::new(SPEC, &base, &net).load().unwrap();
    let wrongs: &[Wrong] = &[
        ("worker.toml", "cidr = \"10.0.0.0/8\"", "cidr = \"10.0.0.0/9\"", 10, "they must be the same"),
        (
            "worker.toml",
            "[values.net]\n",
            "[values.net]\nservices = \"10.1.0.0/16\"\ndns = \"10.1.0.9\"\n",
            10,
            "the networks overlap",
        ),
        ("worker.toml", "[values.net]\n", "[values.net]\nservices = \"0.0.0.0/0\"\n", 10, "the networks overlap"),
        ("worker.toml", "[values.net]\n", "[values.net]\nservices = \"172.17.0.0/16\"\n", 10, "must lie in the second"),
        ("worker.toml", "[values.net]\n", "[values.net]\ndns = \"172.17.0.10\"\n", 10, "must lie in the second"),
    ];
    for wrong in wrongs {
        refused(&House::new(&SPEC.replacen(wrong.1, wrong.2, 1), &base, &net), wrong);
    }
    // The roles' own defaults are at odds: the role in the list is the place.
    let odd = net.replace("\"172.16.0.10\"", "\"172.17.0.10\"");
    refused(&House::new(SPEC, &base, &odd), &("worker.toml", "", "", 4, "must lie in the second"));
    let unknown = net.replace("[\"services\"]", "[\"servces\"]");
    refused(&House::new(SPEC, &base, &unknown), &("worker.toml", "", "", 4, "which there is not"));
    let nameless = net.replace("[\"services\"]", "[\"a.b.c\"]");
    let line = nameless[..nameless.find("a.b.c").unwrap()].lines().count();
    refused(&House::new(SPEC, &base, &nameless), &("overlays/net/role.toml", "", "", line, "is not a name"));
}

#[test]
fn a_lock_that_does_not_fit_its_spec_is_refused() {
    let house = House::new(SPEC, BASE, NET);
    let requests = spec::requests::Requests::of(&house.load().unwrap()).unwrap().digest();
    let text = format!("version = 1\nrequests = \"{requests}\"\n");
    let lock = nodelith::lock::Lock::parse(Path::new("worker.lock"), &text).unwrap();
    assert!(lock.clone().bind(house.load().unwrap()).is_ok());

    fs::write(house.path("overlays/base/role.toml"), BASE.replace("systemd", "systemd\", \"dash")).unwrap();
    let error = lock.bind(house.load().unwrap()).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Spec);
    assert!(format!("{error:#}").contains("does not satisfy"));
}

#[test]
fn a_broken_lock_is_refused_at_its_place() {
    let parse = |text: &str| nodelith::lock::Lock::parse(Path::new("worker.lock"), text).unwrap_err();
    let zeros = "0".repeat(64);
    for (text, line, cause) in [
        ("version = 1\n".to_owned(), 1, "missing field `requests`"),
        (format!("version = 1\nrequests = \"{zeros}\"\nmirror = \"x\"\n"), 3, "unknown field `mirror`"),
        ("version = 1\nrequests = \"abc\"\n".to_owned(), 2, "is not a SHA-256"),
        (format!("version = 1\nrequests = \"{zeros}\"\n[[package]]\nname = \"a\"\n"), 3, "missing field"),
        ("<<<<<<< HEAD\n".to_owned(), 1, ""),
    ] {
        let error = parse(&text);
        let message = format!("{error:#}");
        assert_eq!(kind_of(&error), Kind::Spec);
        assert!(message.contains(&format!("worker.lock:{line}:")), "{message}");
        assert!(message.contains(cause), "{message}");
        // `nodelith lock` would read it first as well.
        assert!(fault_of(&error).unwrap().hints[0].starts_with("take it from version control again"));
    }
    assert_eq!(kind_of(&parse(&format!("version = 9\nrequests = \"{zeros}\"\n"))), Kind::Spec);
}

#[test]
fn our_own_specs_and_roles_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for house in [root.to_owned(), root.join("ci/suite")] {
        for entry in fs::read_dir(house.join("image-specs")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                spec::load(&path, &house.join("overlays")).unwrap();
            }
        }
    }
}

#[test]
fn specs_for_tests_are_the_shipped_ones_and_what_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plain = |path: &str, more: &str| {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let told = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("name = "));
        told.map(|line| line.replace(more, "")).collect::<Vec<_>>()
    };
    let worker = plain("image-specs/worker.toml", "");
    assert_eq!(plain("image-specs/lab-worker.toml", ", \"samples\""), worker);
    // The suite's cases start the container of a pod's namespaces by a name of their own.
    let sandbox = ["", "[values.containerd]", "sandbox = \"nodelith.dev/pause:3.10.2\""].map(str::to_owned);
    assert_eq!(plain("ci/suite/image-specs/worker.toml", ", \"suite\""), [worker.as_slice(), &sandbox].concat());
    let pause = plain("image-specs/pause.toml", "").join("\n").replace("tag = \"1\"", "tag = \"3.10.2\"");
    assert_eq!(plain("ci/suite/image-specs/pause.toml", "").join("\n"), pause);
}

#[test]
fn every_kind_of_certificate_may_be_shown_by_a_client() {
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays");
    let mut seen = 0;
    for role in fs::read_dir(overlays).unwrap() {
        let Ok(kinds) = fs::read_dir(role.unwrap().path().join("rootfs/usr/share/nodelith/step-ca")) else { continue };
        for kind in kinds {
            let path = kind.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let usages = text.split("\"extKeyUsage\":").nth(1).unwrap_or_else(|| panic!("{} has none", path.display()));
            assert!(usages.contains("\"clientAuth\""), "{}: step-ca renews by mutual TLS only", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 12, "only {seen} found: are they elsewhere now?");
}
