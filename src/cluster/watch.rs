//! What `up` watches: machines that come up, as milestones on the way; nodes that become Ready.

use super::access;
use super::control::Client;
use super::plan::Plan;
use super::status::{MachineStatus, State, Status};
use crate::error::{Fault, Kind, Result};
use crate::lab::interrupt;
use crate::report::{Event, Report};
use crate::sys::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often what cannot wake us is looked at.
const STEP: Duration = Duration::from_millis(100);
/// How often the API server is asked for its nodes.
const ASK_NODES: Duration = Duration::from_secs(3);

/// Who watches, and what was said already.
pub(super) struct Watch<'a> {
    report: &'a dyn Report,
    /// By machine.
    told: BTreeMap<String, Told>,
}

/// What was said of a machine's boot.
struct Told {
    boots: u32,
    milestones: usize,
    /// By text: trouble is sorted by its kind, not by when it came.
    trouble: BTreeSet<String>,
}

impl Told {
    fn nothing(boots: u32) -> Self {
        Self { boots, milestones: 0, trouble: BTreeSet::new() }
    }
}

impl<'a> Watch<'a> {
    pub(super) fn new(report: &'a dyn Report) -> Self {
        Self { report, told: BTreeMap::new() }
    }

    /// Waits until every machine passed all that its console can tell.
    pub(super) fn until_there(&mut self, client: &Client, until: Instant) -> Result<Status> {
        for status in client.watch()? {
            interrupt::check()?;
            let status = status?;
            for machine in &status.machines {
                self.tell(machine);
            }
            if let Some(machine) = status.machines.iter().find(|m| matches!(m.state, State::Off | State::Broken)) {
                return Err(failed(machine, &format!("{} went off while it came up", machine.seat.name)));
            }
            if status.machines.iter().all(MachineStatus::is_there) {
                return Ok(status);
            }
            if Instant::now() >= until {
                let late = status.machines.iter().find(|machine| !machine.is_there());
                return Err(late.map_or_else(ended, |machine| {
                    let why =
                        format!("{} is not there yet; ahead of it: {}", machine.seat.name, machine.ahead.join(", "));
                    failed(machine, &why)
                }));
            }
        }
        Err(ended())
    }

    fn tell(&mut self, machine: &MachineStatus) {
        let name = &machine.seat.name;
        let told = self.told.entry(name.clone()).or_insert_with(|| {
            self.report.event(Event::Started { stage: name.clone(), total: None, unit: "" });
            Told::nothing(machine.boots)
        });
        if told.boots != machine.boots {
            *told = Told::nothing(machine.boots);
        }
        for (milestone, seconds) in machine.milestones.iter().skip(told.milestones) {
            let event = Event::Milestone { machine: name.clone(), milestone: milestone.clone(), seconds: *seconds };
            self.report.event(event);
        }
        told.milestones = told.milestones.max(machine.milestones.len());
        for trouble in &machine.trouble {
            if told.trouble.insert(trouble.clone()) {
                self.report.event(Event::Warning { text: format!("{name}: {trouble}") });
            }
        }
    }

    /// Waits until the API server calls every node Ready.
    pub(super) fn until_ready(&self, dir: &Path, plan: &Plan, status: &Status, until: Instant) -> Result<()> {
        let mut waiting: Vec<&str> =
            plan.machines.iter().filter(|seat| access::is_node(plan, seat)).map(|seat| seat.name.as_str()).collect();
        loop {
            let nodes = access::nodes(dir, plan);
            if let Ok(nodes) = &nodes {
                waiting.retain(|name| {
                    let ready = nodes.iter().any(|node| node.name == *name && node.ready);
                    if ready {
                        let seconds = age(status, name);
                        let event =
                            Event::Milestone { machine: (*name).to_owned(), milestone: "Ready".into(), seconds };
                        self.report.event(event);
                    }
                    !ready
                });
                if waiting.is_empty() {
                    return Ok(());
                }
            }
            if Instant::now() >= until {
                let why = format!("{} joined, but the API server does not call them Ready", waiting.join(", "));
                let fault = Fault::new(Kind::Verdict, why).hint("look at `nodelith kubectl -- describe nodes`");
                return Err(match nodes {
                    Ok(_) => fault.into(),
                    Err(error) => error.context(fault),
                });
            }
            let next = Instant::now() + ASK_NODES;
            while Instant::now() < next {
                interrupt::check()?;
                std::thread::sleep(STEP);
            }
        }
    }
}

/// Seconds since a machine's power-on, whole ones.
fn age(status: &Status, name: &str) -> f64 {
    let since = status.machines.iter().find(|machine| machine.seat.name == name).map_or(0, |machine| machine.since);
    Duration::from_secs(clock::now().saturating_sub(since)).as_secs_f64()
}

fn ended() -> anyhow::Error {
    Fault::new(Kind::Environment, "the supervisor ended meanwhile").into()
}

fn failed(machine: &MachineStatus, why: &str) -> anyhow::Error {
    let name = &machine.seat.name;
    let mut text = why.to_owned();
    for line in &machine.tail {
        text += &format!("\n  | {line}");
    }
    let fault = Fault::new(Kind::Verdict, text);
    let fault = fault.hint(format!("look at `nodelith console {name}` and `nodelith logs {name}`"));
    fault.hint("`nodelith up` starts what is off and waits on; `nodelith down` ends the cluster").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::milestone::tests::seat;
    use crate::report::testing::Warnings;

    #[test]
    fn each_trouble_of_a_boot_is_told_once_wherever_it_stands() {
        let seat = seat(&[]);
        let heard = Warnings::default();
        let mut watch = Watch::new(&heard);
        let mut tell = |boots: u32, trouble: &[&str]| {
            let trouble = trouble.iter().map(|text| (*text).to_owned()).collect();
            watch.tell(&MachineStatus { boots, trouble, state: State::On, ..MachineStatus::off(&seat) });
        };
        tell(1, &["NL-CERT-003"]);
        tell(1, &["a unit failed", "NL-CERT-003"]);
        tell(1, &["a unit failed", "NL-CERT-003"]);
        tell(2, &["a unit failed"]);
        let told = ["NL-CERT-003", "a unit failed", "a unit failed"].map(|text| format!("worker-1: {text}"));
        assert_eq!(*heard.0.lock().unwrap(), told);
    }
}
