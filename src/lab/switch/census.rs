//! What kinds of traffic came in by a port: what a machine sent, whoever it was for and whether it arrived or not.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Address resolution of IPv4.
    Arp,
    /// ICMP of either family: that of IPv6 is also its address resolution.
    Icmp,
    /// A connection asked for, to this port. Its other segments, answers included, are not counted again.
    Tcp(u16),
    /// Datagrams between a port and a larger one, which is taken for the client's.
    Udp(u16),
    /// A piece of an IP packet that was too large.
    Fragment,
    /// Another protocol over IP, by IANA's number.
    Ip(u8),
    /// Another protocol over Ethernet, by its type.
    Ether(u16),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arp => f.write_str("arp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Tcp(port) => write!(f, "tcp {port}"),
            Self::Udp(port) => write!(f, "udp {port}"),
            Self::Fragment => f.write_str("fragment"),
            Self::Ip(protocol) => write!(f, "ip {protocol}"),
            Self::Ether(kind) => write!(f, "ether {kind}"),
        }
    }
}

impl FromStr for Flow {
    type Err = String;

    /// As [`Display`](fmt::Display) writes it.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("`{text}` ends in no number that fits");
        match text.split_once(' ') {
            None if text == "arp" => Ok(Self::Arp),
            None if text == "icmp" => Ok(Self::Icmp),
            None if text == "fragment" => Ok(Self::Fragment),
            Some(("tcp", port)) => port.parse().map(Self::Tcp).map_err(wrong),
            Some(("udp", port)) => port.parse().map(Self::Udp).map_err(wrong),
            Some(("ip", protocol)) => protocol.parse().map(Self::Ip).map_err(wrong),
            Some(("ether", kind)) => kind.parse().map(Self::Ether).map_err(wrong),
            _ => Err(format!("`{text}` is no kind of traffic")),
        }
    }
}

/// Bytes of each kind, Ethernet headers included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census(BTreeMap<Flow, u64>);

impl Census {
    pub(super) fn add(&mut self, frame: &[u8]) {
        if let Some(flow) = flow(frame) {
            *self.0.entry(flow).or_default() += frame.len() as u64;
        }
    }

    /// Each kind that was seen, with its bytes.
    pub fn flows(&self) -> impl Iterator<Item = (Flow, u64)> + '_ {
        self.0.iter().map(|(flow, bytes)| (*flow, *bytes))
    }
}

/// The kind of a frame; none for what belongs to a connection that was counted, or is cut short.
fn flow(frame: &[u8]) -> Option<Flow> {
    let packet = frame.get(14..)?;
    match short(frame, 12)? {
        0x0806 => Some(Flow::Arp),
        0x0800 => {
            // More fragments follow, or this is not the first.
            if short(packet, 6)? & 0x3fff != 0 {
                return Some(Flow::Fragment);
            }
            over_ip(*packet.get(9)?, packet.get(usize::from(packet[0] & 15) * 4..)?)
        }
        0x86dd => {
            let (mut protocol, mut rest) = (*packet.get(6)?, packet.get(40..)?);
            // RFC 8200 §4: options for each hop, routing, options for the destination.
            while matches!(protocol, 0 | 43 | 60) {
                (protocol, rest) = (*rest.first()?, rest.get(usize::from(*rest.get(1)?) * 8 + 8..)?);
            }
            over_ip(protocol, rest)
        }
        other => Some(Flow::Ether(other)),
    }
}

fn over_ip(protocol: u8, payload: &[u8]) -> Option<Flow> {
    match protocol {
        1 | 58 => Some(Flow::Icmp),
        // SYN without ACK.
        6 => (payload.get(13)? & 0x12 == 0x02).then(|| short(payload, 2).map(Flow::Tcp))?,
        17 => Some(Flow::Udp(short(payload, 0)?.min(short(payload, 2)?))),
        44 => Some(Flow::Fragment),
        other => Some(Flow::Ip(other)),
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
    }

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 24];
        // Six words: one of options, which the ports must not be looked for in.
        (header[0], header[9]) = (0x46, protocol);
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        ethernet(0x0800, &[&header[..], payload].concat())
    }

    fn ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 40];
        header[6] = protocol;
        ethernet(0x86dd, &[&header[..], payload].concat())
    }

    fn ports(from: u16, to: u16, flags: u8) -> Vec<u8> {
        let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
        segment.resize(20, 0);
        segment[13] = flags;
        segment
    }

    #[test]
    fn frames_are_counted_by_what_they_are() {
        let none = || String::from("(none)");
        let kind = |frame: &[u8]| flow(frame).map_or_else(none, |flow| flow.to_string());
        let hop = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &ports(546, 547, 0)].concat();
        let cases = [
            (ethernet(0x0806, &[0; 28]), "arp"),
            (ethernet(0x88cc, &[]), "ether 35020"),
            (ipv4(1, 0x4000, &[8, 0]), "icmp"),
            (ipv4(2, 0, &[0; 8]), "ip 2"),
            (ipv4(6, 0x4000, &ports(40000, 6443, 0x02)), "tcp 6443"),
            (ipv4(6, 0x4000, &ports(6443, 40000, 0x12)), "(none)"),
            (ipv4(6, 0x4000, &ports(40000, 6443, 0x10)), "(none)"),
            (ipv4(17, 0, &ports(50000, 8472, 0)), "udp 8472"),
            (ipv4(17, 0, &ports(53, 50000, 0)), "udp 53"),
            (ipv4(17, 0x2000, &ports(50000, 8472, 0)), "fragment"),
            (ipv4(17, 0x00b9, &[0; 9]), "fragment"),
            (ipv6(58, &[135, 0]), "icmp"),
            (ipv6(0, &hop), "udp 546"),
            (ipv6(44, &[0; 8]), "fragment"),
            (ipv4(6, 0, &[1, 2]), "(none)"),
            (vec![0; 13], "(none)"),
        ];
        for (frame, wanted) in cases {
            assert_eq!(kind(&frame), wanted, "{frame:?}");
        }
    }

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for flow in [Flow::Arp, Flow::Icmp, Flow::Tcp(1), Flow::Udp(65535), Flow::Fragment, Flow::Ip(2), Flow::Ether(7)]
        {
            assert_eq!(flow.to_string().parse(), Ok(flow));
        }
        for text in ["", "tcp", "tcp x", "udp 65536", "ip 256", "arp 1", "icmp6"] {
            assert!(text.parse::<Flow>().is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_add_up() {
        let mut census = Census::default();
        for _ in 0..3 {
            census.add(&ethernet(0x0806, &[0; 28]));
        }
        assert_eq!(census.flows().collect::<Vec<_>>(), [(Flow::Arp, 126)]);
    }
}
