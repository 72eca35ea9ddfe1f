//! The machines of one claim while it runs: who is on since when, what was done, what went wrong.

use super::claim::{Claim, Member};
use super::cluster::Cluster;
use super::verdict::{Boot, Done, Failure};
use super::{Options, Subject};
use crate::cluster::{PREFIX, address};
use crate::error::{Kind, Result, kind_of};
use crate::lab::switch::{Dhcp, Switch};
use crate::lab::{Answer, Emulator, Hardware, Machine, interrupt, root_partition};
use crate::sys::fs;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Why a claim ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It does not hold.
    Failed(Box<Failure>),
    /// It could not be tried.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// Shorthand of the engine.
pub(super) type Outcome<T> = Result<T, Stop>;

/// A machine and what the engine knows of it.
pub(super) struct Seat {
    pub(super) machine: Machine,
    pub(super) member: Member,
    /// Shell assignments that every script begins with.
    pub(super) facts: String,
    /// Not before this it is powered on by itself.
    due: Option<Instant>,
    /// The lab, not the guest, ended the boot.
    pub(super) off_on_purpose: bool,
    /// Console lines already judged by the running watch.
    judged: usize,
}

/// All of a claim.
pub(super) struct Bench<'a> {
    pub(super) claim: &'a Claim,
    pub(super) seats: Vec<Seat>,
    pub(super) dir: PathBuf,
    pub(super) boots: Vec<Boot>,
    pub(super) done: Vec<Done>,
    /// What scripts printed last, by machine and script.
    pub(super) printed: BTreeMap<(String, String), String>,
    /// What scripts were told to keep, as shell variables.
    pub(super) kept: BTreeMap<String, String>,
    emulator: &'a Emulator,
    since: Instant,
    looked: Instant,
    /// Holds the machines' files; the consoles are elsewhere.
    _scratch: tempfile::TempDir,
}

/// A claim that waits for another: all that [`Bench`] holds of it besides the machines.
pub(super) struct Paused<'a> {
    claim: &'a Claim,
    dir: PathBuf,
    done: Vec<Done>,
    printed: BTreeMap<(String, String), String>,
    kept: BTreeMap<String, String>,
    since: Instant,
}

impl<'a> Bench<'a> {
    /// Makes the machines and powers on those that start at once.
    pub(super) fn new(
        claim: &'a Claim,
        subjects: &BTreeMap<String, Subject>,
        emulator: &'a Emulator,
        options: &Options,
    ) -> Result<Self> {
        let scratch = fs::scratch()?;
        let dir = options.dir.join(claim.name.replace('/', "-"));
        fs::make_dir(&dir)?;
        let mut hardware = Vec::new();
        for member in &claim.machines {
            let subject = &subjects[&member.image];
            let mut machine = Hardware::new(&member.name, &subject.raw);
            (machine.memory, machine.cpus) = (member.memory, member.cpus);
            if !member.flip.is_empty() {
                let start = root_partition(&subject.raw)?;
                machine.flips = member.flip.iter().map(|offset| start.saturating_add(*offset)).collect();
            }
            hardware.push(machine);
        }
        let addresses: Vec<Ipv4Addr> = (0..claim.machines.len()).map(address).collect();
        let leases = hardware.iter().zip(&addresses).map(|(machine, address)| (machine.mac, *address)).collect();
        let dhcp = Dhcp { server: SERVER, prefix: PREFIX, lease: 3600, mtu: None, leases };
        let capture = options.capture.then(|| dir.join("network.pcap"));
        let switch = Switch::new(options.seed, Some(dhcp), capture.as_deref())?;
        let cluster = Cluster::new(claim, subjects, &addresses)?;
        let now = Instant::now();
        let mut seats = Vec::new();
        for (index, machine) in hardware.into_iter().enumerate() {
            let member = claim.machines[index].clone();
            let mut machine = machine;
            let credentials = cluster.credentials(index, crate::sys::clock::now())?;
            machine.credentials = credentials.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
            let facts = facts(claim, &addresses, index, &subjects[&member.image]);
            let place = scratch.path().join(index.to_string());
            let machine = Machine::new(machine, &place, emulator, Some(&switch))?;
            let due = member.start.map(|start| now + start);
            seats.push(Seat { machine, member, facts, due, off_on_purpose: false, judged: 0 });
        }
        Ok(Self {
            claim,
            seats,
            dir,
            boots: Vec::new(),
            done: Vec::new(),
            printed: BTreeMap::new(),
            kept: BTreeMap::new(),
            emulator,
            since: now,
            looked: now,
            _scratch: scratch,
        })
    }

    /// The same machines, as they stand, for the next claim. Boots that are under way are told in its report as well.
    pub(super) fn go_on(mut self, claim: &'a Claim, options: &Options) -> Result<Self> {
        self.pause_for(claim, options)?;
        // Every boot that is over was closed with its ending.
        self.boots.retain(|boot| boot.ending.is_none());
        Ok(self)
    }

