//! The supervisor's start: our own program anew, tied to us until we let it go.

use super::{control, supervisor};
use crate::error::{Blame, Fault, Kind, Result};
use crate::lab::interrupt;
use crate::sys::{cmd, fs};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a supervisor that lost its starter may take to end.
const ENDING: Duration = Duration::from_secs(30);
/// How often what cannot wake us is looked at.
const STEP: Duration = Duration::from_millis(100);

/// The supervisor while it depends on us.
pub(super) struct Starter<'a> {
    dir: &'a Path,
    child: Child,
    input: Option<ChildStdin>,
}

impl<'a> Starter<'a> {
    pub(super) fn spawn(dir: &'a Path) -> Result<Self> {
        let log = fs::create(&dir.join(supervisor::LOG))?;
        // Our own program, also when its file was replaced since we started.
        let mut command = cmd::command("/proc/self/exe");
        command.arg0("nodelith").args(["--output", "json", "supervise"]).arg(dir);
        command.envs(std::env::vars_os().filter(|(name, _)| name == "TMPDIR"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().blame(Kind::Environment, || "starting the supervisor".to_owned())?;
        let input = child.stdin.take();
        Ok(Self { dir, child, input })
    }

    /// Waits until its machines have power and it answers, or for the reason why not.
    pub(super) fn wait(&mut self) -> Result<()> {
        let (sender, line) = mpsc::channel();
        if let Some(output) = self.child.stdout.take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(output).read_line(&mut line);
                // Nobody waits any more when we were interrupted.
                let _ = sender.send(line);
            });
        }
        loop {
            if interrupt::raised() {
                self.abandon();
                interrupt::check()?;
            }
            match line.recv_timeout(STEP) {
                Ok(line) if line.starts_with("ready") => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.failure()),
            }
        }
    }

    /// What it said last; it has ended, or is about to.
    fn failure(&mut self) -> anyhow::Error {
        let _ = self.child.wait();
        let path = self.dir.join(supervisor::LOG);
        let said = fs::read_text(&path).unwrap_or_default();
        let parsed = said.lines().rev().find_map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            let texts = |name: &str| -> Option<Vec<String>> {
                Some(value.get(name)?.as_array()?.iter().filter_map(|text| Some(text.as_str()?.to_owned())).collect())
            };
            let kind = value.get("kind")?.as_str()?.to_owned();
            Some(control::fault(&kind, texts("error")?.join(": "), texts("hints").unwrap_or_default()))
        });
        parsed
            .unwrap_or_else(|| Fault::new(Kind::Environment, format!("the supervisor ended; see {}", path.display())))
            .into()
    }

    /// Lets it live on without us.
    pub(super) fn release(mut self) {
        if let Some(mut input) = self.input.take() {
            // It is gone already then, and whoever asks next will see that.
            let _ = input.write_all(b"over\n");
        }
    }

    /// Lets it end, and waits for that.
    pub(super) fn abandon(&mut self) {
        drop(self.input.take());
        let until = Instant::now() + ENDING;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(STEP);
        }
        // Its machines die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
