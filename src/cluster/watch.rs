//! What `up` watches: machines that come up, as milestones on the way; nodes that become Ready.

use super::access;
use super::control::Client;
use super::plan::Plan;
use super::status::{MachineStatus, State, Status};
use crate::error::{Fault, Kind, Result};
use crate::lab::interrupt;
use crate::report::{Event, Report};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often what cannot wake us is looked at.
const STEP: Duration = Duration::from_millis(100);
/// How often the API server is asked for its nodes.
const ASK_NODES: Duration = Duration::from_secs(3);

/// Who watches, and what was said already.
pub(super) struct Watch<'a> {
    report: &'a dyn Report,
    /// By machine: its boot, and how many milestones of it were told.
    seen: BTreeMap<String, (u32, usize)>,
    warned: BTreeMap<String, usize>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(report: &'a dyn Report) -> Self {
        Self { report, seen: BTreeMap::new(), warned: BTreeMap::new() }
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
        let seen = self.seen.entry(name.clone()).or_insert_with(|| {
            self.report.event(Event::Started { stage: name.clone(), total: None, unit: "" });
            (machine.boots, 0)
        });
        if seen.0 != machine.boots {
            *seen = (machine.boots, 0);
        }
        for (milestone, seconds) in machine.milestones.iter().skip(seen.1) {
            let event = Event::Milestone { machine: name.clone(), milestone: milestone.clone(), seconds: *seconds };
            self.report.event(event);
        }
        seen.1 = seen.1.max(machine.milestones.len());
        let warned = self.warned.entry(name.clone()).or_default();
        for trouble in machine.trouble.iter().skip(*warned) {
            self.report.event(Event::Warning { text: format!("{name}: {trouble}") });
        }
        *warned = (*warned).max(machine.trouble.len());
    }

    /// Waits until the API server calls every node Ready.
    pub(super) fn until_ready(&self, dir: &Path, plan: &Plan, until: Instant) -> Result<()> {
        let since = Instant::now();
        let mut waiting: Vec<&str> =
            plan.machines.iter().filter(|seat| access::is_node(plan, seat)).map(|seat| seat.name.as_str()).collect();
        loop {
            let nodes = access::nodes(dir, plan);
            if let Ok(nodes) = &nodes {
                waiting.retain(|name| {
                    let ready = nodes.iter().any(|node| node.name == *name && node.ready);
                    if ready {
                        let seconds = since.elapsed().as_secs_f64();
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
