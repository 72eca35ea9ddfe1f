//! A DHCP server (RFC 2131) in one function: fixed addresses by hardware address, no router, no name server. It also
//! answers ARP (RFC 826) for its own address, which clients ask when they renew.

use super::Mac;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What the server knows.
#[derive(Debug, Clone)]
pub struct Dhcp {
    /// The server's own address.
    pub server: Ipv4Addr,
    /// The network's prefix length.
    pub prefix: u8,
    /// Seconds that a lease is good for.
    pub lease: u32,
    /// The link's MTU, when clients shall be told (option 26).
    pub mtu: Option<u16>,
    /// Who gets what. Others get no answer.
    pub leases: BTreeMap<Mac, Ipv4Addr>,
}

/// The server's hardware address: locally administered, no machine's.
const SERVER_MAC: Mac = [0x02, 0x4e, 0x4c, 0, 0, 1];
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const BOOTREQUEST: u8 = 1;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

impl Dhcp {
    /// The frame that answers a frame, if it is for the server.
    #[must_use]
    pub fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let to = frame.get(..6)?;
        if to != SERVER_MAC && to != [0xff; 6] {
            return None;
        }
        match frame.get(12..14)? {
            [0x08, 0x06] => self.arp(frame),
            [0x08, 0x00] => self.ip(frame),
            _ => None,
        }
    }

    fn arp(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let arp = frame.get(14..42)?;
        // Ethernet, IPv4, lengths, "who has", our address.
        if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || arp[24..28] != self.server.octets() {
            return None;
        }
        let mut out = Vec::with_capacity(60);
        out.extend_from_slice(&arp[8..14]);
        out.extend_from_slice(&SERVER_MAC);
        out.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        out.extend_from_slice(&SERVER_MAC);
        out.extend_from_slice(&self.server.octets());
        out.extend_from_slice(&arp[8..18]);
        out.resize(60, 0);
        Some(out)
    }

    fn ip(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let ip = frame.get(14..)?;
        let header = usize::from(ip.first()? & 0x0f) * 4;
        // IPv4, UDP, no fragment, to the server's port 67.
        if ip.first()? >> 4 != 4 || *ip.get(9)? != 17 || ip.get(6..8)? != [0x40, 0] && ip.get(6..8)? != [0, 0] {
            return None;
        }
        let udp = ip.get(header..)?;
        if udp.get(2..4)? != [0, 67] {
            return None;
        }
        self.message(udp.get(8..)?)
    }

    fn message(&self, request: &[u8]) -> Option<Vec<u8>> {
        if *request.first()? != BOOTREQUEST || request.get(236..240)? != COOKIE {
            return None;
        }
        let mac: Mac = request.get(28..34)?.try_into().ok()?;
        let mine = *self.leases.get(&mac)?;
        let options = options(request.get(240..)?);
        // A request that names another server is an answer to that one.
        if options.get(&54).is_some_and(|server| server[..] != self.server.octets()) {
            return None;
        }
        let kind = match options.get(&53)?.as_slice() {
            [DISCOVER] => OFFER,
            [REQUEST] => {
                let wanted = options.get(&50).map(Vec::as_slice).or_else(|| request.get(12..16))?;
                if wanted == mine.octets() { ACK } else { NAK }
            }
            _ => return None,
        };
        Some(self.reply(request, mac, if kind == NAK { Ipv4Addr::UNSPECIFIED } else { mine }, kind))
    }

    /// Replies are broadcast: the client may not have an address yet, and the switch delivers to its port only.
    fn reply(&self, request: &[u8], mac: Mac, yours: Ipv4Addr, kind: u8) -> Vec<u8> {
        let mut body = vec![2, 1, 6, 0];
        body.extend_from_slice(&request[4..8]);
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&request[10..12]);
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&yours.octets());
        body.extend_from_slice(&self.server.octets());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&mac);
        body.resize(236, 0);
        body.extend_from_slice(&COOKIE);
        body.extend_from_slice(&[53, 1, kind, 54, 4]);
        body.extend_from_slice(&self.server.octets());
        if kind != NAK {
            body.extend_from_slice(&[51, 4]);
            body.extend_from_slice(&self.lease.to_be_bytes());
            let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
            body.extend_from_slice(&[1, 4]);
            body.extend_from_slice(&mask.to_be_bytes());
            if let Some(mtu) = self.mtu {
                body.extend_from_slice(&[26, 2]);
                body.extend_from_slice(&mtu.to_be_bytes());
            }
        }
        body.push(255);
        // BOOTP's least size; some clients drop shorter messages.
        if body.len() < 300 {
            body.resize(300, 0);
        }
        self.wrap(&body)
    }

    fn wrap(&self, body: &[u8]) -> Vec<u8> {
        let length = |extra: usize| u16::try_from(body.len() + extra).unwrap_or(u16::MAX).to_be_bytes();
        let mut ip = vec![0x45, 0];
        ip.extend_from_slice(&length(28));
        ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
        ip.extend_from_slice(&self.server.octets());
        ip.extend_from_slice(&[255; 4]);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut out = vec![0xff; 6];
        out.extend_from_slice(&SERVER_MAC);
        out.extend_from_slice(&[8, 0]);
        out.extend_from_slice(&ip);
        // Ports 67 → 68; a UDP checksum of zero means none.
        out.extend_from_slice(&[0, 67, 0, 68]);
        out.extend_from_slice(&length(8));
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(body);
        out
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0))
}

