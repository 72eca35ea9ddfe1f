//! The network card of a stack inside this process: frames over a socket of the switch, four bytes of length before
//! each, as QEMU's `stream` network sends them. What waits is bounded in both directions.

use crate::error::{Blame, Kind, Result};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Bytes that may wait on either side; a card that is full asks its stack to wait.
const ROOM: usize = 256 * 1024;
/// The largest frame that the switch passes on.
const LARGEST: usize = 68 * 1024;
/// An Ethernet frame without its check sequence: 1500 bytes and the header.
const FRAME: usize = 1514;

/// A card.
#[derive(Debug)]
pub(super) struct Card {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    gone: bool,
}

impl Card {
    pub(super) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(true).blame(Kind::Environment, || "opening a network link".to_owned())?;
        Ok(Self { stream, inbox: Vec::new(), outbox: Vec::new(), gone: false })
    }

    /// Whether the switch hung up.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether bytes wait for the switch.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether no frame can be sent before the switch took some.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.len() >= ROOM
    }

    /// Takes what the switch sent.
    pub(super) fn fill(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while self.inbox.len() < ROOM {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.gone = true,
                Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.gone = true,
            }
        }
    }

    /// Gives the switch what waits for it.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match self.stream.write(&self.outbox[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.outbox.drain(..sent);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let (length, _) = self.inbox.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > LARGEST {
            self.gone = true;
            return None;
        }
        let frame = self.inbox.get(4..4 + length)?.to_vec();
        self.inbox.drain(..4 + length);
        Some(frame)
    }
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A frame that came in.
pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// The right to send one frame.
pub(super) struct Sending<'a>(&'a mut Vec<u8>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let at = self.0.len() + 4;
        self.0.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_be_bytes());
        self.0.resize(at + length, 0);
        f(&mut self.0[at..])
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        // An answer must find room, else it is lost; the frame waits then.
        if self.is_full() {
            return None;
        }
        let frame = self.next()?;
        Some((Received(frame), Sending(&mut self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (!self.is_full()).then_some(Sending(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut out = DeviceCapabilities::default();
        out.medium = Medium::Ethernet;
        out.max_transmission_unit = FRAME;
        out
    }
}
