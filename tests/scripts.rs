//! The nodes' shell scripts, where a boot does not come by every day: an answer that is cut off in its middle, a clock that is
//! wrong, a refusal in the middle of a step.
#![expect(clippy::disallowed_methods, reason = "the scripts' own shell")]

use std::path::Path;
use std::process::Command;

/// What `sh` says in a directory to a script that begins with the roles' `files`, in their order.
fn sh(dir: &Path, files: &[&str], script: &str) -> String {
    let mut whole = String::from("set -eu\n");
    for file in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays").join(file);
        whole += &format!(". '{}'\n", path.display());
    }
    let output = Command::new("sh").arg("-c").arg(whole + script).current_dir(dir).output().expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

const CERTIFICATES: [&str; 2] = ["base/rootfs/usr/lib/nodelith/lib.sh", "certificates/rootfs/usr/lib/nodelith/ca.sh"];

/// What `then` prints, where it presents a token to a CA that is asked by `curl`, the body of a function, without waiting.
fn presenting(curl: &str, then: &str) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let script = format!("echo request >csr.pem\nwait_a_bit() {{ :; }}\ncurl() {{\n{curl}\n}}\n{then}");
    sh(work.path(), &CERTIFICATES, &script)
}

/// step-ca ends a connection 15 s after the question. On a slow machine curl has the status then, and no certificate.
#[test]
fn an_answer_that_was_cut_off_is_asked_for_again() {
    let curl = r#"
    echo asked >>questions
    printf 201
    if [ "$(wc -l <questions)" = 1 ]; then return 92; fi
    echo certificate >answer.json"#;
    let then = r#"
present https://ca . csr.pem token
echo "$answer after $(wc -l <questions), $(cat answer.json)""#;
    assert_eq!(presenting(curl, then), "201 after 2, certificate\n");
}

/// A worker whose clock is seconds behind the controller's meets a CA that was made "in the future".
#[test]
fn a_ca_that_is_not_valid_yet_is_waited_for() {
    let curl = r#"
    echo asked >>questions
    if [ "$(wc -l <questions)" -lt 3 ]; then printf '000 9'; return 60; fi
    printf '201 0'"#;
    let then = r#"
present https://ca . csr.pem token 2>said
echo "$answer after $(wc -l <questions); $(grep -c '^NL-CERT-010 .* is not valid yet at ' said) of $(wc -l <said) lines""#;
    assert_eq!(presenting(curl, then), "201 after 3; 1 of 1 lines\n");
}

#[test]
fn a_ca_that_is_not_valid_any_more_and_a_foreign_one_end_the_step() {
    for (found, code) in [("10", "NL-CERT-005"), ("20", "NL-CERT-007"), ("0", "NL-CERT-007")] {
        let curl = format!("printf '000 {found}'; return 60");
        let then = "(present https://ca . csr.pem token) 2>said || cut -d ' ' -f 1 said";
        assert_eq!(presenting(&curl, then), format!("{code}\n"), "{found}");
    }
}

#[test]
fn a_certificate_names_whom_it_names() {
    let files = [CERTIFICATES[0], "certificates/rootfs/usr/lib/nodelith/answer.sh"];
    let script = r#"
said='X509v3 Subject Alternative Name: 
    DNS:worker-1, DNS:kubernetes, IP Address:10.8.0.11, IP Address:127.0.0.1
Certificate will not expire'
for name in DNS:worker-1 DNS:kubernetes 'IP Address:10.8.0.11' 'IP Address:127.0.0.1' \
    DNS:worker DNS:worker-11 'IP Address:10.8.0.1' 'IP Address:127.0.0.11' DNS:10.8.0.11; do
    if names "$said" "$name"; then echo "$name"; fi
done
"#;
    let named = "DNS:worker-1\nDNS:kubernetes\nIP Address:10.8.0.11\nIP Address:127.0.0.1\n";
    assert_eq!(sh(Path::new("/"), &files, script), named);
}

/// etcd's users: a step that etcd refuses is tried again, with all that comes before it, until the doors are closed.
#[test]
fn etcds_users_are_made_until_all_are() {
    let work = tempfile::tempdir().expect("a directory");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("overlays/etcd/rootfs/usr/lib/nodelith/etcd-users");
    let text = std::fs::read_to_string(path).expect("the script");
    let (_, body) = text.split_once("lib.sh\n").expect("it sources lib.sh");
    let body = body
        .replace("/usr/lib/nodelith/etcd-users.d/", "users.d/")
        .replace("/usr/lib/nodelith/etcdctl-admin", "etcdctl");
    let script = format!(
        r#"
mkdir users.d
echo /registry/ >users.d/flannel
wait_a_bit() {{ :; }}
curl() {{ return 22; }}
address=127.0.0.1
etcdctl() {{
    echo "$*" >>calls
    case $* in
    'auth enable') if [ "$(grep -c 'auth enable' calls)" = 1 ]; then echo 'context deadline exceeded' >&2; return 1; fi ;;
    esac
}}
{body}
grep -c 'auth enable' calls
grep -c 'grant-permission flannel --prefix=true readwrite /registry/' calls
"#
    );
    assert_eq!(sh(work.path(), &CERTIFICATES[..1], &script), "2\n2\n");
}
