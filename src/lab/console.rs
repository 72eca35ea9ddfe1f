//! What a machine says on its serial console: every line with the seconds since power-on, kept and written to a file,
//! and judged by a table of patterns that no good boot shows.

use super::{interrupt, pattern};
use crate::error::{Blame, Kind, Result};
use crate::sys::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pattern that no good boot shows.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Bad {
    /// As of [`pattern::holds`].
    pub pattern: &'static str,
    /// What it means, for the report.
    pub why: &'static str,
}

const fn bad(pattern: &'static str, why: &'static str) -> Bad {
    Bad { pattern, why }
}

/// The table. A claim may allow a line by a pattern of its own; nothing else switches an entry off.
pub const BAD: &[Bad] = &[
    bad("Kernel panic - not syncing", "the kernel stopped"),
    bad("Oops: ", "the kernel met a fault of its own"),
    bad("BUG: ", "the kernel found itself inconsistent"),
    bad("WARNING: CPU: ", "the kernel found something that must not be"),
    bad("general protection fault", "a wrong memory access in the kernel or a program"),
    bad("INFO: task * blocked for more than", "a task hangs in the kernel"),
    bad("soft lockup", "a processor did not come back from the kernel"),
    bad("device-mapper: verity: * is corrupted", "the disk differs from the sealed root"),
    bad("device-mapper: verity: error", "dm-verity could not read or check the root"),
    bad("erofs: * error", "the root file system cannot be read"),
    bad("erofs (device * failed to", "the root file system cannot be read"),
    bad("EXT4-fs error", "the state file system is inconsistent"),
    bad("EXT4-fs * Remounting filesystem read-only", "the state file system is inconsistent"),
    bad("UNEXPECTED INCONSISTENCY", "fsck gave up"),
    bad("blk_update_request: I/O error", "a disk failed"),
    bad("I/O error, dev ", "a disk failed"),
    bad("Buffer I/O error", "a disk failed"),
    bad("Out of memory: Killed process", "memory ran out"),
    bad("oom-kill:", "memory ran out"),
    bad("You are in emergency mode", "systemd gave up booting"),
    bad("Started emergency.service", "systemd gave up booting"),
    bad("Started rescue.service", "systemd gave up booting"),
    bad("Cannot open access to console, the root account is locked", "systemd gave up booting"),
    bad("Failed to isolate default target", "systemd cannot reach its target"),
    bad("Freezing execution", "systemd itself failed"),
    bad("ordering cycle", "units wait for each other; systemd drops one of them"),
    bad("Failed to start ", "a unit failed"),
    bad("Failed to listen ", "a socket unit failed"),
    bad("Failed to mount ", "a mount unit failed"),
    bad("Failed unmounting ", "a file system was busy at power-off"),
    bad("Dependency failed for ", "a unit was not started because another failed"),
    bad("Failed to load kernel module", "a kernel module is missing from the image"),
    bad("Unknown key * in section", "a unit file holds a word that systemd does not know"),
    bad("generators * failed with exit status", "a systemd generator failed"),
    bad("goroutine 1 [", "a Go program panicked"),
    bad("panic: ", "a Go program panicked"),
    bad("segfault at", "a program crashed"),
    bad("dumped core", "a program crashed"),
    bad("avc:  denied", "an access was denied by policy"),
];

/// What a boot passes on its way; the first line that holds the pattern gives the time.
pub const MILESTONES: &[(&str, &str)] = &[
    ("firmware", "BdsDxe: starting Boot"),
    ("kernel", "Linux version "),
    ("initrd", "Run /init as init process"),
    ("verity", "device-mapper: verity"),
    ("switch-root", "Stopped initrd-switch-root.service"),
    ("network", "Reached target network.target"),
    ("multi-user", "Reached target multi-user.target"),
    ("joined", "Reached target nodelith-joined.target"),
    ("power-off", "Reached target poweroff.target"),
];

/// A line of [`MILESTONES`] that was passed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Milestone {
    /// Its name.
    pub name: &'static str,
    /// As of [`Line`].
    pub at: f64,
    /// As of [`Line`].
    pub cpu: f64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Line {
    /// Seconds since power-on when the line's last byte came.
    pub at: f64,
    /// Seconds of host processor time that the machine had used by then: a busy host moves `at`, hardly this.
    pub cpu: f64,
    /// Without control sequences.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    /// What came since the last line end: a prompt, or the last words before the end.
    rest: Vec<u8>,
    closed: bool,
}

/// A machine's console since power-on.
#[derive(Debug)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
    file: PathBuf,
}

impl Console {
    /// Takes down what comes from `stream` until it ends, also into `file`. `pid` is the process that is the machine.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the file cannot be made.
    pub fn start(stream: UnixStream, file: &Path, pid: u32) -> Result<Self> {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let log = fs::create(file)?;
        let for_thread = Arc::clone(&shared);
        let since = Instant::now();
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .blame(Kind::Environment, || "opening a console".to_owned())?;
        std::thread::spawn(move || take_down(stream, log, since, pid, &for_thread));
        Ok(Self { shared, file: file.to_owned() })
    }

