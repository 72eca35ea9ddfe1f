//! An Ethernet switch in user space. QEMU's cards end here over Unix sockets, so a network needs neither root nor a
//! tap, and what goes wrong on it is ours: drop, delay, duplicate, cut. Equal seeds give equal faults.
//!
//! [`core`](self::core) decides, [`dhcp`] answers, [`wire`](self::wire) moves bytes.

mod core;
mod dhcp;
mod pcap;
mod wire;

pub use self::core::{Fault, PortId};
pub use dhcp::Dhcp;
pub use wire::Switch;

/// An Ethernet address.
pub type Mac = [u8; 6];
