//! One machine: its files, its process, its channels. Powered on and off any number of times on the same disk.

use super::argv::{self, Acceleration, CARD, Hardware, LINK, Paths, SOCKETS};
use super::console::Console;
use super::emulator::Emulator;
use super::probe::{self, Answer, Probe};
use super::process::Process;
use super::qmp::Qmp;
use super::switch::{PortId, Switch};
use super::{disk, interrupt};
use crate::error::{Blame, Fault, Kind, Result};
use crate::sys::{cmd, fs};
use serde_json::json;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long QEMU may take to connect its sockets after it was started.
const CONNECT: Duration = Duration::from_secs(60);
/// How often a wait looks again.
const STEP: Duration = Duration::from_millis(50);

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reboot; the lab does not start it again by itself.
    Reboot,
    /// The lab cut the power.
    Cut,
    /// QEMU ended in another way.
    Broken,
}

#[derive(Debug)]
struct Running {
    process: Process,
    qmp: Qmp,
    probe: Probe,
}

/// A machine. Dropping it cuts its power.
#[derive(Debug)]
pub struct Machine {
    hardware: Hardware,
    dir: PathBuf,
    link: Option<(Switch, PortId)>,
    running: Option<Running>,
    console: Option<Console>,
    ending: Option<Ending>,
    boots: u32,
}

impl Machine {
    /// Makes a machine's files in a directory of its own: disk, firmware variables, credentials. With a switch, its
    /// card gets a port there.
    ///
    /// # Errors
    /// [`Kind::Environment`] when a file cannot be made.
    pub fn new(hardware: Hardware, dir: &Path, emulator: &Emulator, switch: Option<&Switch>) -> Result<Self> {
        let mut hardware = hardware;
        for (name, value) in probe::credentials() {
            hardware.credentials.insert(name.to_owned(), value.as_bytes().to_vec());
        }
        let link = switch.map(|switch| (switch.clone(), switch.add_port()));
        let image = hardware
            .image
            .canonicalize()
            .blame(Kind::Environment, || format!("opening the image {}", hardware.image.display()))?;
        hardware.image = image;
        let paths = Paths { dir, firmware: &emulator.firmware(), network: link.is_some() };
        fs::make_dir(dir)?;
        disk::overlay(&paths.disk(), &hardware.image, hardware.disk, &hardware.flips)?;
        fs::write_atomic(&paths.variables(), &fs::read(&emulator.variables())?)?;
        for (name, value) in &hardware.credentials {
            fs::write_atomic(&paths.credential(name), value)?;
        }
        let dir = dir.to_owned();
        Ok(Self { hardware, dir, link, running: None, console: None, ending: None, boots: 0 })
    }

