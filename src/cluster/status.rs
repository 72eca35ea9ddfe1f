//! What a cluster looks like from outside: one line of JSON on the control socket, and the board on which the supervisor
//! writes it.

use super::Plan;
use super::plan::{Port, Seat};
use crate::lab::Acceleration;
use serde::{Deserialize, Serialize};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has no power.
    Off,
    /// It has.
    On,
    /// Its power button was pressed.
    Stopping,
    /// QEMU ended without being told to.
    Broken,
}

impl State {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Stopping => "stopping",
            Self::Broken => "broken",
        }
    }
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineStatus {
    /// What it is made of.
    pub seat: Seat,
    /// What it is doing.
    pub state: State,
    /// How often it was powered on by this supervisor.
    pub boots: u32,
    /// When it was powered on, in seconds since 1970.
    pub since: u64,
    /// The milestones that this boot passed, with their seconds since power-on.
    pub milestones: Vec<(String, f64)>,
    /// What it has still to pass.
    pub ahead: Vec<String>,
    /// Console lines that no good boot shows, failures that the node told by a code, and why it did not start.
    pub trouble: Vec<String>,
    /// The last lines of its console.
    pub tail: Vec<String>,
}

impl MachineStatus {
    /// A machine that is off.
    #[must_use]
    pub fn off(seat: &Seat) -> Self {
        Self {
            seat: seat.clone(),
            state: State::Off,
            boots: 0,
            since: 0,
            milestones: Vec::new(),
            ahead: Vec::new(),
            trouble: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Whether it passed everything that the console can tell.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.state == State::On && self.boots > 0 && self.ahead.is_empty()
    }
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The supervisor's process; none when nothing runs.
    pub supervisor: Option<u32>,
    /// Who executes the guests' instructions: `kvm` or `tcg`.
    pub acceleration: Option<Acceleration>,
    /// Ports of the loopback.
    pub ports: Vec<Port>,
    /// The controller first.
    pub machines: Vec<MachineStatus>,
}

impl Status {
    /// A cluster that is off.
    #[must_use]
    pub fn off(plan: &Plan) -> Self {
        let machines = plan.machines.iter().map(MachineStatus::off).collect();
        Self { supervisor: None, acceleration: None, ports: plan.ports.clone(), machines }
    }
}

/// The status as the supervisor sees it now, and those who wait for a change.
#[derive(Debug)]
pub(super) struct Board {
    now: Mutex<(u64, Status)>,
    changed: Condvar,
}

impl Board {
    pub(super) fn new(status: Status) -> Self {
        Self { now: Mutex::new((1, status)), changed: Condvar::new() }
    }

    /// Changes the status; whoever waits hears of it if something is different.
    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let before = now.1.clone();
        change(&mut now.1);
        if now.1 != before {
            now.0 += 1;
            self.changed.notify_all();
        }
    }

    /// The status and its number.
    pub(super) fn read(&self) -> (u64, Status) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The status once its number is another one, or after a while as it is.
    pub(super) fn after(&self, seen: u64, bound: Duration) -> (u64, Status) {
        let until = Instant::now() + bound;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if now.0 != seen || left.is_zero() {
                return now.clone();
            }
            now = self.changed.wait_timeout(now, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
