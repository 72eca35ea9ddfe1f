//! What a stage tells whoever watches. Stages never print; `cli` renders these events as bars, lines or JSON.

/// One thing that happened. Serialised as one JSON line under `--output json`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage began. `total` is in `unit`s when known ("bytes", "packages", "claims" …).
    Started {
        /// Names the stage; the same text ends it.
        stage: String,
        /// How many units of work there are, when known.
        total: Option<u64>,
        /// What is counted.
        unit: &'static str,
    },
    /// A stage went on: `done` units in all so far.
    Progress {
        /// The stage.
        stage: String,
        /// Units done since the stage started.
        done: u64,
    },
    /// A stage ended well. `detail` is for people: "91 packages, 42 MB".
    Finished {
        /// The stage.
        stage: String,
        /// What was done, in a few words.
        detail: String,
    },
    /// A machine got so far. Its stage bears its name.
    Milestone {
        /// The machine.
        machine: String,
        /// What it passed: `kernel`, `joined` …
        milestone: String,
        /// Seconds since its power-on.
        seconds: f64,
    },
    /// A fact worth a line.
    Note {
        /// The fact.
        text: String,
    },
    /// Something that is not an error yet.
    Warning {
        /// What, and what to do about it.
        text: String,
    },
}

/// Whoever watches. Called from several threads at once.
pub trait Report: Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Watches nothing: for tests and for callers that want silence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Report for Silent {
    fn event(&self, _: Event) {}
}

/// A stage under way: starts on creation, ends with [`Stage::finish`].
pub struct Stage<'a> {
    report: &'a dyn Report,
    name: String,
    done: std::sync::atomic::AtomicU64,
}

impl<'a> Stage<'a> {
    /// Announces a stage.
    pub fn start(report: &'a dyn Report, name: impl Into<String>, total: Option<u64>, unit: &'static str) -> Self {
        let name = name.into();
        report.event(Event::Started { stage: name.clone(), total, unit });
        Self { report, name, done: std::sync::atomic::AtomicU64::new(0) }
    }

    /// Counts `units` more as done.
    pub fn advance(&self, units: u64) {
        let done = self.done.fetch_add(units, std::sync::atomic::Ordering::Relaxed) + units;
        self.report.event(Event::Progress { stage: self.name.clone(), done });
    }

    /// Announces the end.
    pub fn finish(self, detail: impl Into<String>) {
        self.report.event(Event::Finished { stage: self.name, detail: detail.into() });
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Event, Report};
    use std::sync::Mutex;

    /// The warnings that were given.
    #[derive(Default)]
    pub(crate) struct Warnings(pub(crate) Mutex<Vec<String>>);

    impl Report for Warnings {
        fn event(&self, event: Event) {
            if let Event::Warning { text } = event {
                self.0.lock().unwrap().push(text);
            }
        }
    }
}
