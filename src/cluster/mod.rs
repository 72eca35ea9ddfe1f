//! Machines that belong together: what each is told so that it joins, and a live cluster of them on this machine, which
//! a supervisor keeps after the verb that started it has returned.
//!
//! ```text
//! out/cluster/
//!   plan.json            machines, addresses, ports: what `up` decided; the supervisor obeys
//!   authority/           the CA's root and the operator's key, for this cluster only
//!   images/<sha256>.raw  links to the images, so that a rebuild does not pull them from under the disks
//!   machines/<name>/     disk, firmware variables, credentials, sockets
//!   <name>.console       what the machine says; <name>.previous.console of the boot before,
//!                        <name>.starting.console until QEMU runs
//!   kubeconfig           for kubectl, with a key that was made here
//!   control              the supervisor's socket
//!   supervisor.{lock,pid,log}  held while it lives; who it is; what it complained
//! ```

mod access;
mod authority;
mod control;
mod crew;
mod milestone;
mod plan;
mod starter;
mod status;
mod supervisor;
mod verbs;
mod watch;

pub use access::{kubeconfig, nodes};
pub use authority::{Authority, Member, Tokens, credentials};
pub use control::Client;
pub use plan::{Image, Plan, Port, Request, Seat};
pub use status::{MachineStatus, State, Status};
pub use supervisor::supervise;
pub use verbs::{Down, Up, down, status, up};

use std::net::Ipv4Addr;

/// The prefix length of the lab's network.
pub const PREFIX: u8 = 24;
/// Where step-ca listens.
pub const CA_PORT: u16 = 8443;
/// Where etcd listens for clients.
const ETCD_PORT: u16 = 2379;
/// Where the API server listens.
pub const API_PORT: u16 = 6443;

/// A machine's address: 10.8.0.10 for the first, and on.
#[must_use]
pub fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 8, 0, u8::try_from(10 + index).unwrap_or(u8::MAX))
}
