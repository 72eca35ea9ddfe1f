//! A program that must not outlive us, however we end.
//!
//! A small shell becomes the program by `exec`, so the child's pid and exit status are the program's. Beside it waits
//! a watcher on a pipe of ours: it is told when the program ended well, and end-of-file, which the kernel delivers
//! even when we are killed with SIGKILL, makes it kill the program. Nothing else is ever signalled.

use crate::error::{Blame, Kind, Result};
use crate::sys::{cmd, fs};
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

const WATCHED: &str = r#"exec 3<&0; { read -r over <&3 || kill -KILL $$; } & exec "$@" </dev/null 3<&-"#;

/// A running program; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program with an environment of only `environment`; what it says goes to the file `said`.
    pub(super) fn start(argv: &[OsString], environment: &[(&str, OsString)], said: &Path) -> Result<Self> {
        let out = fs::create(said)?;
        let error = out.try_clone().blame(Kind::Environment, || format!("opening {}", said.display()))?;
        let mut command = cmd::command("/bin/sh");
        command.args(["-c", WATCHED, "nodelith-lab"]).args(argv);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        // Its own process group: Ctrl-C on the terminal reaches us, and we end the program in order.
        command.stdin(Stdio::piped()).stdout(out).stderr(error).process_group(0);
        let child = command.spawn().blame(Kind::Environment, || "starting a machine by /bin/sh".to_owned())?;
        Ok(Self { child, ended: None })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the program ended, once it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
            if self.ended.is_some() {
                self.release();
            }
        }
        self.ended
    }

    /// Ends the program at once, as a power cut does.
    pub(super) fn kill(&mut self) {
        if self.ended().is_none() {
            // Fails only when it has just ended by itself.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
            self.release();
        }
    }

    /// Tells the watcher that its pid is no longer the program's.
    fn release(&mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            // The watcher may be gone when someone killed the whole group.
            let _ = pipe.write_all(b"over\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn start(script: &str, dir: &Path) -> Process {
        let argv = ["/bin/sh", "-c", script].map(OsString::from);
        Process::start(&argv, &[], &dir.join("said")).unwrap()
    }

    fn alive(pid: u32) -> bool {
        // A zombie's state is Z; it is as good as gone.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
    }

    #[test]
    fn status_and_words_of_the_program_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = start("echo hello; exit 7", dir.path());
        let until = Instant::now() + Duration::from_secs(20);
        while process.ended().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(process.ended().and_then(|status| status.code()), Some(7));
        assert_eq!(std::fs::read_to_string(dir.path().join("said")).unwrap(), "hello\n");
    }

    #[test]
    fn dropping_kills_and_losing_the_pipe_kills() {
        let dir = tempfile::tempdir().unwrap();
        let process = start("sleep 600", dir.path());
        let pid = process.child.id();
        assert!(alive(pid));
        drop(process);
        assert!(!alive(pid));

        // The pipe closes when we die; here it is closed by hand.
        let mut process = start("exec sleep 600", dir.path());
        drop(process.child.stdin.take());
        let until = Instant::now() + Duration::from_secs(20);
        while process.ended().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(process.ended().is_some());
    }
}