    /// The machine's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.hardware.name
    }

    /// What the machine is made of.
    #[must_use]
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// How often it was powered on.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// Its switch and port.
    #[must_use]
    pub fn link(&self) -> Option<&(Switch, PortId)> {
        self.link.as_ref()
    }

    /// Powers the machine on. Its console goes to `console` from the first byte.
    ///
    /// # Errors
    /// [`Kind::Environment`] when QEMU does not start, with what it said.
    pub fn power_on(&mut self, emulator: &Emulator, acceleration: Acceleration, console: &Path) -> Result<()> {
        self.cut_power();
        let paths = Paths { dir: &self.dir, firmware: &emulator.firmware(), network: self.link.is_some() };
        let names = SOCKETS.iter().copied().chain(self.link.is_some().then_some(LINK));
        let listeners = names.map(|name| listen(&paths.socket(name))).collect::<Result<Vec<_>>>()?;
        let argv = emulator.command(argv::arguments(&self.hardware, &paths, acceleration));
        let said = self.dir.join("qemu.log");
        let mut process = Process::start(&argv, &emulator.environment(), &said)?;
        let until = Instant::now() + CONNECT;
        let mut streams = Vec::new();
        for listener in &listeners {
            streams.push(accept(listener, &mut process, until).map_err(|why| {
                let words = fs::read_text(&said).unwrap_or_default();
                let mut shown = cmd::command(&argv[0]);
                let shown = cmd::paste(shown.args(&argv[1..]));
                Fault::new(
                    Kind::Environment,
                    format!("{} did not start: {why}\n  | {}\n{shown}", self.name(), words.trim()),
                )
            })?);
        }
        let mut streams = streams.into_iter();
        let mut next =
            || streams.next().ok_or_else(|| Fault::new(Kind::Internal, "a socket of the machine is missing"));
        let (qmp, serial, port) = (next()?, next()?, next()?);
        if let Some((switch, id)) = &self.link {
            switch.plug(*id, next()?)?;
        }
        // The console first: firmware speaks while the rest connects.
        self.console = Some(Console::start(serial, console)?);
        let probe = Probe::start(port)?;
        self.running = Some(Running { process, qmp: Qmp::start(qmp)?, probe });
        self.ending = None;
        self.boots += 1;
        Ok(())
    }

    /// What the machine said since it was last powered on.
    #[must_use]
    pub fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    /// How the last boot ended; `None` while the machine runs or before it first did.
    pub fn ended(&mut self) -> Option<Ending> {
        if let Some(running) = &mut self.running
            && let Some(status) = running.process.ended()
        {
            let reason = running.qmp.event("SHUTDOWN").and_then(|data| Some(data.get("reason")?.as_str()?.to_owned()));
            self.ending = Some(match reason.as_deref() {
                Some("guest-shutdown") if status.success() => Ending::PowerOff,
                Some("guest-reset") => Ending::Reboot,
                _ => Ending::Broken,
            });
            self.running = None;
        }
        self.ending
    }

    /// Whether it is powered on.
    pub fn is_on(&mut self) -> bool {
        self.ended().is_none() && self.running.is_some()
    }

    /// Whether scripts can be run in it.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.probe.ready())
    }

    /// Runs a script in the guest by `sh`.
    ///
    /// # Errors
    /// [`Kind::Verdict`] when the guest gives no answer; a script that fails is an answer.
    pub fn run(&self, script: &str, bound: Duration) -> Result<Answer> {
        let off = || Fault::new(Kind::Verdict, format!("{} is off", self.name()));
        self.running.as_ref().ok_or_else(off)?.probe.run(script, bound)
    }

    /// Presses the power button and waits for the guest to power itself off.
    ///
    /// # Errors
    /// [`Kind::Verdict`] when it does not in time; it stays on then.
    pub fn power_off(&mut self, bound: Duration) -> Result<Ending> {
        let until = Instant::now() + bound;
        if self.is_on()
            && let Some(running) = &self.running
        {
            running.qmp.execute("system_powerdown", json!({}))?;
        }
        loop {
            if let Some(ending) = self.ended() {
                if let Some(console) = &self.console {
                    console.drain(Duration::from_secs(5))?;
                }
                return Ok(ending);
            }
            if self.running.is_none() {
                return Err(Fault::new(Kind::Verdict, format!("{} was never on", self.name())).into());
            }
            if Instant::now() >= until {
                let why = format!("{} did not power off within {} s of its button", self.name(), bound.as_secs());
                return Err(Fault::new(Kind::Verdict, why).into());
            }
            interrupt::check()?;
            std::thread::sleep(STEP);
        }
    }

    /// Cuts the power.
    pub fn cut_power(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.process.kill();
            self.ending = Some(Ending::Cut);
        }
    }

    /// Pulls the cable out of the card, or plugs it in again: the guest sees its carrier go and come.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the machine is off or has no card.
    pub fn set_carrier(&self, up: bool) -> Result<()> {
        let off = || Fault::new(Kind::Verdict, format!("{} is off", self.name()));
        let running = self.running.as_ref().ok_or_else(off)?;
        running.qmp.execute("set_link", json!({ "name": CARD, "up": up })).map(|_| ())
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let doing = || format!("listening on {}", path.display());
    if path.exists() {
        std::fs::remove_file(path).blame(Kind::Environment, doing)?;
    }
    let listener = UnixListener::bind(path).blame(Kind::Environment, doing)?;
    listener.set_nonblocking(true).blame(Kind::Environment, doing)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, process: &mut Process, until: Instant) -> Result<UnixStream, String> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        if let Some(status) = process.ended() {
            return Err(format!("QEMU ended at once, {status}"));
        }
        if Instant::now() >= until {
            return Err(format!("QEMU did not connect within {} s", CONNECT.as_secs()));
        }
        interrupt::check().map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_millis(10));
    }
}
