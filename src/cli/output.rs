//! Rendering: results on standard output, progress and errors on standard error, as bars, lines or JSON lines.

use crate::error::{Blame as _, Kind, Result, fault_of, kind_of};
use crate::report::{Event, Report};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The version of the JSON lines; it changes when a field changes its meaning.
const JSON_VERSION: u32 = 1;

/// How to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Renders events, results and failures.
pub(super) struct Printer {
    output: Output,
    quiet: bool,
    bars: Option<MultiProgress>,
    stages: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Printer {
    pub(super) fn new(output: Output, quiet: bool) -> Self {
        let bars = output == Output::Text && !quiet && std::io::stderr().is_terminal();
        Self { output, quiet, bars: bars.then(MultiProgress::new), stages: Mutex::default() }
    }

    /// Whether results are wanted as JSON.
    pub(super) fn json(&self) -> bool {
        self.output == Output::Json
    }

    /// Prints a result: a line of text, or the value as a JSON line of event `result`.
    pub(super) fn result(&self, text: &str, value: &serde_json::Value) -> Result<()> {
        if self.json() {
            let value = with_version(&serde_json::json!({"event": "result", "result": value}));
            write(format!("{value}\n").as_bytes())
        } else if text.is_empty() {
            Ok(())
        } else {
            write(format!("{}\n", text.trim_end()).as_bytes())
        }
    }

    /// Prints text as it is, without an end of line of our own; with `--output json` as a JSON line of event `output`.
    pub(super) fn raw(&self, text: &str) -> Result<()> {
        if self.json() {
            let value = with_version(&serde_json::json!({"event": "output", "text": text}));
            write(format!("{value}\n").as_bytes())
        } else {
            write(text.as_bytes())
        }
    }

    /// Prints a failure in four parts (what, while doing what, cause, hint) and gives the exit code.
    pub(super) fn failure(&self, error: &anyhow::Error) -> ExitCode {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
        let kind = kind_of(error);
        let hints = fault_of(error).map(|fault| fault.hints.clone()).unwrap_or_default();
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        let mut text = String::new();
        if self.json() {
            let value = serde_json::json!({"event": "failed", "kind": kind.word(), "exit-code": kind.exit_code(), "error": chain, "hints": hints});
            text = format!("{}\n", with_version(&value));
        } else {
            for (at, part) in chain.iter().enumerate() {
                let lead = if at == 0 { "error" } else { "  cause" };
                text += &format!("{lead}: {part}\n");
            }
            if kind == Kind::Internal {
                text += "  hint: this is a bug of nodelith; please report it with the lines above\n";
            }
            for hint in hints {
                text += &format!("  hint: {hint}\n");
            }
        }
        // Nobody is left to tell when standard error is closed.
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(kind.exit_code())
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    fn text_event(&self, event: &Event) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { stage, total, unit } => {
                let bar = self.bars.as_ref().map(|bars| bars.add(new_bar(stage, *total, unit)));
                stages.insert(stage.clone(), Running { since: Instant::now(), bar });
            }
            Event::Progress { stage, done } => {
                if let Some(bar) = stages.get(stage).and_then(|running| running.bar.as_ref()) {
                    bar.set_position(*done);
                }
            }
            Event::Finished { stage, detail } => {
                let running = stages.remove(stage);
                let took = running.as_ref().map_or(Duration::ZERO, |running| running.since.elapsed());
                if let Some(bar) = running.and_then(|running| running.bar) {
                    bar.finish_and_clear();
                }
                self.line(&format!("{stage:<12} {detail} ({:.2} s)", took.as_secs_f64()));
            }
            Event::Milestone { machine, milestone, seconds } => {
                let bar = stages.get(machine).and_then(|running| running.bar.as_ref());
                match bar {
                    Some(bar) => {
                        bar.set_message(format!("{} {milestone} {seconds:.0}", bar.message()).trim_start().to_owned())
                    }
                    None => self.line(&format!("{machine:<12} {milestone} ({seconds:.1} s)")),
                }
            }
            Event::Note { text } => self.line(text),
            Event::Warning { text } => self.line(&format!("warning: {text}")),
        }
    }
}

impl Report for Printer {
    fn event(&self, event: Event) {
        match self.output {
            Output::Text if self.quiet => {}
            Output::Text => self.text_event(&event),
            Output::Json => {
                let value = serde_json::to_value(&event).unwrap_or_default();
                let quiet = self.quiet || matches!(event, Event::Progress { .. });
                if !quiet {
                    drop(writeln!(std::io::stderr(), "{}", with_version(&value)));
                }
            }
        }
    }
}

fn with_version(value: &serde_json::Value) -> serde_json::Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.insert("version".into(), JSON_VERSION.into());
    }
    value
}

fn new_bar(stage: &str, total: Option<u64>, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(total.unwrap_or(0)).with_prefix(stage.to_owned());
    let count = match (total, unit) {
        (None, _) => "",
        (Some(_), "bytes") => "{bytes}/{total_bytes} {bytes_per_sec}",
        (Some(_), _) => "{pos}/{len}",
    };
    let template = if total.is_some() {
        format!("{{prefix:<12}} {{bar:30}} {count} {{elapsed}}")
    } else {
        "{prefix:<12} {spinner} {elapsed} {wide_msg}".to_owned()
    };
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Bytes for people.
pub(super) fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// Nobody reads standard output any more. A type of its own: a supervisor or a QEMU that hangs up breaks a pipe as well,
/// and that is a failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
struct ReaderGone;

/// Writes to standard output, at once.
///
/// # Errors
/// One of which [`is_reader_gone`] tells; else [`Kind::Environment`].
pub(super) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.blame(Kind::Environment, || "writing to standard output".to_owned()),
    }
}

/// Whether an error only says that the reader of standard output went away.
pub(super) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.is::<ReaderGone>()
}
