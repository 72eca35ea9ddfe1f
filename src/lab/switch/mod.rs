//! An Ethernet switch in user space. QEMU's cards end here over Unix sockets, so a network needs neither root nor a
//! tap, and what goes wrong on it is ours: drop, delay, duplicate, cut. Equal seeds give equal faults.
//!
//! [`core`](self::core) decides, [`census`] counts, [`dhcp`] answers, [`wire`](self::wire) moves bytes.

mod census;
mod core;
mod dhcp;
mod pcap;
mod wire;

pub use self::core::{Fault, PortId};
pub use census::{Census, Flow};
pub use dhcp::Dhcp;
pub use wire::Switch;

/// An Ethernet address.
pub type Mac = [u8; 6];
