//! The machines of a live cluster, in the hands of the supervisor: powered on, looked after, powered off.

use super::authority::{Authority, Member, Tokens, credentials};
use super::milestone;
use super::plan::{Plan, Seat};
use super::status::{Board, MachineStatus, State};
use crate::error::{Fault, Kind, Result};
use crate::lab::switch::Switch;
use crate::lab::{Emulator, Ending, Guest, Hardware, Machine};
use crate::report::{Event, Report};
use crate::sys::{clock, fs};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many of the last console lines are shown of a machine.
const TAIL: usize = 12;

struct Hand {
    seat: Seat,
    machine: Machine,
    /// When it was powered on, in seconds since 1970.
    since: u64,
    /// Why it did not start when it was last to.
    failed: Option<String>,
}

/// All machines. Dropping it cuts their power.
pub(super) struct Crew<'a> {
    hands: Vec<Hand>,
    emulator: Emulator,
    switch: Switch,
    authority: Authority,
    board: Arc<Board>,
    report: &'a dyn Report,
}

impl<'a> Crew<'a> {
    pub(super) fn new(
        emulator: Emulator,
        switch: Switch,
        authority: Authority,
        board: Arc<Board>,
        report: &'a dyn Report,
    ) -> Self {
        Self { hands: Vec::new(), emulator, switch, authority, board, report }
    }

    /// Adds the machines of a plan that are new, and powers on all that are off.
    pub(super) fn start(&mut self, plan: &Plan) -> Result<()> {
        let controller = plan.controller().map(|seat| seat.address);
        for seat in plan.machines.iter().skip(self.hands.len()) {
            let mut hardware = Hardware::new(&seat.name, &seat.raw());
            (hardware.memory, hardware.cpus) = (seat.memory, seat.cpus);
            let machine = Machine::new(hardware, &seat.place(), &self.emulator, Some(&self.switch))?;
            self.hands.push(Hand { seat: seat.clone(), machine, since: 0, failed: None });
            self.board.change(|status| status.machines.push(MachineStatus::off(seat)));
        }
        for index in 0..self.hands.len() {
            if !self.hands[index].machine.is_on() {
                self.power_on(index, controller)?;
            }
        }
        self.look();
        Ok(())
    }

    fn power_on(&mut self, index: usize, controller: Option<Ipv4Addr>) -> Result<()> {
        let started = self.start_one(index, controller);
        self.hands[index].failed = started.as_ref().err().map(|error| format!("{error:#}"));
        started
    }

    fn start_one(&mut self, index: usize, controller: Option<Ipv4Addr>) -> Result<()> {
        let Hand { seat, machine, since, .. } = &mut self.hands[index];
        *since = clock::now();
        // New tokens: those of the boot before may be spent or old.
        let tokens = Tokens::default();
        let member = Member {
            name: &seat.name,
            address: seat.address,
            dhcp: false,
            certificates: &seat.certificates,
            tokens: &tokens,
        };
        let told = credentials(&member, controller.map(|address| (&self.authority, address)), clock::now())?;
        let told: BTreeMap<String, Vec<u8>> = told.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        machine.tell(told, &self.emulator)?;
        let [console, previous, starting] =
            ["console", "previous.console", "starting.console"].map(|kind| Path::new(&seat.name).with_extension(kind));
        machine.power_on(&self.emulator, self.emulator.acceleration(), &starting)?;
        // Only now: a start that failed has said nothing, and would take the place of what tells why.
        if console.exists() {
            fs::rename(&console, &previous)?;
        }
        fs::rename(&starting, &console)
    }

    /// Takes a look at every machine and writes what it saw on the board. A guest that rebooted starts again; if it does
    /// not, it stays off until it is asked for.
    pub(super) fn look(&mut self) {
        let controller = self.hands.first().map(|hand| hand.seat.address);
        for index in 0..self.hands.len() {
            let mut state = match self.hands[index].machine.ended() {
                None if self.hands[index].machine.boots() > 0 => State::On,
                None | Some(Ending::PowerOff | Ending::Cut) => State::Off,
                Some(Ending::Reboot) if self.hands[index].failed.is_none() => match self.power_on(index, controller) {
                    Ok(()) => State::On,
                    Err(error) => {
                        let text = format!("{} rebooted and is off: {error:#}", self.hands[index].seat.name);
                        self.report.event(Event::Warning { text });
                        State::Broken
                    }
                },
                Some(Ending::Reboot | Ending::Broken) => State::Broken,
            };
            let hand = &self.hands[index];
            let (mut passed, mut ahead, mut trouble, mut tail) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            if let Some(console) = hand.machine.console() {
                (passed, ahead) = milestone::milestones(console, &hand.seat);
                trouble = milestone::trouble(console);
                tail = console.tail(TAIL);
            }
            trouble.extend(hand.failed.clone());
            let (boots, since) = (hand.machine.boots(), hand.since);
            self.board.change(|status| {
                let Some(entry) = status.machines.get_mut(index) else { return };
                if entry.state == State::Stopping && state == State::On {
                    state = State::Stopping;
                }
                *entry = MachineStatus {
                    seat: hand.seat.clone(),
                    state,
                    boots,
                    since,
                    milestones: passed,
                    ahead,
                    trouble,
                    tail,
                };
            });
        }
    }

    /// The way into a machine.
    pub(super) fn guest(&mut self, name: &str) -> Result<Guest> {
        let hand = self.hands.iter_mut().find(|hand| hand.seat.name == name);
        let hand = hand.ok_or_else(|| Fault::new(Kind::Usage, format!("there is no machine `{name}`")))?;
        if !hand.machine.is_on() {
            let fault = Fault::new(Kind::Environment, format!("{name} is off"));
            return Err(fault.hint("`nodelith up` starts what is off").into());
        }
        hand.machine.guest().ok_or_else(|| {
            let fault = Fault::new(Kind::Environment, format!("{name} does not answer yet"));
            fault.hint(format!("it may still be booting: see `nodelith console {name}`")).into()
        })
    }

    /// Presses all power buttons at once, waits, and cuts what is left then.
    pub(super) fn down(&mut self, bound: Duration) {
        let board = &self.board;
        board.change(|status| {
            for entry in &mut status.machines {
                entry.state = if entry.state == State::On { State::Stopping } else { entry.state };
            }
        });
        std::thread::scope(|scope| {
            for (index, hand) in self.hands.iter_mut().enumerate() {
                scope.spawn(move || {
                    // Whatever went wrong with the button, the plug works.
                    if hand.machine.is_on() && hand.machine.power_off(bound).is_err() {
                        hand.machine.cut_power();
                    }
                    board.change(|status| {
                        if let Some(entry) = status.machines.get_mut(index) {
                            entry.state = State::Off;
                        }
                    });
                });
            }
        });
    }
}
