//! What the switch does with a frame; pure but for its own tables, so tests can replay it.

use super::{Dhcp, Mac};
use std::collections::BTreeMap;
use std::time::Duration;

/// A port, numbered from zero in the order they were made.
pub type PortId = usize;

/// What is wrong with a link, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fault {
    /// Nothing passes; the guest still sees its carrier.
    pub cut: bool,
    /// Frames lost, of a hundred.
    pub drop: u8,
    /// Frames sent twice, of a hundred.
    pub duplicate: u8,
    /// How much later frames arrive.
    pub delay: Duration,
    /// By how much the delay varies, at most; also reorders.
    pub jitter: Duration,
}

/// A frame that leaves by a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) port: PortId,
    pub(super) after: Duration,
    pub(super) frame: Vec<u8>,
}

/// Ethernet header: destination, source, type.
const HEADER: usize = 14;

/// The tables: who sits where, what is wrong with which link.
#[derive(Debug)]
pub(super) struct Core {
    faults: Vec<Fault>,
    learned: BTreeMap<Mac, PortId>,
    dhcp: Option<Dhcp>,
    random: u64,
}

impl Core {
    pub(super) fn new(seed: u64, dhcp: Option<Dhcp>) -> Self {
        Self { faults: Vec::new(), learned: BTreeMap::new(), dhcp, random: seed }
    }

    pub(super) fn add_port(&mut self) -> PortId {
        self.faults.push(Fault::default());
        self.faults.len() - 1
    }

    pub(super) fn set_fault(&mut self, port: PortId, fault: Fault) {
        if let Some(slot) = self.faults.get_mut(port) {
            *slot = fault;
        }
    }

    /// Takes a frame that came in by a port and says where it goes, and when.
    pub(super) fn forward(&mut self, from: PortId, frame: &[u8]) -> Vec<Delivery> {
        let (Some(destination), Some(source)) = (address(frame, 0), address(frame, 6)) else { return Vec::new() };
        if frame.len() < HEADER || from >= self.faults.len() {
            return Vec::new();
        }
        let mut out = Vec::new();
        for after in self.passes(from) {
            // A group address as source is a broken frame; learning it would catch all broadcasts.
            if source[0] & 1 == 0 {
                self.learned.insert(source, from);
            }
            if let Some(reply) = self.dhcp.as_ref().and_then(|dhcp| dhcp.answer(frame)) {
                out.extend(self.leave(from, after, &reply));
                continue;
            }
            let known = self.learned.get(&destination).copied().filter(|_| destination[0] & 1 == 0);
            let ports: Vec<PortId> = match known {
                Some(port) => vec![port],
                None => (0..self.faults.len()).collect(),
            };
            for port in ports.into_iter().filter(|port| *port != from) {
                out.extend(self.leave(port, after, frame));
            }
        }
        out
    }

    fn leave(&mut self, port: PortId, after: Duration, frame: &[u8]) -> Vec<Delivery> {
        let passes = self.passes(port);
        passes.into_iter().map(|more| Delivery { port, after: after + more, frame: frame.to_vec() }).collect()
    }

    /// When a frame comes out of a link that it enters now: not at all, once or twice.
    fn passes(&mut self, port: PortId) -> Vec<Duration> {
        let fault = self.faults[port];
        if fault.cut || self.percent() < u64::from(fault.drop) {
            return Vec::new();
        }
        let copies = if self.percent() < u64::from(fault.duplicate) { 2 } else { 1 };
        let jitter = u64::try_from(fault.jitter.as_micros()).unwrap_or(0);
        (0..copies)
            .map(|_| fault.delay + Duration::from_micros(if jitter == 0 { 0 } else { self.next() % jitter }))
            .collect()
    }

    fn percent(&mut self) -> u64 {
        self.next() % 100
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, and any seed is a good one.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn address(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5];
        if to == 0xff {
            frame[..6].fill(0xff);
        }
        frame.extend([1, 2, 3]);
        frame
    }

    fn ports(deliveries: &[Delivery]) -> Vec<PortId> {
        deliveries.iter().map(|delivery| delivery.port).collect()
    }

    fn core(seed: u64) -> Core {
        let mut core = Core::new(seed, None);
        for _ in 0..3 {
            core.add_port();
        }
        core
    }

    #[test]
    fn unknown_is_flooded_and_known_is_not() {
        let mut core = core(1);
        assert_eq!(ports(&core.forward(0, &frame(2, 1))), [1, 2]);
        assert_eq!(ports(&core.forward(1, &frame(1, 2))), [0]);
        assert_eq!(ports(&core.forward(0, &frame(2, 1))), [1]);
        assert_eq!(ports(&core.forward(1, &frame(0xff, 2))), [0, 2]);
        // The machine moved: the last port counts. A frame to its own port goes nowhere.
        core.forward(2, &frame(0xff, 1));
        assert_eq!(ports(&core.forward(1, &frame(1, 2))), [2]);
        assert!(core.forward(2, &frame(1, 3)).is_empty());
        assert!(core.forward(0, &[0; 13]).is_empty() && core.forward(9, &frame(1, 2)).is_empty());
    }

    #[test]
    fn a_cut_link_passes_nothing_either_way_until_mended() {
        let mut core = core(1);
        core.set_fault(1, Fault { cut: true, ..Fault::default() });
        assert_eq!(ports(&core.forward(0, &frame(0xff, 1))), [2]);
        assert!(core.forward(1, &frame(0xff, 2)).is_empty());
        core.set_fault(1, Fault::default());
        assert_eq!(ports(&core.forward(0, &frame(0xff, 1))), [1, 2]);
    }

    #[test]
    fn faults_follow_the_seed_and_the_percentage() {
        let run = |seed| {
            let mut core = core(seed);
            let millis = Duration::from_millis;
            core.set_fault(0, Fault { drop: 20, duplicate: 10, delay: millis(5), jitter: millis(3), cut: false });
            (0..2000).map(|_| core.forward(0, &frame(0xff, 1))).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let all = run(7);
        let lost = all.iter().filter(|deliveries| deliveries.is_empty()).count();
        let twice = all.iter().filter(|deliveries| deliveries.len() == 4).count();
        assert!((300..500).contains(&lost) && (100..220).contains(&twice), "{lost} lost, {twice} twice");
        let late = all.iter().flatten().map(|delivery| delivery.after).collect::<Vec<_>>();
        assert!(late.iter().all(|after| (5..8).contains(&after.as_millis())));
    }
}
