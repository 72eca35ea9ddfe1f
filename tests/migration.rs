//! docs/migrating-from-ansible.md says what the roles say, names every variable of the original, and leads somewhere.
#![expect(clippy::disallowed_methods, reason = "files of the checkout, and of a test's own temporary directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "shared/files.rs"]
mod shared;

use nodelith::spec::{Role, SetAt, Value, Variable};
use shared::files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The variables of the roles as they were in 2017, and in parentheses their lists of files.
const ORIGINAL: [(&str, &[&str]); 3] = [
    (
        "flanneld",
        &[
            "k8s_interface",
            "k8s_conf_dir",
            "k8s_cni_conf_dir",
            "k8s_ca_conf_directory",
            "etcd_conf_dir",
            "etcd_bin_dir",
            "etcd_client_port",
            "flannel_version",
            "flannel_etcd_prefix",
            "flannel_ip_range",
            "flannel_backend_type",
            "flannel_cni_name",
            "flannel_subnet_file_dir",
            "flannel_options_dir",
            "flannel_bin_dir",
            "flannel_ip_masq",
            "flannel_cni_conf_file",
            "flannel_healthz_ip",
            "flannel_healthz_port",
            "(list of certificates for etcd)",
        ],
    ),
    (
        "docker",
        &[
            "docker_download_dir",
            "docker_version",
            "docker_user",
            "docker_group",
            "docker_uid",
            "docker_gid",
            "docker_bin_dir",
            "docker_storage_driver",
            "docker_log_level",
            "docker_iptables",
            "docker_ip_masq",
            "docker_bip",
            "docker_mtu",
        ],
    ),
    (
        "kubernetes-worker",
        &[
            "k8s_conf_dir",
            "k8s_bin_dir",
            "k8s_release",
            "k8s_interface",
            "k8s_ca_conf_directory",
            "k8s_config_directory",
            "k8s_worker_download_dir",
            "k8s_worker_kubelet_conf_dir",
            "k8s_worker_kubelet_serialize_image_pulls",
            "k8s_worker_kubelet_allow_privileged",
            "k8s_worker_kubelet_container_runtime",
            "k8s_worker_kubelet_docker",
            "k8s_worker_kubelet_image_pull_progress_deadline",
            "k8s_worker_kubelet_register_node",
            "k8s_worker_kubelet_runtime_request_timeout",
            "k8s_worker_kubelet_cadvisor_port",
            "k8s_worker_kubelet_cloud_provider",
            "k8s_worker_kubelet_healthz_port",
            "k8s_worker_kubeproxy_conf_dir",
            "k8s_worker_kubeproxy_proxy_mode",
            "k8s_controller_manager_cluster_cidr",
            "k8s_cluster_dns",
            "k8s_cluster_domain",
            "k8s_network_plugin",
            "k8s_cni_dir",
            "k8s_cni_bin_dir",
            "k8s_cni_conf_dir",
            "k8s_cni_plugin_version",
            "(list of worker binaries)",
            "(list of worker certificates)",
        ],
    ),
];

/// What a cell of our own variables may begin with instead.
const INSTEAD: [&str; 5] = ["gone", "fixed: ", "pinned: ", "from ", "role `"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/migrating-from-ansible.md")).unwrap()
}

/// Every role that a spec of ours uses, by its name.
fn roles() -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for entry in fs::read_dir(root().join("image-specs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let spec = nodelith::spec::load(&path, &root().join("overlays")).unwrap();
            roles.extend(spec.roles.into_iter().map(|role| (role.name.to_string(), role)));
        }
    }
    roles
}

fn variable<'a>(roles: &'a BTreeMap<String, Role>, role: &str, name: &str) -> Option<&'a Variable> {
    roles.get(role)?.variables.iter().find(|(found, _)| found.as_str() == name).map(|(_, variable)| variable)
}

