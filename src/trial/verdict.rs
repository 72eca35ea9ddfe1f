//! What a run of claims found: for people, for programs (JSON) and for CI (JUnit).

use crate::digest::Sha256;
use crate::error::Result;
use crate::lab::Ending;
use crate::lab::console::Milestone;
use crate::sys::fs;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// All of a run.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// Of this format.
    pub schema: u32,
    /// The manifests of the images that were booted, by image: what the verdict is about.
    pub images: BTreeMap<String, Sha256>,
    /// `kvm` or `tcg`.
    pub acceleration: crate::lab::Acceleration,
    /// Of all network faults.
    pub seed: u64,
    /// In the order they ran.
    pub claims: Vec<Outcome>,
}

/// One claim's outcome.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// `area/claim`.
    pub claim: String,
    /// What it says.
    pub about: String,
    /// From the first power-on to the last power-off.
    pub seconds: f64,
    /// Why it failed; `None` when it holds.
    pub failure: Option<Failure>,
    /// What was done when.
    pub steps: Vec<Done>,
    /// Every boot of every machine.
    pub boots: Vec<Boot>,
}

/// A step that was fulfilled.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Done {
    /// Its line in the claim's file.
    pub line: usize,
    /// As typed.
    pub step: String,
    /// When it was fulfilled, in seconds since the claim began.
    pub at: f64,
}

/// A boot.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Boot {
    /// Whose.
    pub machine: String,
    /// From 1.
    pub number: u32,
    /// When it was powered on, in seconds since the claim began.
    pub at: f64,
    /// How it ended.
    pub ending: Option<Ending>,
    /// What it passed.
    pub milestones: Vec<Milestone>,
    /// Its console.
    pub console: PathBuf,
}

/// Why a claim failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// The step's line in the claim's file; `None` for what holds of every boot.
    pub line: Option<usize>,
    /// Where.
    pub machine: Option<String>,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// Failed units with the last lines of their journal.
    pub units: Vec<String>,
    /// The machine's last console lines.
    pub console: Vec<String>,
    /// Where the consoles are.
    pub kept: PathBuf,
}

impl Verdict {
    /// Whether every claim holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.claims.iter().all(|claim| claim.failure.is_none())
    }

    /// The closing line: how many claims hold.
    #[must_use]
    pub fn headline(&self) -> String {
        let failed = self.claims.iter().filter(|claim| claim.failure.is_some()).count();
        format!("{} passed, {failed} failed", self.claims.len() - failed)
    }

    /// Writes `verdict.json` and `junit.xml` into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write_atomic(&dir.join("verdict.json"), json.as_bytes())?;
        fs::write_atomic(&dir.join("junit.xml"), self.junit().as_bytes())
    }

    /// As JUnit XML: an area is a suite's class, a claim a case.
    #[must_use]
    pub fn junit(&self) -> String {
        let failures = self.claims.iter().filter(|claim| claim.failure.is_some()).count();
        let time: f64 = self.claims.iter().map(|claim| claim.seconds).sum();
        let count = self.claims.len();
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"nodelith\" tests=\"{count}\" \
             failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{time:.3}\">\n"
        );
        for claim in &self.claims {
            let (area, name) = claim.claim.split_once('/').unwrap_or(("", &claim.claim));
            let (area, name) = (escape(area), escape(name));
            // Writing to a string cannot fail.
            let _ = write!(out, "    <testcase classname=\"{area}\" name=\"{name}\" time=\"{:.3}\"", claim.seconds);
            let _ = match &claim.failure {
                None => writeln!(out, "/>"),
                Some(failure) => writeln!(
                    out,
                    ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                    escape(&failure.headline()),
                    escape(&failure.to_string())
                ),
            };
        }
        out + "  </testsuite>\n</testsuites>\n"
    }
}

impl Failure {
    /// In one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let place = self.machine.as_deref().map_or(String::new(), |machine| format!("{machine}: "));
        format!("{place}expected {}, saw {}", self.expected, self.seen.lines().next().unwrap_or("nothing"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            writeln!(f, "step:     line {line}")?;
        }
        if let Some(machine) = &self.machine {
            writeln!(f, "machine:  {machine}")?;
        }
        writeln!(f, "expected: {}", self.expected)?;
        writeln!(f, "seen:     {}", self.seen.trim_end().replace('\n', "\n          "))?;
        for unit in &self.units {
            writeln!(f, "unit:     {}", unit.trim_end().replace('\n', "\n          "))?;
        }
        if !self.console.is_empty() {
            writeln!(f, "console, last lines:")?;
            self.console.iter().try_for_each(|line| writeln!(f, "  | {line}"))?;
        }
        write!(f, "kept in:  {}", self.kept.display())
    }
}

/// Text for XML 1.0, which has no place for other control characters, not even escaped.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Acceleration;

    fn verdict(failure: Option<Failure>) -> Verdict {
        let outcome = Outcome {
            claim: "join/flannel".into(),
            about: "x".into(),
            seconds: 1.5,
            failure,
            steps: Vec::new(),
            boots: Vec::new(),
        };
        let images = BTreeMap::from([("worker".to_owned(), Sha256([0; 32]))]);
        Verdict { schema: 1, images, acceleration: Acceleration::Tcg, seed: 1, claims: vec![outcome] }
    }

    #[test]
    fn junit_holds_whatever_a_guest_prints() {
        let seen = "a <b> & \"c\" ]]> \u{1b}[0m\u{0}\n\u{fffe}".to_owned();
        let bad = verdict(Some(Failure { seen, expected: "d".into(), ..Failure::default() }));
        let text = bad.junit();
        assert!(text.contains("a &lt;b&gt; &amp; &quot;c&quot; ]]&gt; \u{fffd}[0m\u{fffd}"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert!(text.contains("failures=\"1\"") && !bad.passed());
        let good = verdict(None);
        assert!(good.passed());
        assert!(good.junit().contains("<testcase classname=\"join\" name=\"flannel\" time=\"1.500\"/>"));
    }

    #[test]
    fn a_failure_shows_what_was_expected_and_seen_and_where_to_look() {
        let failure = Failure {
            line: Some(7),
            machine: Some("worker-1".into()),
            expected: "flanneld.service active".into(),
            seen: "failed".into(),
            units: vec!["flanneld.service\nno etcd".into()],
            console: vec!["last words".into()],
            kept: "out/test".into(),
        };
        let shown = failure.to_string();
        for part in ["line 7", "worker-1", "flanneld.service active", "no etcd", "| last words", "kept in:  out/test"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
