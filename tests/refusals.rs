//! What cannot be a cluster is refused when its spec is read, for each of our own specs and roles: at its place, with the
//! cause.
#![expect(clippy::disallowed_methods, reason = "files of a test's own temporary directory")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; a skipped test says so")]

use nodelith::error::{Kind, fault_of, kind_of};
use nodelith::spec::{self, Spec};
use std::fs;
use std::path::{Path, PathBuf};

/// A checkout with our specs and roles.
struct House(tempfile::TempDir);

impl House {
    fn new() -> Self {
        let house = Self(tempfile::tempdir().unwrap());
        for name in ["image-specs", "overlays"] {
            copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &house.0.path().join(name));
        }
        house
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Replaces a text that a file holds once; an empty one stands for the file's end.
    fn edit(&self, path: &str, old: &str, new: &str) {
        let path = self.path(path);
        let text = fs::read_to_string(&path).unwrap();
        let text = if old.is_empty() {
            text + new
        } else {
            assert_eq!(text.matches(old).count(), 1, "{old:?} in {}", path.display());
            text.replace(old, new)
        };
        fs::write(path, text).unwrap();
    }

    fn load(&self, name: &str) -> nodelith::error::Result<Spec> {
        spec::load(&self.path(&format!("image-specs/{name}.toml")), &self.path("overlays"))
    }

    /// The refusal of a spec: exit code, the line that is shown, the cause, and a hint.
    fn refused(&self, name: &str, line: &str, cause: &str) {
        let error = self.load(name).map(|_| ()).expect_err(cause);
        let fault = fault_of(&error).unwrap();
        assert_eq!(kind_of(&error), Kind::Spec, "{fault}");
        let shown = fault.to_string();
        assert!(shown.contains(" | ") && shown.contains(line), "`{line}` is not in\n{shown}");
        assert!(shown.contains(cause), "`{cause}` is not in\n{shown}");
        assert!(shown.contains(".toml:"), "{shown}");
        assert!(!fault.hints.is_empty(), "{shown}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.symlink_metadata().unwrap().file_type() {
            kind if kind.is_dir() => copy(&path, &target),
            kind if kind.is_file() => drop(fs::copy(&path, &target).unwrap()),
            // Links lead into the image; no spec is read through them.
            _ => {}
        }
    }
}

#[test]
fn networks_programs_and_containers_that_do_not_fit_are_refused() {
    let cases = [
        ("worker", "\"containerd\", ", "", "roles = [", "the role needs `containerd`"),
        ("worker", "10.200.0.0/16", "10.32.0.0/12", "service-cidr = ", "the networks overlap"),
        ("worker", "", "[values.network]\naddress = \"10.200.9.1/24\"\n", "cluster-cidr = ", "the networks overlap"),
        ("worker", "", "[values.network]\naddress = \"10.32.9.1/24\"\n", "service-cidr = ", "the networks overlap"),
        ("worker", "", "[values.network]\ndns = \"10.32.0.53\"\n", "service-cidr = ", "the networks overlap"),
        ("worker", "10.32.0.254", "10.33.0.254", "cluster-dns = ", "must lie in the second"),
        ("controller", "service-cidr = \"10.32", "service-cidr = \"10.33", "cluster-dns = ", "must lie in the second"),
        ("controller", "network = \"10.200", "network = \"10.201", "cluster-cidr = ", "they must be the same"),
        (
            "controller",
            "prefix = \"/kubernetes-cluster/network\"",
            "prefix = \"/elsewhere\"",
            "prefix = ",
            "they must be the same",
        ),
        (
            "worker",
            "cluster-dns = \"10.32.0.254\"",
            "cluster-dns = \"\"",
            "cluster-dns = ",
            "empty, where an IP address",
        ),
        (
            "flannel-controller",
            "",
            "\n[values.network]\naddress = \"10.200.1.1/24\"\n",
            "network = ",
            "the networks overlap",
        ),
    ];
    for (name, old, new, line, cause) in cases {
        let house = House::new();
        house.load(name).unwrap();
        house.edit(&format!("image-specs/{name}.toml"), old, new);
        house.refused(name, line, cause);
    }
    let house = House::new();
    fs::remove_file(house.path("image-specs/coredns.toml")).unwrap();
    house.refused("worker", "preload   = [\"coredns\"]", "no spec builds the container `coredns`");
}

