//! The locked QEMU and its firmware, run from wherever the store unpacked them, by their own dynamic loader.

use super::argv::Acceleration;
use super::process::Process;
use crate::error::{Fault, Kind, Result};
use crate::sys::fs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Debian's multiarch name of the architecture that the tools are for.
const MULTIARCH: &str = "usr/lib/x86_64-linux-gnu";
/// How long firmware may take to say its first word under KVM; it needs well under one second where KVM works.
const PROOF: Duration = Duration::from_secs(5);

/// QEMU with firmware in a directory into which Debian packages were unpacked.
#[derive(Debug)]
pub struct Emulator {
    loader: PathBuf,
    root: PathBuf,
    verdict: OnceLock<Acceleration>,
}

impl Emulator {
    /// QEMU under `root`, which holds `usr/bin/qemu-system-x86_64`, `usr/share/{OVMF,qemu,seabios}` and the libraries.
    ///
    /// # Errors
    /// [`Kind::Environment`] naming the file that is missing.
    pub fn new(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        let loader = root.join(MULTIARCH).join("ld-linux-x86-64.so.2");
        let emulator = Self { loader, root, verdict: OnceLock::new() };
        for path in [&emulator.loader, &emulator.program(), &emulator.firmware(), &emulator.variables()] {
            if !path.exists() {
                return Err(Fault::new(Kind::Environment, format!("QEMU is not whole: {} is missing", path.display()))
                    .hint("let the tools be unpacked again: remove that directory")
                    .into());
            }
        }
        Ok(emulator)
    }

    fn program(&self) -> PathBuf {
        self.root.join("usr/bin/qemu-system-x86_64")
    }

    /// OVMF's code.
    pub(super) fn firmware(&self) -> PathBuf {
        self.root.join("usr/share/OVMF/OVMF_CODE_4M.fd")
    }

    /// OVMF's empty variable store, the template of each machine's own.
    pub(super) fn variables(&self) -> PathBuf {
        self.root.join("usr/share/OVMF/OVMF_VARS_4M.fd")
    }

    /// The whole command line for QEMU's arguments.
    pub(super) fn command(&self, arguments: Vec<OsString>) -> Vec<OsString> {
        let mut argv = vec![self.loader.clone().into_os_string(), "--library-path".into()];
        argv.push(self.root.join(MULTIARCH).into());
        argv.push(self.program().into());
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            argv.extend(["-L".into(), self.root.join(data).into_os_string()]);
        }
        argv.extend(arguments);
        argv
    }

    /// QEMU's whole environment: where its modules are.
    pub(super) fn environment(&self) -> [(&'static str, OsString); 1] {
        [("QEMU_MODULE_DIR", self.root.join(MULTIARCH).join("qemu").into())]
    }

    /// KVM if a guest was seen to run by it, else TCG. Found out once.
    ///
    /// That `/dev/kvm` opens proves nothing: on some hosts it opens and the guest never executes an instruction, or
    /// QEMU ends with an emulation error. So firmware is booted and must speak on its serial port.
    pub fn acceleration(&self) -> Acceleration {
        *self.verdict.get_or_init(|| match self.kvm_runs() {
            Ok(true) => Acceleration::Kvm,
            Ok(false) | Err(_) => Acceleration::Tcg,
        })
    }

    fn kvm_runs(&self) -> Result<bool> {
        let opens = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if !opens {
            return Ok(false);
        }
        let dir = fs::scratch()?;
        let serial = dir.path().join("serial");
        let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={}", self.firmware().display());
        let mut arguments: Vec<OsString> = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
            .iter()
            .chain(&["-accel", "kvm", "-cpu", "host", "-m", "256", "-no-reboot", "-drive"])
            .map(OsString::from)
            .collect();
        arguments.extend([code.into(), "-serial".into(), format!("file:{}", serial.display()).into()]);
        let mut process = Process::start(&self.command(arguments), &self.environment(), &dir.path().join("said"))?;
        let until = Instant::now() + PROOF;
        while Instant::now() < until && process.ended().is_none() {
            super::interrupt::check()?;
            if std::fs::metadata(&serial).is_ok_and(|serial| serial.len() > 0) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_root_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = Emulator::new(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains("ld-linux-x86-64.so.2 is missing"), "{error:#}");
    }
}
