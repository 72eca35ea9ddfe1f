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
    let bench = |claim| Bench::new(claim, &subjects, emulator, options);
    let mut standing: Option<Bench<'_>> = None;
    for (index, claim) in claims.iter().enumerate() {
        let mut on = match standing.take() {
            Some(before) => before.go_on(claim, options)?,
            None => bench(claim)?,
        };
        let next = claims.get(index + 1).filter(|next| next.follows(claim));
        let outcome = one(&mut on, next.is_some(), report)?;
        standing = next.filter(|_| outcome.failure.is_none()).map(|_| on);
        verdict.claims.push(outcome);
        // After each claim, so that an interrupted run has left what it found.
        verdict.write(&options.dir)?;
    }
    Ok(verdict)
}

/// One claim. Its machines stay on when another goes on with them and it holds.
fn one(bench: &mut Bench<'_>, shared: bool, report: &dyn Report) -> Result<Outcome> {
    let claim = bench.claim;
    let steps = u64::try_from(claim.steps.len()).unwrap_or(0);
    let stage = Stage::start(report, format!("claim {}", claim.name), Some(steps), "steps");
    let result = story(bench, shared, &stage);
    let failure = match result.map_err(|stop| judge::complete(bench, stop)) {
        Ok(()) => None,
        Err(Stop::Failed(failure)) => Some(*failure),
        Err(Stop::Broken(error)) => return Err(error.context(format!("trying claim {}", claim.name))),
    };
    for index in 0..bench.seats.len() {
        if bench.seats[index].machine.is_on() {
            if !shared || failure.is_some() {
                bench.seats[index].machine.cut_power();
            }
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
        boots: bench.boots.clone(),
    })
}

/// The steps, then the end of every boot that is still on, unless another claim goes on with it.
fn story(bench: &mut Bench<'_>, shared: bool, stage: &Stage<'_>) -> Result<(), Stop> {
    bench.tick()?;
    let claim = bench.claim;
    for step in &claim.steps {
        steps::perform(bench, step).map_err(|stop| judge::at_line(stop, step.line))?;
        let done = verdict::Done { line: step.line, step: step.text.clone(), at: bench.at() };
        bench.done.push(done);
        stage.advance(1);
    }
    for index in 0..bench.seats.len() {
        if !shared && bench.seats[index].machine.is_on() {
            judge::end_boot(bench, index, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::print_stderr, reason = "scratch files and printed skips of tests")]

    use super::*;
    use crate::report::Silent;
    use std::path::Path;

    /// Tries claims on real machines, where a developer names QEMU's unpacked packages and an image with systemd 257
    /// and DHCP on `en*`.
    #[test]
    fn claims_hold_or_fail_with_a_reason_on_real_machines() {
        let (Ok(root), Ok(image)) = (std::env::var("NODELITH_LAB_QEMU"), std::env::var("NODELITH_LAB_IMAGE")) else {
            eprintln!("skipped: NODELITH_LAB_QEMU and NODELITH_LAB_IMAGE are not set");
            return;
        };
        let claim = |name: &str, steps: &str| {
            let machines = "[machines.worker-1]\ndhcp = true\n[machines.worker-2]\ndhcp = true\nstart = 5\n";
            let text = format!("about = \"x\"\nwithin = 400\nsteps = [\n{steps}\n]\n{machines}");
            parse::parse(name, Path::new("x.toml"), &text).unwrap()
        };
        let good = claim(
            "lab/good",
            r#"{ wait = "multi-user.target", within = 200 },
            { run = "cat /etc/machine-id", compare = "unlike-peers" },
            { run = "hostname; echo $name $fact", prints = "worker-* it's" },
            { on = "worker-1", run = "ping -c1 -W1 $address_worker_2", within = 60 },
            { on = "worker-2", link = { cut = true } },
            { on = "worker-1", run = "ping -c1 -W1 $address_worker_2", exit = 1 },
            { on = "worker-2", link = {} },
            { on = "worker-1", power = "off" },
            { on = "worker-1", power = "on" },
            { on = "worker-1", wait = "multi-user.target", within = 200 },
            { on = "worker-1", run = "cat /sys/class/dmi/id/product_serial", prints = "worker-1" },"#,
        );
        let bad = claim("lab/bad", r#"{ on = "worker-1", wait = "missing.service", within = 200 }"#);
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: dir.path().to_owned(), seed: 1, capture: true };
        let subject = |_: &str| {
            let facts = BTreeMap::from([("fact".to_owned(), "it's".to_owned())]);
            Ok(Subject { raw: PathBuf::from(&image), manifest: Sha256([0; 32]), certificates: Vec::new(), facts })
        };
        let emulator = Emulator::new(Path::new(&root)).unwrap();
        let verdict = run(&[good, bad], &subject, &emulator, &options, &Silent).unwrap();
        eprintln!("{}", std::fs::read_to_string(dir.path().join("verdict.json")).unwrap());
        assert_eq!(verdict.claims[0].failure, None);
        assert_eq!(verdict.claims[0].boots.len(), 3);
        let failure = verdict.claims[1].failure.clone().unwrap();
        assert!(failure.seen.contains("nothing is queued"), "{failure}");
        assert!(
            !failure.console.is_empty() && std::fs::read(dir.path().join("lab-good/network.pcap")).unwrap().len() > 100
        );
    }
}