#[test]
fn feature_gates_are_known_and_take_the_value() {
    for (gates, cause) in [
        ("GracefulNodeShutdwn=true", "there is no `GracefulNodeShutdwn`: the nearest is `GracefulNodeShutdown`"),
        ("NodeSwap=true,MemoryQos=true", "the nearest is `MemoryQoS`"),
        ("MemoryQoS=on", "`MemoryQoS=on` is not `NAME=true` or `NAME=false`"),
        ("MemoryQoS=true,MemoryQoS=false", "set twice"),
        ("InOrderInformers=false", "is locked to true"),
    ] {
        let house = House::new();
        house.edit("image-specs/worker.toml", "", &format!("feature-gates = \"{gates}\"\n"));
        house.refused("worker", "feature-gates = ", cause);
    }
    let house = House::new();
    house.edit("image-specs/worker.toml", "", "feature-gates = \"AllBeta=false,NodeSwap=true\"\n");
    house.load("worker").unwrap();
    // Its default is none.
    house.edit("image-specs/worker.toml", "AllBeta=false,NodeSwap=true", "");
    house.load("worker").unwrap();
}

/// A spec with the role of the API server beside one whose program is a release file of another version.
#[test]
fn programs_whose_versions_must_not_meet_are_refused() {
    let release = |house: &House, role: &str, version: &str| {
        let path = house.path(&format!("overlays/{role}/role.toml"));
        let text = fs::read_to_string(&path).unwrap();
        let source = format!(
            "go      = \"go/kubernetes\"\nof      = \"kubernetes\"\npackage = \"k8s.io/kubernetes/cmd/{role}\"\n"
        );
        let url = format!("url = \"https://example.org/{version}/{role}\"\nsha256 = \"{}\"\n", "0".repeat(64));
        assert!(text.contains(&source), "{text}");
        fs::write(path, text.replace(&source, &url)).unwrap();
    };
    // The API server is v1.37.2, by go.mod.
    for (role, version, cause) in [
        ("kubectl", "v1.36.9", None),
        ("kubectl", "v1.38.0", None),
        ("kubectl", "v1.35.0", Some("1 minor version older or newer")),
        ("kubectl", "v1.39.0", Some("1 minor version older or newer")),
        ("kube-scheduler", "v1.36.0", None),
        ("kube-scheduler", "v1.38.0", Some("1 minor version older, and not newer")),
        ("kube-scheduler", "v1.35.0", Some("1 minor version older, and not newer")),
        ("kube-controller-manager", "v1.38.0", Some("`kube-apiserver/kube-apiserver` is k8s.io/kubernetes@v1.37.2")),
        ("kube-controller-manager", "latest", Some("tells no version")),
    ] {
        let house = House::new();
        release(&house, role, version);
        match cause {
            None => drop(house.load("controller").unwrap()),
            Some(cause) => house.refused("controller", &format!("\"{role}\""), cause),
        }
    }
    for (version, cause) in [
        ("1.37", None),
        ("v1.40.1", None),
        ("1.41", Some("3 minor versions older, and not newer")),
        ("1.36.4", Some("`kubelet/kubelet` is k8s.io/kubernetes@v1.37.2, `kubernetes.api-server-version` is 1.36.4")),
        ("new", Some("is not a version such as `1.37`")),
    ] {
        let house = House::new();
        house.edit("image-specs/worker.toml", "", &format!("api-server-version = \"{version}\"\n"));
        match cause {
            None => drop(house.load("worker").unwrap()),
            Some(cause) => house.refused("worker", "api-server-version = ", cause),
        }
    }
    let house = House::new();
    house.edit("image-specs/controller.toml", "", "api-server-version = \"1.38\"\n");
    house.refused("controller", "api-server-version = ", "it must be the same minor version");
    let house = House::new();
    release(&house, "kubelet", "v1.33.0");
    house.refused("worker", "\"kube-proxy\"", "3 minor versions older or newer");
}

#[test]
fn a_skew_of_what_there_is_not_is_the_roles_fault() {
    for (of, cause) in [
        ("kubelet/kublet -3..3", "has a skew of `kubelet/kublet`, which there is not"),
        ("kubernetes.version -3..3", "has a skew of `kubernetes.version`, which there is not"),
    ] {
        let house = House::new();
        house.edit("overlays/kube-proxy/role.toml", "kubelet/kubelet -3..3", of);
        house.refused("worker", "kube-proxy", cause);
    }
}

