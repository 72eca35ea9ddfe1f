//! Images + claims → verdict. Each claim boots its machines in the lab, does its steps, and every boot is judged by
//! its console, its units and its power-off.

mod bench;
mod claim;
mod cluster;
mod judge;
mod parse;
mod steps;
mod verdict;

pub use claim::Claim;
pub use parse::{load, select};
pub use verdict::{Boot, Failure, Outcome, Verdict};

use crate::digest::Sha256;
use crate::error::Result;
use crate::lab::{Emulator, interrupt};
use crate::report::{Event, Report, Stage};
use bench::{Bench, Stop};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An image under test.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The raw disk; never written.
    pub raw: PathBuf,
    /// Of its manifest's text; what the verdict is bound to.
    pub manifest: Sha256,
    /// The certificates that its roles declare, and the provisioner of each.
    pub certificates: Vec<(String, String)>,
    /// What scripts are told, as shell variables: `root_hash`, `listeners` …
    pub facts: BTreeMap<String, String>,
}

/// How claims are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where consoles and reports are kept.
    pub dir: PathBuf,
    /// Of network faults.
    pub seed: u64,
    /// Whether each claim's network is captured.
    pub capture: bool,
}

/// Runs claims one after the other; a failed one does not stop the others.
///
/// # Errors
/// When a claim could not be tried: no image, no QEMU, interrupted. A claim that does not hold is in the verdict.
pub fn run(
    claims: &[Claim],
    images: &dyn Fn(&str) -> Result<Subject>,
    emulator: &Emulator,
    options: &Options,
    report: &dyn Report,
) -> Result<Verdict> {
    interrupt::watch();
    let mut subjects = BTreeMap::new();
    for member in claims.iter().flat_map(|claim| &claim.machines) {
        if !subjects.contains_key(&member.image) {
            subjects.insert(member.image.clone(), images(&member.image)?);
        }
    }
    let acceleration = emulator.acceleration();
    report.event(Event::Note { text: format!("machines run by {acceleration}") });
    let images = subjects.iter().map(|(name, subject)| (name.clone(), subject.manifest)).collect();
    let mut verdict = Verdict { schema: 1, images, acceleration, seed: options.seed, claims: Vec::new() };
    for claim in claims {
        let outcome = one(claim, &subjects, emulator, options, report)?;
        verdict.claims.push(outcome);
        // After each claim, so that an interrupted run has left what it found.
        verdict.write(&options.dir)?;
    }
    Ok(verdict)
}

fn one(
    claim: &Claim,
    subjects: &BTreeMap<String, Subject>,
    emulator: &Emulator,
    options: &Options,
    report: &dyn Report,
) -> Result<Outcome> {
    let steps = u64::try_from(claim.steps.len()).unwrap_or(0);
    let stage = Stage::start(report, format!("claim {}", claim.name), Some(steps), "steps");
    let mut bench = Bench::new(claim, subjects, emulator, options)?;
    let result = story(&mut bench, &stage);
    let failure = match result.map_err(|stop| judge::complete(&bench, stop)) {
        Ok(()) => None,
        Err(Stop::Failed(failure)) => Some(*failure),
        Err(Stop::Broken(error)) => return Err(error.context(format!("trying claim {}", claim.name))),
    };
    for index in 0..bench.seats.len() {
        if bench.seats[index].machine.is_on() {
            bench.seats[index].machine.cut_power();
            bench.close_boot(index);
        }
    }
    let seconds = bench.at();
    let word = if failure.is_none() { "holds" } else { "FAILED" };
    stage.finish(format!("{word} ({seconds:.0} s)"));
    if let Some(failure) = &failure {
        report.event(Event::Warning { text: format!("claim {} failed\n{failure}", claim.name) });
    }
    Ok(Outcome {
        claim: claim.name.clone(),
        about: claim.about.clone(),
        seconds,
        failure,
        steps: std::mem::take(&mut bench.done),
        boots: std::mem::take(&mut bench.boots),
    })
}

/// The steps, then the end of every boot that is still on.
fn story(bench: &mut Bench<'_>, stage: &Stage<'_>) -> Result<(), Stop> {
    bench.tick()?;
    let claim = bench.claim;
    for step in &claim.steps {
        steps::perform(bench, step).map_err(|stop| judge::at_line(stop, step.line))?;
        let done = verdict::Done { line: step.line, step: step.text.clone(), at: bench.at() };
        bench.done.push(done);
        stage.advance(1);
    }
    for index in 0..bench.seats.len() {
        if bench.seats[index].machine.is_on() {
            judge::end_boot(bench, index, None)?;
        }
    }
    Ok(())
}