/// Options by code. A broken list ends where it breaks.
fn options(mut bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut out = BTreeMap::new();
    while let Some((&code, rest)) = bytes.split_first() {
        match code {
            0 => bytes = rest,
            255 => break,
            _ => {
                let Some((&length, rest)) = rest.split_first() else { break };
                let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else { break };
                out.insert(code, value.to_vec());
                bytes = rest;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Mac = [2, 1, 2, 3, 4, 5];

    fn server() -> Dhcp {
        let leases = BTreeMap::from([(CLIENT, Ipv4Addr::new(10, 8, 0, 11))]);
        Dhcp { server: Ipv4Addr::new(10, 8, 0, 1), prefix: 24, lease: 3600, mtu: Some(1400), leases }
    }

    fn request(mac: Mac, tail: &[u8]) -> Vec<u8> {
        let mut body = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef];
        body.resize(28, 0);
        body.extend_from_slice(&mac);
        body.resize(236, 0);
        body.extend_from_slice(&COOKIE);
        body.extend_from_slice(tail);
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
        frame.extend_from_slice(&[0, 68, 0, 67, 0, 0, 0, 0]);
        frame.extend_from_slice(&body);
        frame
    }

    fn kind_of(reply: &[u8]) -> u8 {
        options(&reply[42 + 240..])[&53][0]
    }

    #[test]
    fn a_known_client_gets_its_address_and_a_stranger_nothing() {
        let offer = server().answer(&request(CLIENT, &[53, 1, 1, 255])).unwrap();
        assert_eq!(kind_of(&offer), OFFER);
        assert_eq!(offer[42 + 16..42 + 20], [10, 8, 0, 11]);
        assert_eq!(offer[42 + 4..42 + 8], [0xde, 0xad, 0xbe, 0xef], "the transaction's number");
        assert_eq!(checksum(&offer[14..34]), 0);
        let told = options(&offer[42 + 240..]);
        assert_eq!(told[&1], [255, 255, 255, 0]);
        assert_eq!(told[&26], 1400u16.to_be_bytes());
        let ack = server().answer(&request(CLIENT, &[53, 1, 3, 50, 4, 10, 8, 0, 11, 255])).unwrap();
        assert_eq!(kind_of(&ack), ACK);
        let nak = server().answer(&request(CLIENT, &[53, 1, 3, 50, 4, 10, 8, 0, 99, 255])).unwrap();
        assert_eq!(kind_of(&nak), NAK);
        assert!(server().answer(&request([2, 9, 9, 9, 9, 9], &[53, 1, 1, 255])).is_none());
        assert!(server().answer(&request(CLIENT, &[53, 1, 3, 54, 4, 9, 9, 9, 9, 255])).is_none());
    }

    #[test]
    fn it_answers_arp_for_itself_only_and_survives_garbage() {
        let mut ask = vec![0xff; 6];
        ask.extend_from_slice(&CLIENT);
        ask.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        ask.extend_from_slice(&CLIENT);
        ask.extend_from_slice(&[10, 8, 0, 11, 0, 0, 0, 0, 0, 0, 10, 8, 0, 1]);
        let reply = server().answer(&ask).unwrap();
        assert_eq!(reply[..6], CLIENT);
        assert_eq!(reply[28..32], [10, 8, 0, 1]);
        ask[41] = 2;
        assert!(server().answer(&ask).is_none());
        let good = request(CLIENT, &[53, 1, 1, 255]);
        for length in 0..good.len() - 2 {
            assert!(server().answer(&good[..length]).is_none(), "{length}");
        }
    }
}
