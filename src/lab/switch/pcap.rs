//! Capture files as libpcap reads them (draft-ietf-opsawg-pcap): microseconds, link type 1 = Ethernet.

use crate::error::{Blame, Kind, Result};
use crate::sys::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A capture under way.
#[derive(Debug)]
pub(super) struct Capture {
    file: File,
    since: Instant,
    epoch: Duration,
}

impl Capture {
    pub(super) fn start(path: &Path) -> Result<Self> {
        let mut file = fs::create(path)?;
        file.write_all(&header()).blame(Kind::Environment, || format!("writing {}", path.display()))?;
        Ok(Self { file, since: Instant::now(), epoch: Duration::from_secs(crate::sys::clock::now()) })
    }

    /// Adds a frame. A full disk ends the capture's usefulness, not the network.
    pub(super) fn add(&mut self, frame: &[u8]) {
        let _ = self.file.write_all(&record(self.epoch + self.since.elapsed(), frame));
    }
}

fn header() -> Vec<u8> {
    let mut out = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    out.extend_from_slice(&2u16.to_le_bytes());
    out.extend_from_slice(&4u16.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&65535u32.to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    out
}

fn record(at: Duration, frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(0).to_le_bytes();
    // The format's seconds are 32 bits wide until 2106.
    let mut out = u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    out.extend_from_slice(&at.subsec_micros().to_le_bytes());
    out.extend_from_slice(&length);
    out.extend_from_slice(&length);
    out.extend_from_slice(frame);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_its_header_and_records() {
        assert_eq!(header().len(), 24);
        let record = record(Duration::new(7, 5_000), &[9; 3]);
        assert_eq!(record, [7, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 9, 9, 9]);
    }
}
