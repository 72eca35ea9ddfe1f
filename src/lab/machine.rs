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
use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long QEMU may take to connect its sockets after it was started.
const CONNECT: Duration = Duration::from_secs(60);
/// How long the events of a QEMU that has ended may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// After how long the power button is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
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
    probe: Arc<Probe>,
}

/// A way to run scripts in a machine that needs no hold of the machine itself.
#[derive(Debug, Clone)]
pub struct Guest(Arc<Probe>);

impl Guest {
    /// As [`Machine::run`].
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn run(&self, script: &str, bound: Duration) -> Result<Answer> {
        self.0.run(script, bound)
    }
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
    /// Makes a machine's files in a directory of its own: disk, firmware variables, credentials. A disk and variables
    /// that are there already stay, so a machine can come back. With a switch, its card gets a port there.
    ///
    /// # Errors
    /// [`Kind::Environment`] when a file cannot be made.
    pub fn new(hardware: Hardware, dir: &Path, emulator: &Emulator, switch: Option<&Switch>) -> Result<Self> {
        let mut hardware = hardware;
        with_probe(&mut hardware.credentials);
        let link = switch.map(|switch| (switch.clone(), switch.add_port()));
        let image = hardware
            .image
            .canonicalize()
            .blame(Kind::Environment, || format!("opening the image {}", hardware.image.display()))?;
        hardware.image = image;
        let paths = Paths { dir, firmware: &emulator.firmware(), network: link.is_some() };
        fs::make_dir(dir)?;
        // The variables last: where they are, the disk is whole.
        if !paths.variables().exists() {
            disk::overlay(&paths.disk(), &hardware.image, hardware.disk, &hardware.flips)?;
            fs::write_atomic(&paths.variables(), &fs::read(&emulator.variables())?)?;
        }
        write_credentials(&paths, &hardware)?;
        let dir = dir.to_owned();
        Ok(Self { hardware, dir, link, running: None, console: None, ending: None, boots: 0 })
    }

    /// Tells the machine something else from its next boot on.
    ///
    /// # Errors
    /// [`Kind::Environment`] when a file cannot be written.
    pub fn tell(&mut self, credentials: BTreeMap<String, Vec<u8>>, emulator: &Emulator) -> Result<()> {
        self.hardware.credentials = credentials;
        with_probe(&mut self.hardware.credentials);
        let paths = Paths { dir: &self.dir, firmware: &emulator.firmware(), network: self.link.is_some() };
        write_credentials(&paths, &self.hardware)
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
        let connected = accept_all(&listeners, &mut process)
            .and_then(|streams| self.connect(streams, console, process.pid()))
            .map_err(|why| {
                let mut shown = cmd::command(&argv[0]);
                let shown = cmd::paste(shown.args(&argv[1..]));
                let words = fs::read_text(&said).unwrap_or_default();
                let message = format!("{} did not start: {why:#}\n  | {}\n{shown}", self.name(), words.trim());
                Fault::new(Kind::Environment, message)
            });
        let (qmp, probe) = connected?;
        self.running = Some(Running { process, qmp, probe: Arc::new(probe) });
        self.ending = None;
        self.boots += 1;
        Ok(())
    }

