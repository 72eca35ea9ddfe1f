//! What a machine passes on its way into the cluster, read off its console.

use super::plan::Seat;
use crate::lab::console::{Console, Line};
use crate::lab::pattern;

/// The name under which users see what the console calls by another: name of the lab's milestone, ours.
const SHOWN: [(&str, &str); 3] = [("firmware", "firmware"), ("kernel", "kernel"), ("verity", "root verified")];

/// The milestones that a machine has passed, with their seconds since power-on, and those ahead of it.
pub(super) fn milestones(console: &Console, seat: &Seat) -> (Vec<(String, f64)>, Vec<String>) {
    let passed = console.milestones();
    let lines = console.lines();
    let lab = |name: &str| passed.iter().find(|passed| passed.name == name).map(|passed| passed.at);
    let mut all: Vec<(&str, Option<f64>)> = SHOWN.iter().map(|(name, shown)| (*shown, lab(name))).collect();
    all.extend(of_roles(&lines, seat));
    all.push(("joined", lab("joined")));
    // Once it joined, nothing is ahead: a later change of words on the console must not hold up everything.
    let joined = lab("joined").is_some();
    let ahead = all.iter().filter(|(_, at)| at.is_none() && !joined).map(|(name, _)| (*name).to_owned()).collect();
    let mut passed: Vec<(String, f64)> =
        all.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?))).collect();
    // Not all machines pass them in the same order: flannel may run before the last certificate is there.
    passed.sort_by(|a, b| a.1.total_cmp(&b.1));
    (passed, ahead)
}

/// What depends on the image's roles: all its certificates are there; flannel runs, where it has a certificate for it.
fn of_roles(lines: &[Line], seat: &Seat) -> Vec<(&'static str, Option<f64>)> {
    let first = |wanted: &str| lines.iter().find(|line| pattern::holds(&line.text, wanted)).map(|line| line.at);
    let mut out = Vec::new();
    let unit = |name: &String| format!("Finished nodelith-certificate@{name}.service");
    let fetched = seat.certificates.iter().map(|(name, _)| first(&unit(name)));
    if !seat.certificates.is_empty() {
        out.push(("certificates", fetched.reduce(|all, one| Some(all?.max(one?))).flatten()));
    }
    if seat.certificates.iter().any(|(name, _)| name == "flannel") {
        out.push(("flannel", first("Started flanneld.service")));
    }
    out
}

/// Lines that deserve a word: what no good boot shows, and failures that the node told by a code (not the codes of
/// states, which are numbered from 010 on).
pub(super) fn trouble(console: &Console) -> Vec<String> {
    let told = |line: &Line| {
        let code = line.text.split("NL-").nth(1)?.split_whitespace().next()?.rsplit('-').next()?.parse::<u32>().ok()?;
        (code < 10).then(|| line.text.trim().to_owned())
    };
    let mut out: Vec<String> =
        console.bad_after(0, &[]).into_iter().map(|(line, bad)| format!("{}: {}", bad.why, line.text.trim())).collect();
    out.extend(console.lines().iter().filter_map(told));
    // Repeated failures are one trouble; the console has them all.
    out.dedup();
    out.truncate(20);
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::digest::Sha256;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// The seat of a worker with these certificates.
    pub(in crate::cluster) fn seat(certificates: &[&str]) -> Seat {
        Seat {
            name: "worker-1".into(),
            image: "worker".into(),
            manifest: Sha256([0; 32]),
            address: crate::cluster::address(1),
            memory: 1024,
            cpus: 1,
            certificates: certificates.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect(),
        }
    }

    fn said(text: &str) -> (Console, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Console::start(ours, &dir.path().join("console"), std::process::id()).unwrap();
        theirs.write_all(text.as_bytes()).unwrap();
        drop(theirs);
        console.drain(Duration::from_secs(20)).unwrap();
        (console, dir)
    }

    #[test]
    fn certificates_are_passed_when_the_last_one_is() {
        let one = "Linux version 6.12\n[  OK  ] Finished nodelith-certificate@flannel.service - Certificate flannel.\n";
        let (console, _dir) = said(one);
        let (passed, ahead) = milestones(&console, &seat(&["flannel", "kubelet"]));
        assert_eq!(passed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["kernel"]);
        assert_eq!(ahead, ["firmware", "root verified", "certificates", "flannel", "joined"]);
        let (passed, ahead) = milestones(&console, &seat(&["flannel"]));
        assert_eq!(passed[1].0, "certificates");
        assert_eq!(ahead, ["firmware", "root verified", "flannel", "joined"]);
        let (console, _dir) = said("[  OK  ] Reached target nodelith-joined.target - Joined.\n");
        assert!(milestones(&console, &seat(&["flannel"])).1.is_empty(), "joined is joined");
    }

    #[test]
    fn trouble_is_what_failed_and_not_what_waits() {
        let text = "certificate[9]: NL-CERT-003 certificate flannel: token refused\nNL-CERT-010 waiting for https://x\n\
                    NL-CA-100 root fingerprint 00\n[FAILED] Failed to start etcd.service - etcd.\n";
        let (console, _dir) = said(text);
        let trouble = trouble(&console);
        assert_eq!(trouble.len(), 2, "{trouble:?}");
        assert!(trouble[0].starts_with("a unit failed") && trouble[1].contains("NL-CERT-003"));
    }
}
