//! The nodes' shell scripts, where a boot does not come by every day: an answer that is cut off in its middle.
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

/// step-ca ends a connection 15 s after the question. On a slow machine curl has the status then, and no certificate.
#[test]
fn an_answer_that_was_cut_off_is_asked_for_again() {
    let work = tempfile::tempdir().expect("a directory");
    let script = r#"
echo request >csr.pem
wait_a_bit() { :; }
curl() {
    echo asked >>questions
    printf 201
    if [ "$(wc -l <questions)" = 1 ]; then return 92; fi
    echo certificate >answer.json
}
present https://ca . csr.pem token
echo "$answer after $(wc -l <questions), $(cat answer.json)"
"#;
    assert_eq!(sh(work.path(), &CERTIFICATES, script), "201 after 2, certificate\n");
}
