//! A client of QEMU's machine protocol: one JSON object a line, answers carry the request's `id`, events come between.

use super::interrupt;
use crate::error::{Blame, Fault, Kind, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long QEMU may take for an answer; under TCG on a busy host its main loop can be late by seconds.
const ANSWER: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    greeted: bool,
    returns: BTreeMap<u64, Result<Value, String>>,
    events: Vec<(String, Value)>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A connection to one machine's monitor.
#[derive(Debug)]
pub struct Qmp {
    writer: Mutex<UnixStream>,
    shared: Arc<Shared>,
    next: AtomicU64,
}

impl Qmp {
    /// Greets and negotiates on a connected stream.
    ///
    /// # Errors
    /// When the other side does not speak QMP, or not in time.
    pub fn start(stream: UnixStream) -> Result<Self> {
        let reader = stream.try_clone().blame(Kind::Environment, || "opening QMP".to_owned())?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || listen(reader, &for_thread));
        let qmp = Self { writer: Mutex::new(stream), shared, next: AtomicU64::new(1) };
        qmp.wait(ANSWER, |state| state.greeted.then_some(()))?
            .ok_or_else(|| Fault::new(Kind::Environment, "QEMU did not greet on its QMP socket"))?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its answer.
    ///
    /// # Errors
    /// [`Kind::Environment`] when QEMU refuses it, is gone or does not answer in time.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let doing = || format!("asking QEMU for `{command}`");
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(line.as_bytes()).blame(Kind::Environment, doing)?;
        drop(writer);
        match self.wait(ANSWER, |state| state.returns.remove(&id))? {
            Some(Ok(value)) => Ok(value),
            Some(Err(why)) => Err(Fault::new(Kind::Environment, format!("QEMU refused `{command}`: {why}")).into()),
            None => Err(Fault::new(Kind::Environment, format!("QEMU did not answer `{command}`")).into()),
        }
    }

    /// The first event of this name and its data, so far.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<Value> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.events.iter().find(|(event, _)| event == name).map(|(_, data)| data.clone())
    }

    /// Waits until QEMU hung up, so that no event is missed that it sent before its end. Ctrl-C does not shorten it: a
    /// machine that went off as it should would look broken.
    pub fn drain(&self, bound: Duration) {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.shared.changed.wait_timeout_while(state, bound, |state| !state.closed));
    }

    /// Waits until `look` finds what it looks for; `None` when the time is over or the connection closed before.
    fn wait<T>(&self, bound: Duration, mut look: impl FnMut(&mut State) -> Option<T>) -> Result<Option<T>> {
        let until = Instant::now() + bound;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&mut state) {
                return Ok(Some(found));
            }
            let now = Instant::now();
            if state.closed || now >= until {
                return Ok(None);
            }
            interrupt::check()?;
            let step = (until - now).min(Duration::from_millis(200));
            state = self.shared.changed.wait_timeout(state, step).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Sorts what QEMU says until it hangs up. A line that is not JSON is ignored: QEMU sends none.
fn listen(stream: UnixStream, shared: &Shared) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if message.get("QMP").is_some() {
            state.greeted = true;
        } else if let Some(event) = message.get("event").and_then(Value::as_str) {
            state.events.push((event.to_owned(), message.get("data").cloned().unwrap_or(Value::Null)));
        } else if let Some(id) = message.get("id").and_then(Value::as_u64) {
            let answer = match (message.get("return"), message.pointer("/error/desc").and_then(Value::as_str)) {
                (Some(value), _) => Ok(value.clone()),
                (None, why) => Err(why.unwrap_or("no reason given").to_owned()),
            };
            state.returns.insert(id, answer);
        }
        drop(state);
        shared.changed.notify_all();
    }
    shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each command by what `script` says for it, as QEMU would; events first.
    fn fake(script: &'static [(&'static str, &'static str)]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut out = theirs.try_clone().unwrap();
            out.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n").unwrap();
            for line in BufReader::new(theirs).lines() {
                let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let command = request["execute"].as_str().unwrap().to_owned();
                let Some((_, answer)) = script.iter().find(|(name, _)| *name == command) else { return };
                out.write_all(answer.replace("ID", &request["id"].to_string()).as_bytes()).unwrap();
            }
        });
        ours
    }

    const CAPABILITIES: (&str, &str) = ("qmp_capabilities", "{\"return\": {}, \"id\": ID}\n");

    #[test]
    fn events_between_answers_are_kept() {
        let qmp = Qmp::start(fake(&[
            CAPABILITIES,
            (
                "query-status",
                "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n{\"return\": {\"status\": \"running\"}, \"id\": ID}\n",
            ),
        ]))
        .unwrap();
        assert_eq!(qmp.execute("query-status", json!({})).unwrap()["status"], "running");
        assert_eq!(qmp.event("SHUTDOWN").unwrap()["guest"], true);
        assert!(qmp.event("RESET").is_none());
    }

    #[test]
    fn the_last_event_before_the_end_is_not_missed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            theirs.write_all(b"{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            theirs.write_all(b"{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\n").unwrap();
        });
        let qmp = Qmp::start(ours).unwrap();
        qmp.drain(ANSWER);
        assert_eq!(qmp.event("SHUTDOWN").unwrap()["reason"], "guest-shutdown");
        writer.join().unwrap();
    }

    #[test]
    fn refusals_and_hang_ups_are_errors_with_the_reason() {
        let qmp = Qmp::start(fake(&[
            CAPABILITIES,
            (
                "set_link",
                "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device 'x' not found\"}, \"id\": ID}\n",
            ),
        ]))
        .unwrap();
        let error = qmp.execute("set_link", json!({"name": "x", "up": false})).unwrap_err();
        assert!(format!("{error:#}").contains("Device 'x' not found"), "{error:#}");
        assert!(qmp.execute("quit", json!({})).is_err(), "the fake hangs up");
    }
}