    /// All lines so far; an unfinished last one counts.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        all(&state)
    }

    /// The first line that holds a pattern, so far.
    #[must_use]
    pub fn find(&self, wanted: &str) -> Option<Line> {
        self.lines().into_iter().find(|line| pattern::holds(&line.text, wanted))
    }

    /// Waits until the machine hung up, so that no last word is missed.
    ///
    /// # Errors
    /// When interrupted.
    pub fn drain(&self, bound: Duration) -> Result<()> {
        let until = Instant::now() + bound;
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed && Instant::now() < until {
            interrupt::check()?;
            let step = Duration::from_millis(100);
            state = self.shared.1.wait_timeout(state, step).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// The last `count` lines, without those by which systemd shows that a job still runs.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let telling = |line: &&Line| {
            !pattern::holds(&line.text, "*] Job *running (") && !pattern::holds(&line.text, "*] (* of *) Job")
        };
        let lines = self.lines();
        let mut last: Vec<String> =
            lines.iter().rev().filter(telling).take(count).map(|line| line.text.clone()).collect();
        last.reverse();
        last
    }

    /// Where the lines are kept.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The milestones that were passed.
    #[must_use]
    pub fn milestones(&self) -> Vec<Milestone> {
        let lines = self.lines();
        let first = |wanted: &str| lines.iter().find(|line| pattern::holds(&line.text, wanted));
        let milestone = |line: &Line, name| Milestone { name, at: line.at, cpu: line.cpu };
        MILESTONES.iter().filter_map(|(name, wanted)| first(wanted).map(|line| milestone(line, name))).collect()
    }

    /// How many lines there are so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines().len()
    }

    /// As [`Console::bad`], of the lines after the first `skip`.
    #[must_use]
    pub fn bad_after(&self, skip: usize, allowed: &[String]) -> Vec<(Line, Bad)> {
        judge(self.lines().get(skip..).unwrap_or_default(), allowed)
    }

    /// Lines that match the table of bad patterns and none of `allowed`.
    #[must_use]
    pub fn bad(&self, allowed: &[String]) -> Vec<(Line, Bad)> {
        judge(&self.lines(), allowed)
    }
}

fn judge(lines: &[Line], allowed: &[String]) -> Vec<(Line, Bad)> {
    let wrong = |line: &&Line| !allowed.iter().any(|allowed| pattern::holds(&line.text, allowed));
    let entry = |line: &Line| BAD.iter().find(|bad| pattern::holds(&line.text, bad.pattern)).copied();
    lines.iter().filter(wrong).filter_map(|line| entry(line).map(|bad| (line.clone(), bad))).collect()
}

fn all(state: &State) -> Vec<Line> {
    let mut lines = state.lines.clone();
    let rest = pattern::plain(&String::from_utf8_lossy(&state.rest));
    if !rest.is_empty() {
        let (at, cpu) = state.lines.last().map_or((0.0, 0.0), |line| (line.at, line.cpu));
        lines.push(Line { at, cpu, text: rest });
    }
    lines
}

fn take_down(
    mut stream: UnixStream,
    mut log: std::fs::File,
    since: Instant,
    pid: u32,
    shared: &(Mutex<State>, Condvar),
) {
    let mut buffer = [0; 4096];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let at = (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        // A machine that has just ended is not there to be asked.
        let cpu = crate::sys::cpu_seconds(pid).unwrap_or(0.0);
        let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in &buffer[..count] {
            // The serial line ends lines by CR LF; firmware draws by cursor moves and bare CR.
            if *byte != b'\n' {
                state.rest.push(*byte);
                continue;
            }
            let text = pattern::plain(&String::from_utf8_lossy(&std::mem::take(&mut state.rest)));
            // The log is for people; the judgement uses the lines in memory, so a full disk here changes nothing.
            let _ = writeln!(log, "[{at:9.3} {cpu:7.2}] {text}");
            state.lines.push(Line { at, cpu, text });
        }
        drop(state);
        shared.1.notify_all();
    }
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let rest = pattern::plain(&String::from_utf8_lossy(&state.rest));
    if !rest.is_empty() {
        let _ = writeln!(log, "[{:9.3}        ] {rest}", since.elapsed().as_secs_f64());
    }
    state.closed = true;
    drop(state);
    shared.1.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_down_with_their_unfinished_end() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Console::start(ours, &dir.path().join("console"), std::process::id()).unwrap();
        theirs.write_all(b"[    0.0] Linux version 6.12\r\n\x1b[0mok\xff\r\nworker login: ").unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while console.find("login:").is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(theirs);
        console.drain(Duration::from_secs(20)).unwrap();
        assert_eq!(console.tail(2), ["ok\u{fffd}", "worker login: "]);
        let kernel = console.milestones()[0];
        assert!(kernel.name == "kernel" && kernel.cpu > 0.0, "{kernel:?}");
        let log = std::fs::read_to_string(console.file()).unwrap();
        assert_eq!(log.lines().count(), 3, "{log}");
    }

    #[test]
    fn each_bad_pattern_catches_what_it_is_for_and_good_lines_pass() {
        let line = |text: &str| Line { at: 0.0, cpu: 0.0, text: text.to_owned() };
        let shown = [
            "Kernel panic - not syncing: dm-verity device corrupted",
            "[   5.1] device-mapper: verity: 254:1: data block 0 is corrupted",
            "systemd[1]: Failed to start flanneld.service - flannel.",
            "[DEPEND] Dependency failed for nodelith-joined.target",
            "systemd[1]: basic.target: Found ordering cycle on a.service/start",
            "EXT4-fs error (device vda4): ext4_lookup:1853: inode #2",
            "etcd[12]: panic: runtime error",
            "flanneld[99]: segfault at 0 ip 00007f",
        ];
        for text in shown {
            assert_eq!(judge(&[line(text)], &[]).len(), 1, "{text}");
        }
        for text in ["Reached target multi-user.target", "Started flanneld.service", "Kernel command line: panic=10"] {
            assert!(judge(&[line(text)], &[]).is_empty(), "{text}");
        }
        assert!(judge(&[line(shown[2])], &["Failed to start flanneld*".to_owned()]).is_empty());
    }
}
