//! A claim as meant: machines, what is done to them, what must be seen. Values only.

use crate::cluster::Tokens;
use crate::lab::switch;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One file of `vm-tests/`.
#[derive(Debug, Clone)]
pub struct Claim {
    /// `area/claim`: folder and file stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// One sentence: what holds.
    pub about: String,
    /// The whole claim's bound, boots included.
    pub within: Duration,
    /// Whether it may go on with the machines of the claim before, and leave its own to the next.
    pub shares: bool,
    /// Whether a controller and its workers share certificates, and thus get tokens.
    pub cluster: bool,
    /// In the order of their addresses.
    pub machines: Vec<Member>,
    /// Console lines and units that may look bad, as patterns.
    pub allow: Vec<String>,
    /// What is done and expected, in order.
    pub steps: Vec<Step>,
}

impl Claim {
    /// Whether it can go on with the machines of another that held just before. When those were powered on is all the
    /// same to it, unless it says when itself.
    pub(super) fn follows(&self, other: &Self) -> bool {
        let at_once = |member: &Member| member.start == Some(Duration::ZERO);
        let alike = |(one, other): (&Member, &Member)| *one == Member { start: one.start, ..other.clone() };
        self.shares
            && other.shares
            && self.cluster == other.cluster
            && self.machines.len() == other.machines.len()
            && self.machines.iter().all(at_once)
            && self.machines.iter().zip(&other.machines).all(alike)
    }

    /// Whether another is tried in the midst of this one, on its machines.
    pub(super) fn hosts(&self, other: &Self) -> bool {
        let named = |step: &Step| matches!(&step.act, Act::Meanwhile(names) if names.contains(&other.name));
        other.follows(self) && self.steps.iter().any(named)
    }
}

/// A machine of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its host name.
    pub name: String,
    /// The image it boots.
    pub image: String,
    /// MiB.
    pub memory: u32,
    /// Virtual processors.
    pub cpus: u8,
    /// When it is powered on: after so long, or by a step only.
    pub start: Option<Duration>,
    /// Whether it gets its address by DHCP instead of by credential.
    pub dhcp: bool,
    /// Credentials beyond the cluster's; they win.
    pub credentials: BTreeMap<String, String>,
    /// How its tokens are made.
    pub tokens: Tokens,
    /// Bytes of the root partition that are inverted on its disk.
    pub flip: Vec<u64>,
    /// Whether it comes up, so that its units and its power-off are judged.
    pub boots: bool,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its line in the file, from 1.
    pub line: usize,
    /// As typed, in one line.
    pub text: String,
    /// The machines, by name; each must fulfil it.
    pub on: Vec<String>,
    /// What is done.
    pub act: Act,
    /// How long it may take.
    pub within: Option<Duration>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Waits until a unit is active.
    Wait(String),
    /// Runs a script and expects.
    Run(Run),
    /// Waits for a console line.
    Console(String),
    /// Refuses a console line, so far.
    Never(String),
    /// Presses or pulls.
    Power(Power),
    /// Sets what is wrong with a link.
    Link {
        /// Frames.
        fault: switch::Fault,
        /// The cable is out.
        unplugged: bool,
    },
    /// Refuses traffic that the machine sent since power-on and that is none of these.
    Wire(Vec<switch::Flow>),
    /// Lets time pass.
    Pause(Duration),
    /// Tries other claims on the same machines, those of these names that were chosen, and then goes on.
    Meanwhile(Vec<String>),
}

/// A script in a guest and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// For `sh`.
    pub script: String,
    /// The exit code.
    pub exit: i32,
    /// What standard output must hold.
    pub prints: Option<String>,
    /// What it must be like.
    pub compare: Option<Compare>,
    /// Under what name later scripts know what it printed, machine by machine.
    pub keep: Option<String>,
}

/// What standard output is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Equal to when the same script ran last on the same machine.
    LikeBefore,
    /// Unlike that.
    UnlikeBefore,
    /// Equal on all machines of the step.
    LikePeers,
    /// Different on each.
    UnlikePeers,
}

/// The power button and the plug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Powers on.
    On,
    /// Presses the button, waits for the end and judges the boot.
    Off,
    /// Pulls the plug.
    Cut,
}

/// How long a step may take that does not say: a bound against hanging, five times what a slow host needed.
pub(super) const STEP_BOUND: Duration = Duration::from_secs(300);