    /// Puts a claim aside for another on the same machines.
    pub(super) fn pause_for(&mut self, claim: &'a Claim, options: &Options) -> Result<Paused<'a>> {
        let over = self.at();
        let dir = options.dir.join(claim.name.replace('/', "-"));
        fs::make_dir(&dir)?;
        self.boots.iter_mut().for_each(|boot| boot.at -= over);
        Ok(Paused {
            claim: std::mem::replace(&mut self.claim, claim),
            dir: std::mem::replace(&mut self.dir, dir),
            done: std::mem::take(&mut self.done),
            printed: std::mem::take(&mut self.printed),
            kept: std::mem::take(&mut self.kept),
            since: std::mem::replace(&mut self.since, Instant::now()),
        })
    }

    /// Goes on with a claim that was put aside.
    pub(super) fn resume(&mut self, paused: Paused<'a>) {
        let Paused { claim, dir, done, printed, kept, since } = paused;
        let over = self.since.duration_since(since).as_secs_f64();
        self.boots.iter_mut().for_each(|boot| boot.at += over);
        (self.claim, self.dir, self.since) = (claim, dir, since);
        (self.done, self.printed, self.kept) = (done, printed, kept);
    }

    /// Seconds since the claim began.
    pub(super) fn at(&self) -> f64 {
        (self.since.elapsed().as_secs_f64() * 10.0).round() / 10.0
    }

    /// Powers a machine on.
    pub(super) fn power_on(&mut self, index: usize) -> Outcome<()> {
        let at = self.at();
        let seat = &mut self.seats[index];
        let number = seat.machine.boots() + 1;
        let console = self.dir.join(format!("{}-boot{number}.console", seat.member.name));
        (seat.due, seat.off_on_purpose, seat.judged) = (None, false, 0);
        seat.machine.power_on(self.emulator, self.emulator.acceleration(), &console)?;
        let machine = seat.member.name.clone();
        self.boots.push(Boot { machine, number, at, ending: None, milestones: Vec::new(), console });
        Ok(())
    }

    /// What every wait does over and over: starts machines that are due, holds the bounds, and looks whether a
    /// machine went off or said what no good boot says.
    pub(super) fn tick(&mut self) -> Outcome<()> {
        interrupt::check()?;
        let now = Instant::now();
        if self.since.elapsed() > self.claim.within {
            let expected = format!("the claim to end within {} s", self.claim.within.as_secs());
            return Err(self.failed(None, &expected, "it did not"));
        }
        let due: Vec<usize> =
            (0..self.seats.len()).filter(|index| self.seats[*index].due.is_some_and(|due| due <= now)).collect();
        due.into_iter().try_for_each(|index| self.power_on(index))?;
        if now.duration_since(self.looked) < Duration::from_secs(1) {
            return Ok(());
        }
        self.looked = now;
        for index in 0..self.seats.len() {
            self.look(index)?;
        }
        Ok(())
    }

    fn look(&mut self, index: usize) -> Outcome<()> {
        let seat = &mut self.seats[index];
        let Some(console) = seat.machine.console() else { return Ok(()) };
        let bad = console.bad_after(seat.judged, &self.claim.allow);
        // The last line may still grow.
        seat.judged = console.count().saturating_sub(1);
        if let Some((line, bad)) = bad.into_iter().next() {
            return Err(self.failed(Some(index), &format!("no `{}` on the console", bad.pattern), &line.text));
        }
        let seat = &mut self.seats[index];
        if seat.member.boots
            && !seat.off_on_purpose
            && let Some(ending) = seat.machine.ended()
        {
            return Err(self.failed(Some(index), "the machine to stay on", &format!("it went off: {ending:?}")));
        }
        Ok(())
    }

    /// A failure of a machine, or of the claim as a whole.
    pub(super) fn failed(&self, index: Option<usize>, expected: &str, seen: &str) -> Stop {
        let machine = index.map(|index| self.seats[index].member.name.clone());
        Stop::Failed(Box::new(Failure { machine, expected: expected.into(), seen: seen.into(), ..Failure::default() }))
    }

    /// Why something could not be done with a machine: what the guest owes is the claim's failure, anything else, such
    /// as Ctrl-C, says nothing about the image.
    pub(super) fn owed(&self, index: usize, expected: &str, error: anyhow::Error) -> Stop {
        match kind_of(&error) {
            Kind::Verdict => self.failed(Some(index), expected, &format!("{error:#}")),
            _ => Stop::Broken(error),
        }
    }

    /// Runs a script in a machine.
    pub(super) fn run(&self, index: usize, script: &str, bound: Duration) -> Outcome<Answer> {
        self.seats[index].machine.run(script, bound).map_err(|error| self.owed(index, "an answer", error))
    }

    /// Lets a moment pass.
    pub(super) fn rest(&mut self) -> Outcome<()> {
        self.tick()?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    /// Takes down how a boot ended.
    pub(super) fn close_boot(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let ending = seat.machine.ended();
        let milestones = seat.machine.console().map(crate::lab::console::Console::milestones).unwrap_or_default();
        if let Some(boot) = self.boots.iter_mut().rev().find(|boot| boot.machine == seat.member.name) {
            (boot.ending, boot.milestones) = (ending, milestones);
        }
    }
}

/// The lab's network; its server answers DHCP at the first address.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

/// What scripts know: `name`, `address`, `address_OTHER` for every machine and the image's facts.
fn facts(claim: &Claim, addresses: &[Ipv4Addr], index: usize, subject: &Subject) -> String {
    let mut out = BTreeMap::from([
        ("name".to_owned(), claim.machines[index].name.clone()),
        ("address".to_owned(), addresses[index].to_string()),
    ]);
    for (member, address) in claim.machines.iter().zip(addresses) {
        out.insert(format!("address_{}", member.name.replace('-', "_")), address.to_string());
    }
    out.extend(subject.facts.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())));
    assignments(&out)
}

/// Variables as the beginning of a script.
pub(super) fn assignments(variables: &BTreeMap<String, String>) -> String {
    let one = |(name, value): (&String, &String)| format!("export {name}='{}'\n", value.replace('\'', r"'\''"));
    variables.iter().map(one).collect()
}
