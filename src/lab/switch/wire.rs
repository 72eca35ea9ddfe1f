//! Threads that move frames: one reads and one writes per card, one holds what is delayed.
//!
//! QEMU's `stream` network sends each frame after its length, four bytes, big endian.

use super::core::{Core, Fault, PortId};
use super::pcap::Capture;
use super::{Census, Dhcp};
use crate::error::{Blame, Kind, Result};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Frames that may wait for a slow card. A full queue drops, as a switch does: a guest that hangs must not stop others.
const QUEUE: usize = 1024;
/// The largest frame that QEMU sends: 64 KiB of segmentation offload and its headers.
const LARGEST: usize = 68 * 1024;

#[derive(Debug)]
struct Inner {
    core: Core,
    cards: BTreeMap<PortId, SyncSender<Vec<u8>>>,
    sent: BTreeMap<PortId, Census>,
    capture: Option<Capture>,
    later: mpsc::Sender<(Instant, PortId, Vec<u8>)>,
}

/// The switch; its threads end when it is dropped and the cards hang up.
#[derive(Debug, Clone)]
pub struct Switch {
    inner: Arc<Mutex<Inner>>,
}

impl Switch {
    /// A switch without ports. Everything that enters it is captured to a file when one is given.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the capture cannot be written.
    pub fn new(seed: u64, dhcp: Option<Dhcp>, capture: Option<&Path>) -> Result<Self> {
        let capture = capture.map(Capture::start).transpose()?;
        let (later, waiting) = mpsc::channel();
        let inner =
            Inner { core: Core::new(seed, dhcp), cards: BTreeMap::new(), sent: BTreeMap::new(), capture, later };
        let inner = Arc::new(Mutex::new(inner));
        let for_thread = Arc::downgrade(&inner);
        std::thread::spawn(move || {
            hold(&waiting, |port, frame| {
                if let Some(inner) = for_thread.upgrade() {
                    inner.lock().unwrap_or_else(PoisonError::into_inner).send(port, frame);
                }
            });
        });
        Ok(Self { inner })
    }

    /// Adds a port. It keeps its faults while machines come and go on it.
    #[must_use]
    pub fn add_port(&self) -> PortId {
        self.lock().core.add_port()
    }

    /// Sets what is wrong with a port's link from now on.
    pub fn set_fault(&self, port: PortId, fault: Fault) {
        self.lock().core.set_fault(port, fault);
    }

    /// Plugs a card into a port; the one before is gone.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the stream cannot be shared between two threads.
    pub fn plug(&self, port: PortId, stream: UnixStream) -> Result<()> {
        let mut out = stream.try_clone().blame(Kind::Environment, || "opening a network link".to_owned())?;
        let (sender, frames) = mpsc::sync_channel::<Vec<u8>>(QUEUE);
        let mut inner = self.lock();
        inner.cards.insert(port, sender);
        inner.sent.remove(&port);
        drop(inner);
        std::thread::spawn(move || {
            for frame in frames {
                let length = u32::try_from(frame.len()).unwrap_or(0).to_be_bytes();
                if out.write_all(&[&length[..], &frame[..]].concat()).is_err() {
                    break;
                }
            }
        });
        let for_thread = Arc::downgrade(&self.inner);
        std::thread::spawn(move || {
            let mut stream = stream;
            while let Some(frame) = receive(&mut stream) {
                let Some(inner) = for_thread.upgrade() else { break };
                inner.lock().unwrap_or_else(PoisonError::into_inner).take(port, &frame);
            }
        });
        Ok(())
    }

    /// What the card in a port has sent since it was plugged in.
    #[must_use]
    pub fn sent(&self, port: PortId) -> Census {
        self.lock().sent.get(&port).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, from: PortId, frame: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.add(frame);
        }
        self.sent.entry(from).or_default().add(frame);
        for delivery in self.core.forward(from, frame) {
            if delivery.after.is_zero() {
                self.send(delivery.port, delivery.frame);
            } else {
                // The holder lives as long as this sender.
                let _ = self.later.send((Instant::now() + delivery.after, delivery.port, delivery.frame));
            }
        }
    }

    fn send(&mut self, port: PortId, frame: Vec<u8>) {
        if let Some(card) = self.cards.get(&port)
            && let Err(mpsc::TrySendError::Disconnected(_)) = card.try_send(frame)
        {
            self.cards.remove(&port);
        }
    }
}

fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= LARGEST)?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

/// Holds frames until they are due; those due at the same instant leave in the order they came.
fn hold(waiting: &Receiver<(Instant, PortId, Vec<u8>)>, mut send: impl FnMut(PortId, Vec<u8>)) {
    let mut held: BTreeMap<(Instant, u64), (PortId, Vec<u8>)> = BTreeMap::new();
    let mut count = 0;
    loop {
        let next = held.keys().next().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        match waiting.recv_timeout(next.unwrap_or(Duration::from_secs(3600))) {
            Ok((due, port, frame)) => {
                count += 1;
                held.insert((due, count), (port, frame));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while let Some(entry) = held.first_entry()
            && entry.key().0 <= now
        {
            let (port, frame) = entry.remove();
            send(port, frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Flow;
    use super::*;

    fn card(switch: &Switch) -> (PortId, UnixStream) {
        let port = switch.add_port();
        let (ours, theirs) = UnixStream::pair().unwrap();
        switch.plug(port, theirs).unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (port, ours)
    }

    fn send(stream: &mut UnixStream, frame: &[u8]) {
        stream.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(frame).unwrap();
    }

    #[test]
    fn frames_cross_whole_are_captured_and_wait_when_the_link_is_slow() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("net.pcap");
        let switch = Switch::new(1, None, Some(&file)).unwrap();
        let ((a_port, mut a), (b_port, mut b)) = (card(&switch), card(&switch));
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        frame.resize(1514, 7);
        send(&mut a, &frame);
        assert_eq!(receive(&mut b).unwrap(), frame);

        switch.set_fault(b_port, Fault { delay: Duration::from_millis(80), ..Fault::default() });
        let since = Instant::now();
        send(&mut a, &frame);
        assert_eq!(receive(&mut b).unwrap(), frame);
        assert!(since.elapsed() >= Duration::from_millis(80));
        let sent = |port| switch.sent(port).flows().collect::<Vec<_>>();
        assert_eq!((sent(a_port), sent(b_port)), (vec![(Flow::Ether(0x88b5), 2 * 1514)], vec![]));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 24 + 2 * (16 + 1514));
    }

    #[test]
    fn a_card_that_does_not_read_stops_nobody() {
        let switch = Switch::new(1, None, None).unwrap();
        let ((_, mut a), (_, mut b), (_, _deaf)) = (card(&switch), card(&switch), card(&switch));
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        frame.resize(60_000, 7);
        for _ in 0..200 {
            send(&mut a, &frame);
            assert_eq!(receive(&mut b).unwrap().len(), frame.len());
        }
    }
}