/// The rows of the table under a heading, cell by cell.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section =
        page.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_else(|| panic!("{heading}"));
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands between single backticks; indented and fenced code is not looked at.
fn spans(page: &str) -> Vec<&str> {
    let mut fenced = false;
    let prose = page.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && !line.starts_with("```") && !line.starts_with("    ")
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// How the page shows one of our variables.
fn shown(role: &str, name: &str, variable: &Variable) -> String {
    let set = match variable.set {
        SetAt::Build => "build",
        SetAt::Boot => "boot",
    };
    let default = match &variable.default {
        None => "required".into(),
        Some(Value::Text(text)) if text.is_empty() => "empty".into(),
        Some(value) => format!("`{value}`"),
    };
    format!("`{role}.{name}`, {set}, {default}")
}

/// What can be looked up of a value that is no variable: the version in the module that is named, a path in a role.
fn instead_is_so(now: &str, why: &str) {
    if let Some(module) = spans(why).into_iter().find(|span| span.ends_with("/go.mod")) {
        let version = now.rsplit(' ').next().unwrap();
        let pinned = fs::read_to_string(root().join(module)).unwrap_or_else(|error| panic!("{module}: {error}"));
        assert!(pinned.lines().any(|line| line.contains(&format!(" v{version}"))), "{module} does not pin {version}");
    }
    let mut texts = Vec::new();
    files(&root().join("overlays"), &mut texts);
    for path in spans(now).into_iter().filter(|span| span.starts_with('/') && !span.contains('<')) {
        assert!(texts.iter().any(|(_, text)| text.contains(path.trim_end_matches('/'))), "no role knows {path}");
    }
}

#[test]
fn every_variable_of_the_original_has_one_row_and_ours_are_as_defined() {
    let (page, roles) = (page(), roles());
    let mut told = BTreeSet::new();
    for row in rows(&page, "Every variable") {
        let [role, name, default, now, why] = row[..] else { panic!("not five cells: {row:?}") };
        assert!(told.insert((role, name.trim_matches('`'))), "twice: {role} {name}");
        assert!(!default.is_empty() && !why.is_empty(), "{role} {name} says too little");
        if INSTEAD.iter().any(|word| now.starts_with(word)) {
            instead_is_so(now, why);
            continue;
        }
        for item in now.split("; ") {
            let ours = item.split('`').nth(1).and_then(|span| span.split_once('.'));
            let (role, name) = ours.unwrap_or_else(|| panic!("neither a variable nor one of {INSTEAD:?}: {item}"));
            let variable = variable(&roles, role, name).unwrap_or_else(|| panic!("no variable {role}.{name}"));
            assert_eq!(item, shown(role, name, variable));
        }
    }
    let original = ORIGINAL.iter().flat_map(|(role, names)| names.iter().map(move |name| (*role, *name)));
    assert_eq!(told, original.collect());
}

#[test]
fn the_page_names_no_variable_or_credential_that_is_not_there() {
    let (page, roles) = (page(), roles());
    let mut seen = 0;
    for span in spans(&page) {
        let parts: Vec<_> = span.split('.').collect();
        match parts[..] {
            _ if span.contains(['<', ' ', '/']) => {}
            ["nodelith", role, name] => {
                let found = variable(&roles, role, name).is_some_and(|variable| variable.set == SetAt::Boot);
                assert!(found, "no credential {span}");
                seen += 1;
            }
            // A unit or a file of a program that is called as its role is.
            [_, "service" | "toml" | "yaml"] => {}
            [role, name] if roles.contains_key(role) => {
                assert!(variable(&roles, role, name).is_some(), "no variable {span}");
                seen += 1;
            }
            _ => {}
        }
    }
    assert!(seen > 20, "only {seen} found: is the page written in another way?");
}

#[test]
fn the_pages_example_is_a_sound_spec() {
    let page = page();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The containers that its roles preload are specs beside it.
    for entry in fs::read_dir(root().join("image-specs")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("worker.toml");
    fs::write(&path, example).unwrap();
    nodelith::spec::load(&path, &root().join("overlays")).unwrap();
}

/// Text and target of every link.
fn links(page: &str) -> Vec<(&str, &str)> {
    let ends = page.match_indices("](").map(|(at, _)| at);
    ends.map(|at| {
        let text = page[..at].rsplit('[').next().unwrap();
        (text.trim_matches('`'), page[at + 2..].split(')').next().unwrap())
    })
    .collect()
}

#[test]
fn each_fault_is_proved_by_a_claim_or_a_test_that_exists() {
    let page = page();
    for row in rows(&page, "Faults") {
        let [_, _, proof] = row[..] else { panic!("not three cells: {row:?}") };
        assert!(!links(proof).is_empty(), "no proof: {row:?}");
    }
    for (text, target) in links(&page) {
        let path = root().join("docs").join(target);
        let content = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{target}: {error}"));
        if let Some(claim) = target.strip_prefix("../vm-tests/") {
            assert_eq!(claim, format!("{text}.toml"));
        }
        if target.ends_with(".rs") {
            assert!(content.contains(&format!("#[test]\nfn {text}()")), "{target} has no test {text}");
        }
    }
}

#[test]
fn no_role_uses_a_certificate_of_another() {
    let mut seen = 0;
    for (name, role) in roles() {
        let own: BTreeSet<_> = role.certificates.keys().map(nodelith::text::Name::as_str).collect();
        let mut texts = Vec::new();
        if role.dir.join("rootfs").is_dir() {
            files(&role.dir.join("rootfs"), &mut texts);
        }
        for (path, text) in texts {
            for before in ["/var/lib/nodelith/certificates/", "${CERTS}/", "/usr/lib/nodelith/kubeconfig "] {
                for rest in text.split(before).skip(1) {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
                    // `$name` of a script that serves all roles, or `cert.pem` of a directory that a unit names before.
                    if end == 0 || rest[end..].starts_with('.') {
                        continue;
                    }
                    assert!(own.contains(&rest[..end]), "{name} uses the certificate {}: {path}", &rest[..end]);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} found: are certificates elsewhere now?");
}

#[test]
fn nothing_but_step_ca_signs() {
    let mut texts = Vec::new();
    files(&root().join("overlays"), &mut texts);
    assert!(texts.iter().any(|(path, _)| path.contains("/kube-controller-manager.service")));
    for (path, text) in texts {
        assert!(!text.contains("cluster-signing"), "{path} gives the cluster a key to sign certificates with");
    }
}