fn role_file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays/kubernetes").join(name)).unwrap()
}

/// The version of a module in what pins Kubernetes.
fn pinned(module: &str) -> String {
    let text = role_file("go/kubernetes/go.mod");
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.windows(2).rposition(|pair| pair[0] == module && pair[1].starts_with('v')).unwrap();
    words[at + 1].to_owned()
}

#[test]
fn the_list_of_feature_gates_is_of_the_pinned_version() {
    let (list, [kubernetes, client]) =
        (role_file("feature-gates"), ["k8s.io/kubernetes", "k8s.io/client-go"].map(pinned));
    assert!(list.contains(&format!("k8s.io/kubernetes {kubernetes},")), "made for another version than {kubernetes}");
    assert!(list.contains(&format!("k8s.io/client-go {client},")), "made for another version than {client}");
}

/// The gates that a text of Kubernetes' own list tells, as ours writes them. Of a gate's specs the last one counts that
/// is not newer than the version itself.
fn gates_of_list(text: &str, minor: u32) -> Vec<String> {
    let mut gates: Vec<(String, Option<String>)> = Vec::new();
    let mut default = "";
    let mut locked = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- name: ") {
            gates.push((name.to_owned(), None));
        } else if let Some(value) = line.strip_prefix("- default: ") {
            default = value;
        } else if let Some(value) = line.strip_prefix("lockToDefault: ") {
            locked = value == "true";
        } else if let Some(version) = line.strip_prefix("version: \"1.").and_then(|rest| rest.strip_suffix('"'))
            && version.parse::<u32>().unwrap() <= minor
        {
            gates.last_mut().unwrap().1 = locked.then(|| default.to_owned());
        }
    }
    gates.into_iter().map(|(name, only)| only.map_or(name.clone(), |only| format!("{name}={only}"))).collect()
}

/// The gates of the client library's table.
fn gates_of_client(text: &str) -> Vec<String> {
    let table = text.split_once("defaultVersionedKubernetesFeatureGates = map").unwrap().1;
    let mut gates: Vec<String> = Vec::new();
    for line in table.lines().skip(1).map(str::trim) {
        match line.strip_suffix(": {") {
            Some(name) => gates.push(name.to_owned()),
            None if line == "}" => break,
            None if line.contains("LockToDefault: true") => {
                let gate = gates.last_mut().unwrap();
                *gate = format!("{gate}={}", line.contains("Default: true,"));
            }
            None => {}
        }
    }
    gates
}

/// Kubernetes' sources are the oracle, where `NODELITH_GO_MODULES` names a cache of Go modules (GOMODCACHE) with them.
/// `NODELITH_BLESS=1` writes the list's names anew; its head is for whoever moves to another version.
#[test]
fn the_list_of_feature_gates_is_that_of_the_sources() {
    let Some(modules) = std::env::var_os("NODELITH_GO_MODULES").map(PathBuf::from) else {
        eprintln!("skipped: NODELITH_GO_MODULES is not set");
        return;
    };
    let [kubernetes, client] = ["k8s.io/kubernetes", "k8s.io/client-go"].map(pinned);
    let read = |path: String| fs::read_to_string(modules.join(path)).unwrap();
    let list = read(format!(
        "k8s.io/kubernetes@{kubernetes}/test/compatibility_lifecycle/reference/versioned_feature_list.yaml"
    ));
    let minor = kubernetes.split('.').nth(1).unwrap().parse().unwrap();
    let mut gates = gates_of_list(&list, minor);
    gates.extend(gates_of_client(&read(format!("k8s.io/client-go@{client}/features/known_features.go"))));
    gates.extend(["AllAlpha".to_owned(), "AllBeta".to_owned()]);
    let ours = role_file("feature-gates");
    let (head, names): (Vec<&str>, Vec<&str>) = ours.lines().partition(|line| line.starts_with('#'));
    gates.retain(|gate| !head.iter().any(|line| line.contains(&format!(" {gate}."))));
    gates.sort();
    gates.dedup();
    if std::env::var_os("NODELITH_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays/kubernetes/feature-gates");
        fs::write(path, format!("{}\n{}\n", head.join("\n"), gates.join("\n"))).unwrap();
    } else {
        assert_eq!(names, gates);
    }
}
