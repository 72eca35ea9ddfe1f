//! The program from outside: exit codes, what goes to which stream, nothing half-written.

#![expect(clippy::disallowed_methods, reason = "runs the program itself, in a test's own temporary directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn nodelith(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodelith"));
    command.current_dir(dir).args(args).env_clear().env("HOME", dir).env("RUST_BACKTRACE", "0").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A checkout with one role and a spec `x`.
fn house(spec_tail: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("overlays/base")).unwrap();
    fs::write(dir.path().join("overlays/base/role.toml"), "summary = \"s\"\npackages = [\"dash\"]\n").unwrap();
    let head = "schema = 1\nname = \"x\"\nepoch = 2026-01-01T00:00:00Z\nroles = [\"base\"]\n";
    fs::write(dir.path().join("x.toml"), format!("{head}{spec_tail}[debian]\nsuites = [\"trixie\"]\n")).unwrap();
    dir
}

#[test]
fn wrong_usage_is_2_and_shows_the_usage() {
    let dir = house("");
    for args in [&["frobnicate"][..], &["build"], &["lock", "x.toml", "--upgrade", "a", "--upgrade-all"], &["token"]] {
        let output = nodelith(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains("Usage:"), "{args:?}");
    }
}

#[test]
fn a_wrong_spec_is_3_and_shows_the_line_and_what_to_do() {
    let dir = house("roels = []\n");
    let output = nodelith(dir.path(), &["build", "x.toml"]);
    assert_eq!(output.status.code(), Some(3));
    let said = said(&output);
    for part in
        ["error: x.toml is not valid", "x.toml:5:1", "roels = []", "unknown field `roels`", "hint: docs/spec.md"]
    {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    assert!(output.stdout.is_empty(), "errors go to standard error");
}

#[test]
fn an_unlocked_spec_is_3_and_leaves_nothing() {
    let dir = house("");
    let output = nodelith(dir.path(), &["build", "x.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("hint: run `nodelith lock x.toml`"), "{}", said(&output));
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_cold_store_offline_is_5_and_leaves_no_image() {
    let dir = house("");
    let requests = {
        let spec = nodelith::spec::load(&dir.path().join("x.toml"), &dir.path().join("overlays")).unwrap();
        nodelith::spec::requests::Requests::of(&spec).unwrap().digest()
    };
    let package = format!(
        "[[package]]\nname = \"dash\"\nversion = \"1\"\narchitecture = \"amd64\"\nsuite = \"trixie\"\npath = \"pool/d.deb\"\nsize = 1\nsha256 = \"{}\"\nuses = [\"image\"]\n",
        "0".repeat(64)
    );
    fs::write(dir.path().join("x.lock"), format!("version = 1\nrequests = \"{requests}\"\n{package}")).unwrap();
    let output = nodelith(dir.path(), &["build", "x.toml", "--offline"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("dash"), "{}", said(&output));
    let left: Vec<_> = fs::read_dir(dir.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".x.lock"], "only the lock file of the output may stay");
}

#[test]
fn json_errors_are_one_object_a_line() {
    let dir = house("roels = []\n");
    let output = nodelith(dir.path(), &["--output", "json", "build", "x.toml"]);
    let line = said(&output);
    let value: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!((value["event"].as_str(), value["kind"].as_str()), (Some("failed"), Some("spec")));
    assert_eq!((value["exit-code"].as_u64(), value["version"].as_u64()), (Some(3), Some(1)));
}

#[test]
fn a_new_key_is_private_and_its_tokens_name_the_node() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = house("");
    let output = nodelith(dir.path(), &["token", "--new-key", "operator.jwk"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\"d\""), "only the public half is printed");
    assert_eq!(fs::metadata(dir.path().join("operator.jwk")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        nodelith(dir.path(), &["token", "--new-key", "operator.jwk"]).status.code(),
        Some(2),
        "never overwritten"
    );

    let zeros = "0".repeat(64);
    let args =
        ["token", "--key", "operator.jwk", "--provisioner", "flannel", "--name", "worker-1", "--address", "10.8.0.11"];
    let rest = ["--ca", "https://10.8.0.10:8443", "--fingerprint", &zeros, "--count", "2"];
    let output = nodelith(dir.path(), &[&args[..], &rest[..]].concat());
    let tokens = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(tokens.lines().count(), 2, "{}", said(&output));
    assert!(tokens.lines().all(|token| token.split('.').count() == 3));
}

#[test]
fn a_new_key_takes_what_every_verb_takes_and_nothing_of_tokens() {
    let dir = house("");
    let new_key = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodelith"));
        command.current_dir(dir.path()).env_clear().env("HOME", dir.path()).env("NODELITH_MIRROR", "http://m/debian");
        command.args(["token", "--new-key"]).args(args).output().unwrap()
    };
    let output = new_key(&["a.jwk", "--quiet", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(new_key(&["b.jwk", "--count", "2"]).status.code(), Some(2));
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
    let dir = house("");
    let complete = |stdout: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodelith"));
        command.current_dir(dir.path()).args(["completions", "bash"]).stdout(stdout).output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(complete(writer.into()).status.code(), Some(0));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = complete(full.into());
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("writing to standard output"), "{}", said(&output));
}

#[test]
fn completions_and_help_go_to_standard_output() {
    let dir = house("");
    for args in [&["completions", "bash"][..], &["--help"], &["test", "--help"]] {
        let output = nodelith(dir.path(), args);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}
