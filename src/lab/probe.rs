//! The channel into a guest: a shell loop that enters as systemd credentials, so the image under test holds nothing
//! of it, and that talks over a virtio serial port.
//!
//! A request is one line, `ID SECONDS BASE64(script)`; an answer is one line, `ID EXIT BASE64(stdout) BASE64(stderr)`, of
//! long texts the end. `ready` is said whenever the loop starts.

use super::interrupt;
use crate::error::{Blame, Fault, Kind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The unit. It starts with the real system only: the initrd has no shell. It waits for nothing but the file systems,
/// so a machine that does not come up can still be asked why.
const UNIT: &str = "[Unit]
Description=Lab probe
ConditionPathExists=!/etc/initrd-release
DefaultDependencies=no
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
LoadCredential=lab.probe
ExecStart=/bin/sh ${CREDENTIALS_DIRECTORY}/lab.probe
Restart=always
RestartSec=1
StandardInput=null
StandardOutput=null
StandardError=null
";

/// What pulls the unit in. basic.target is reached by every boot that is worth asking.
const PULL: &str = "[Unit]
Wants=nodelith-probe.service
";

const SCRIPT: &str = r#"umask 077
port=/dev/virtio-ports/nodelith.probe
until [ -e "$port" ]; do sleep 0.2; done
exec 3<>"$port" || exit 1
dir=/run/nodelith-probe
mkdir -p "$dir"
cd /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root SYSTEMD_PAGER= SYSTEMD_COLORS=0
unset CREDENTIALS_DIRECTORY INVOCATION_ID
echo ready >&3
while :; do
    read -r id seconds code <&3 || { sleep 0.2; continue; }
    [ -n "$code" ] || continue
    printf %s "$code" | base64 -d >"$dir/script"
    umask 022
    timeout -k 2 "$seconds" sh "$dir/script" >"$dir/out" 2>"$dir/err" </dev/null 3<&-
    status=$?
    umask 077
    printf '%s %s %s. %s.\n' "$id" "$status" "$(tail -c 1000000 "$dir/out" | base64 -w 0)" \
        "$(tail -c 100000 "$dir/err" | base64 -w 0)" >&3
done
"#;

/// The credentials that bring the probe into a machine.
pub(super) fn credentials() -> [(&'static str, &'static str); 3] {
    [
        ("systemd.extra-unit.nodelith-probe.service", UNIT),
        ("systemd.unit-dropin.basic.target", PULL),
        ("lab.probe", SCRIPT),
    ]
}

/// What a script did in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; 124 when its time was over.
    pub code: i32,
    /// What it printed, the last megabyte.
    pub stdout: String,
    /// What it complained, the last 100 kB.
    pub stderr: String,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    answers: BTreeMap<u64, Answer>,
    next: u64,
    closed: bool,
}

/// Our end of the channel.
#[derive(Debug)]
pub(super) struct Probe {
    writer: Mutex<UnixStream>,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Probe {
    /// Listens on a connected stream.
    pub(super) fn start(stream: UnixStream) -> Result<Self> {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let for_thread = Arc::clone(&shared);
        let reader = stream.try_clone().blame(Kind::Environment, || "opening the probe's channel".to_owned())?;
        std::thread::spawn(move || listen(reader, &for_thread));
        Ok(Self { writer: Mutex::new(stream), shared })
    }

    /// Whether the guest's end was heard.
    pub(super) fn ready(&self) -> bool {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).ready
    }

    /// Runs a script in the guest; `bound` holds for the script, the answer may take a little longer.
    pub(super) fn run(&self, script: &str, bound: Duration) -> Result<Answer> {
        let lost = |why: &str| Fault::new(Kind::Verdict, format!("the machine did not answer: {why}"));
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.next += 1;
        let id = state.next;
        drop(state);
        let seconds = bound.as_secs().max(1);
        let line = format!("{id} {seconds} {}\n", STANDARD.encode(script));
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(line.as_bytes()).map_err(|_| lost("it is off"))?;
        drop(writer);
        let until = Instant::now() + bound + Duration::from_secs(20);
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = state.answers.remove(&id) {
                return Ok(answer);
            }
            if state.closed {
                return Err(lost("it went off meanwhile").into());
            }
            if Instant::now() >= until {
                return Err(lost(&format!("nothing within {} s", bound.as_secs() + 20)).into());
            }
            interrupt::check()?;
            let step = Duration::from_millis(200);
            state = self.shared.1.wait_timeout(state, step).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn listen(stream: UnixStream, shared: &(Mutex<State>, Condvar)) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if line == "ready" {
            state.ready = true;
        } else if let Some((id, answer)) = parse(&line) {
            state.answers.insert(id, answer);
        }
        drop(state);
        shared.1.notify_all();
    }
    shared.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    shared.1.notify_all();
}

/// An answer's line. Each text ends in `.`, so that an empty one is still a word.
fn parse(line: &str) -> Option<(u64, Answer)> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let code = words.next()?.parse().ok()?;
    let mut text = || {
        let bytes = STANDARD.decode(words.next()?.strip_suffix('.')?).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stdout, stderr) = (text()?, text()?);
    Some((id, Answer { code, stdout, stderr }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "scratch files and printed skips of tests")]

    use super::*;

    /// The guest's own script, run here by the host's shell on a socket instead of a virtio port.
    #[test]
    fn the_guest_script_answers_with_code_and_texts() {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("in");
        let script = SCRIPT
            .replace("exec 3<>\"$port\" || exit 1", "exec 3<&0 4>&1")
            .replace(">&3\n", ">&4\n")
            .replace("/dev/virtio-ports/nodelith.probe", &port.display().to_string())
            .replace("/run/nodelith-probe", &dir.path().join("run").display().to_string());
        std::fs::write(&port, "").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = crate::sys::cmd::command("/bin/sh");
        let input = std::os::fd::OwnedFd::from(theirs.try_clone().unwrap());
        command.args(["-c", &script]).stdin(input).stdout(std::os::fd::OwnedFd::from(theirs));
        let mut child = command.spawn().unwrap();
        drop(command);
        let probe = Probe::start(ours).unwrap();
        let answer = probe.run("echo 'ä b'; echo no >&2; exit 3", Duration::from_secs(20)).unwrap();
        assert_eq!(answer, Answer { code: 3, stdout: "ä b\n".into(), stderr: "no\n".into() });
        assert!(probe.ready());
        assert_eq!(probe.run("sleep 60", Duration::from_secs(1)).unwrap().code, 124);
        assert_eq!(probe.run("cat; umask", Duration::from_secs(20)).unwrap().stdout, "0022\n");
        let long = probe.run("yes old | head -c 1200000; echo newest", Duration::from_secs(20)).unwrap().stdout;
        assert!(long.len() == 1_000_000 && long.ends_with("old\nnewest\n"), "of a long text the end");
        child.kill().unwrap();
        child.wait().unwrap();
        let error = probe.run("true", Duration::from_secs(2)).unwrap_err();
        assert!(format!("{error}").contains("did not answer"), "{error}");
    }

    #[test]
    fn broken_answers_are_not_answers() {
        for line in ["", "1", "1 0", "1 0 !. .", "x 0 . .", "1 0 YQ== YQ=="] {
            assert!(parse(line).is_none(), "{line}");
        }
        assert_eq!(parse("7 0 . .").map(|(id, answer)| (id, answer.stdout)), Some((7, String::new())));
    }
}
