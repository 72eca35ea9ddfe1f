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
use claim::Act;
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
    let verdict = Verdict { schema: 1, images, acceleration, seed: options.seed, claims: Vec::new() };
    let mut round = Round { claims, options, report, verdict };
    let mut standing: Option<Bench<'_>> = None;
    let mut last = None;
    while let Some(claim) = round.next(last) {
        let mut on = match standing.take() {
            Some(before) => before.go_on(claim, options)?,
            None => Bench::new(claim, &subjects, emulator, options)?,
        };
        let holds = one(&mut on, false, &mut round)?;
        standing = (holds && round.goes_on(claim)).then_some(on);
        last = Some(claim);
    }
    Ok(round.verdict)
}

/// What was chosen, and what is known of it so far.
struct Round<'a> {
    claims: &'a [Claim],
    options: &'a Options,
    report: &'a dyn Report,
    verdict: Verdict,
}

impl<'a> Round<'a> {
    /// What was not tried yet, but for one under way.
    fn left(&self, under_way: Option<&Claim>) -> Vec<&'a Claim> {
        let tried = |claim: &Claim| self.verdict.claims.iter().any(|outcome| outcome.claim == claim.name);
        let now = |claim: &Claim| under_way.is_some_and(|other| other.name == claim.name);
        self.claims.iter().filter(|claim| !tried(claim) && !now(claim)).collect()
    }

    /// What is tried after a claim: the first that goes on with its machines, or else the first; and that within another,
    /// if another tries it in its midst.
    fn next(&self, last: Option<&Claim>) -> Option<&'a Claim> {
        let left = self.left(last);
        let follower = last.and_then(|last| left.iter().find(|claim| claim.follows(last)));
        let first = follower.or(left.first())?;
        Some(left.iter().find(|claim| claim.hosts(first)).unwrap_or(first))
    }

    /// Whether a claim's machines stay on for the next one.
    fn goes_on(&self, claim: &Claim) -> bool {
        self.next(Some(claim)).is_some_and(|next| next.follows(claim))
    }
}

/// One claim; returns whether it holds. If it does, its machines stay on for the one that it is a guest of, or that goes
/// on with them.
fn one<'a>(bench: &mut Bench<'a>, guest: bool, round: &mut Round<'a>) -> Result<bool> {
    let (claim, report) = (bench.claim, round.report);
    let steps = u64::try_from(claim.steps.len()).unwrap_or(0);
    let stage = Stage::start(report, format!("claim {}", claim.name), Some(steps), "steps");
    let result = story(bench, guest, round, &stage);
    let failure = match result.map_err(|stop| judge::complete(bench, stop)) {
        Ok(()) => None,
        Err(Stop::Failed(failure)) => Some(*failure),
        Err(Stop::Broken(error)) => return Err(error.context(format!("trying claim {}", claim.name))),
    };
    for index in 0..bench.seats.len() {
        if bench.seats[index].machine.is_on() {
            if failure.is_some() {
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
    let holds = failure.is_none();
    round.verdict.claims.push(Outcome {
        claim: claim.name.clone(),
        about: claim.about.clone(),
        seconds,
        failure,
        steps: std::mem::take(&mut bench.done),
        boots: bench.boots.clone(),
    });
    // After each claim, so that an interrupted run has left what it found.
    round.verdict.write(&round.options.dir)?;
    Ok(holds)
}

/// The steps, then the end of every boot that is still on, unless another claim goes on with it.
fn story<'a>(bench: &mut Bench<'a>, guest: bool, round: &mut Round<'a>, stage: &Stage<'_>) -> Result<(), Stop> {
    bench.tick()?;
    let claim = bench.claim;
    for step in &claim.steps {
        let performed = match step.act {
            Act::Meanwhile(_) => meanwhile(bench, round),
            _ => steps::perform(bench, step),
        };
        performed.map_err(|stop| judge::at_line(stop, step.line))?;
        let done = verdict::Done { line: step.line, step: step.text.clone(), at: bench.at() };
        bench.done.push(done);
        stage.advance(1);
    }
    let shared = guest || round.goes_on(claim);
    for index in 0..bench.seats.len() {
        if !shared && bench.seats[index].machine.is_on() {
            judge::end_boot(bench, index, None)?;
        }
    }
    Ok(())
}

/// Tries what a claim hosts, on its machines as they stand. When one of these fails, so does the claim, for it has no
/// machines any more; those behind it are tried on machines of their own later.
fn meanwhile<'a>(bench: &mut Bench<'a>, round: &mut Round<'a>) -> Result<(), Stop> {
    let host = bench.claim;
    let guests: Vec<&Claim> = round.left(None).into_iter().filter(|claim| host.hosts(claim)).collect();
    for guest in guests {
        let paused = bench.pause_for(guest, round.options)?;
        let holds = one(bench, true, round)?;
        bench.resume(paused);
        if !holds {
            return Err(bench.failed(None, &format!("{} to hold on these machines", guest.name), "it did not"));
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

    #[test]
    fn claims_that_share_follow_each_other_and_guests_wait_for_their_host() {
        let claim = |name: &str, shares: bool, meanwhile: &str| {
            let machines = "[machines.one]\nimage = \"worker\"\n";
            let steps = format!("steps = [{{ wait = \"x\" }}, {{ meanwhile = [{meanwhile}] }}]\n");
            let text = format!("about = \"x\"\nshares = {shares}\n{steps}{machines}");
            parse::parse(name, Path::new("x.toml"), &text).unwrap()
        };
        let claims = [
            claim("a/guest", true, ""),
            claim("b/alone", false, ""),
            claim("c/host", true, "\"a/guest\", \"f/not-chosen\""),
            claim("d/alone", false, ""),
            claim("e/follower", true, ""),
        ];
        let verdict = |claims: Vec<Outcome>| Verdict {
            schema: 1,
            images: BTreeMap::new(),
            acceleration: crate::lab::Acceleration::Tcg,
            seed: 1,
            claims,
        };
        let outcome = |claim: &Claim, failed: bool| Outcome {
            claim: claim.name.clone(),
            about: String::new(),
            seconds: 0.0,
            failure: failed.then(Failure::default),
            steps: Vec::new(),
            boots: Vec::new(),
        };
        let options = Options { dir: PathBuf::new(), seed: 1, capture: false };
        // The host fails before its guest, or holds behind it.
        for (failed, wanted) in [
            (false, ["c/host", "e/follower", "b/alone", "d/alone"].as_slice()),
            (true, &["c/host", "a/guest", "e/follower", "b/alone", "d/alone"]),
        ] {
            let mut round = Round { claims: &claims, options: &options, report: &Silent, verdict: verdict(Vec::new()) };
            let (mut order, mut last) = (Vec::new(), None);
            while let Some(claim) = round.next(last) {
                order.push(claim.name.as_str());
                if !failed {
                    let guests = round.left(None).into_iter().filter(|guest| claim.hosts(guest));
                    let guests: Vec<Outcome> = guests.map(|guest| outcome(guest, false)).collect();
                    round.verdict.claims.extend(guests);
                }
                round.verdict.claims.push(outcome(claim, failed));
                last = Some(claim);
            }
            assert_eq!(order, wanted);
        }
        let round = Round { claims: &claims, options: &options, report: &Silent, verdict: verdict(Vec::new()) };
        assert!(round.goes_on(&claims[2]) && !round.goes_on(&claims[1]));

        let mut late = claims[4].clone();
        late.machines[0].start = Some(std::time::Duration::from_secs(90));
        assert!(claims[4].follows(&late) && !late.follows(&claims[4]) && !late.follows(&late));
    }

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