    /// Takes the sockets into use, in the order of [`SOCKETS`] and then the card's.
    fn connect(&mut self, streams: Vec<UnixStream>, console: &Path, pid: u32) -> Result<(Qmp, Probe)> {
        let mut streams = streams.into_iter();
        let mut next =
            || streams.next().ok_or_else(|| Fault::new(Kind::Internal, "a socket of the machine is missing"));
        let (qmp, serial, port) = (next()?, next()?, next()?);
        // The console first: firmware speaks while the rest connects.
        self.console = Some(Console::start(serial, console, pid)?);
        if let Some((switch, id)) = &self.link {
            switch.plug(*id, next()?)?;
        }
        Ok((Qmp::start(qmp)?, Probe::start(port)?))
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
            // The process can be gone before its last words were read.
            running.qmp.drain(LAST_WORDS);
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

    /// As [`Machine::ended`], after a moment in which a process that hangs up can also end.
    fn ended_soon(&mut self) -> Option<Ending> {
        let until = Instant::now() + LAST_WORDS;
        while self.ended().is_none() && Instant::now() < until {
            std::thread::sleep(STEP);
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

    /// The way in, once scripts can be run.
    #[must_use]
    pub fn guest(&self) -> Option<Guest> {
        self.running.as_ref().filter(|running| running.probe.ready()).map(|running| Guest(Arc::clone(&running.probe)))
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
        let mut press = Instant::now();
        loop {
            // Again and again: a press before logind watches the button is lost.
            if press <= Instant::now()
                && self.is_on()
                && let Some(running) = &self.running
            {
                press = Instant::now() + PRESS_AGAIN;
                let pressed = running.qmp.execute("system_powerdown", json!({}));
                // A machine that has just gone off by itself has no button left; that is no failure.
                if let (Err(error), None) = (pressed, self.ended_soon()) {
                    return Err(error);
                }
            }
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

/// Adds what lets scripts be run in the machine.
fn with_probe(credentials: &mut BTreeMap<String, Vec<u8>>) {
    let probe = probe::credentials().into_iter();
    credentials.extend(probe.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
}

fn write_credentials(paths: &Paths<'_>, hardware: &Hardware) -> Result<()> {
    hardware.credentials.iter().try_for_each(|(name, value)| {
        fs::write_atomic(&paths.credential(name), argv::credential(name, value).as_bytes())
    })
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

fn accept_all(listeners: &[UnixListener], process: &mut Process) -> Result<Vec<UnixStream>> {
    let until = Instant::now() + CONNECT;
    listeners.iter().map(|listener| accept(listener, process, until)).collect()
}

fn accept(listener: &UnixListener, process: &mut Process, until: Instant) -> Result<UnixStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = process.ended() {
            anyhow::bail!("QEMU ended at once, {status}");
        }
        if Instant::now() >= until {
            anyhow::bail!("QEMU did not connect within {} s", CONNECT.as_secs());
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::print_stderr, reason = "scratch files and printed skips of tests")]

    use super::*;
    use crate::lab::switch::{Dhcp, Fault as LinkFault};
    use std::net::Ipv4Addr;

    fn wait(what: &str, seconds: u64, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while !done() {
            assert!(Instant::now() < until, "{what} took more than {seconds} s");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Boots two machines for real. Needs QEMU's unpacked packages and a bootable image with systemd 257 and DHCP on
    /// `en*`, so it runs only where a developer names them.
    #[test]
    fn machines_boot_talk_and_power_off() {
        let (Ok(root), Ok(image)) = (std::env::var("NODELITH_LAB_QEMU"), std::env::var("NODELITH_LAB_IMAGE")) else {
            eprintln!("skipped: NODELITH_LAB_QEMU and NODELITH_LAB_IMAGE are not set");
            return;
        };
        let emulator = Emulator::new(Path::new(&root)).unwrap();
        let scratch = fs::scratch().unwrap();
        let hardware = ["a", "b"].map(|name| Hardware::new(name, Path::new(&image)));
        let leases = BTreeMap::from([
            (hardware[0].mac, Ipv4Addr::new(10, 8, 0, 11)),
            (hardware[1].mac, Ipv4Addr::new(10, 8, 0, 12)),
        ]);
        let dhcp = Dhcp { server: Ipv4Addr::new(10, 8, 0, 1), prefix: 24, lease: 3600, mtu: Some(1400), leases };
        let switch = Switch::new(1, Some(dhcp), None).unwrap();
        let mut machines = hardware.map(|hardware| {
            let dir = scratch.path().join(&hardware.name);
            Machine::new(hardware, &dir, &emulator, Some(&switch)).unwrap()
        });
        let started = Instant::now();
        for machine in &mut machines {
            let console = scratch.path().join(format!("{}.console", machine.name()));
            machine.power_on(&emulator, emulator.acceleration(), &console).unwrap();
        }
        for machine in &machines {
            wait("the probe", 300, || machine.answers());
            eprintln!("{} answers after {:.1} s", machine.name(), started.elapsed().as_secs_f64());
        }
        let minute = Duration::from_secs(60);
        let wait_ping = |what: &str, good: bool| {
            wait(what, 180, || (machines[0].run("ping -c1 -W2 10.8.0.12", minute).unwrap().code == 0) == good);
        };
        wait_ping("the first ping", true);
        let told = machines[1].run("cat /sys/class/dmi/id/product_uuid", minute).unwrap();
        assert_eq!(told.stdout, format!("{}\n", machines[1].hardware().uuid));
        let (switch, port) = machines[1].link().unwrap().clone();
        switch.set_fault(port, LinkFault { cut: true, ..LinkFault::default() });
        wait_ping("the cut", false);
        switch.set_fault(port, LinkFault::default());
        wait_ping("the mended link", true);
        machines[1].set_carrier(false).unwrap();
        wait("the loss of carrier", 60, || {
            machines[1].run("cat /sys/class/net/en*/carrier", minute).unwrap().stdout == "0\n"
        });
        eprintln!("{:?}", machines[0].console().unwrap().milestones());
        eprintln!("{:#?}", machines[0].console().unwrap().bad(&[]));
        for machine in &mut machines {
            assert_eq!(machine.power_off(Duration::from_secs(120)).unwrap(), Ending::PowerOff);
        }
        eprintln!("over after {:.1} s", started.elapsed().as_secs_f64());
    }
}
