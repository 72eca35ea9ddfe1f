//! The process that keeps a cluster alive after `up` has returned: nodelith itself, started anew in a session of its own.
//! Its machines die with it, however it ends (`lab` sees to that), so nothing is ever left behind.
//!
//! Its life: lock, pid file, ports, machines, control socket; then it says one line on its standard output. Until its
//! starter answers with a line on standard input, the starter's end is its own end.

use super::authority::Authority;
use super::control::{self, Order};
use super::crew::Crew;
use super::plan::{Plan, Port};
use super::status::{Board, Status};
use super::{PREFIX, control::Client};
use crate::error::{Blame, Fault, Kind, Result};
use crate::lab::forward::{Forward, Forwarder};
use crate::lab::switch::Switch;
use crate::lab::{Emulator, interrupt};
use crate::report::Report;
use crate::sys::fs;
use std::fs::File;
use std::io::{BufRead as _, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Our address in the lab's network: where forwarded connections come from.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
/// The lock that a supervisor holds while it lives.
pub(super) const LOCK: &str = "supervisor.lock";
/// Who it is.
pub(super) const PID: &str = "supervisor.pid";
/// What it complains.
pub(super) const LOG: &str = "supervisor.log";
/// How often machines are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long a verb's last answer may take to be sent.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Keeps the cluster of a directory until it is told to take it down, or is ended.
///
/// # Errors
/// [`Kind::Environment`] when a port is taken, QEMU does not start, it was interrupted or the directory was removed: no
/// machine runs then.
pub fn supervise(dir: &Path, ready: &mut dyn Write, report: &dyn Report) -> Result<()> {
    // Refused when a shell started us as the leader of a group; then the terminal's signals simply reach us.
    let _ = rustix::process::setsid();
    interrupt::watch();
    // From here on all paths are relative, and short enough for sockets.
    std::env::set_current_dir(dir).blame(Kind::Environment, || format!("entering {}", dir.display()))?;
    let here = Path::new(".");
    let lock = fs::open_lock(Path::new(LOCK))?;
    if lock.try_lock().is_err() {
        return Err(Fault::new(Kind::Environment, format!("another supervisor keeps {}", dir.display())).into());
    }
    let pid = std::process::id();
    fs::write_atomic(Path::new(PID), format!("{pid}\n").as_bytes())?;
    let missing = || Fault::new(Kind::Environment, "there is no plan");
    let mut plan = Plan::load(here)?.ok_or_else(missing)?;
    let forwards = bind(&mut plan.ports)?;
    plan.save(here)?;
    let emulator = Emulator::new(&plan.emulator)?;
    let authority = Authority::kept(Path::new("authority"))?;
    let acceleration = Some(emulator.acceleration());
    let first = Status { supervisor: Some(pid), acceleration, machines: Vec::new(), ..Status::off(&plan) };
    let board = Arc::new(Board::new(first));
    let switch = Switch::new(1, None, None)?;
    let _forwarder = Forwarder::start(&switch, ADDRESS, PREFIX, forwards)?;
    let mut crew = Crew::new(emulator, switch, authority, Arc::clone(&board), report);
    std::thread::spawn(hold_starter);
    crew.start(&plan)?;
    let (orders, inbox) = mpsc::channel();
    control::serve(&board, &orders)?;
    // The starter may be gone; then the other thread ends us.
    let _ = writeln!(ready, "ready").and_then(|()| ready.flush());
    keep(&mut crew, &inbox, here, &lock)?;
    fs::remove(Path::new("control"))?;
    fs::remove(Path::new(PID))
}

/// Until it says that all is well, the starter's end is ours: Ctrl-C and a closed terminal leave no machine.
fn hold_starter() {
    let mut line = String::new();
    let told = std::io::stdin().lock().read_line(&mut line);
    if !told.is_ok_and(|count| count > 0) {
        interrupt::raise();
    }
}

fn keep(crew: &mut Crew<'_>, inbox: &mpsc::Receiver<Order>, here: &Path, lock: &File) -> Result<()> {
    loop {
        interrupt::check()?;
        // Without the directory no verb finds us any more, and the machines would run on out of reach.
        if !fs::names(&here.join(LOCK), lock).unwrap_or(true) {
            let why = "the cluster's directory was removed; all machines were stopped";
            return Err(Fault::new(Kind::Environment, why).into());
        }
        // A client that went away does not want the answer any more.
        match inbox.recv_timeout(LOOK) {
            Ok(Order::Start(reply)) => {
                let missing = || Fault::new(Kind::Environment, "there is no plan").into();
                let plan = Plan::load(here).and_then(|plan| plan.ok_or_else(missing));
                let _ = reply.send(plan.and_then(|plan| crew.start(&plan)));
            }
            Ok(Order::Guest(name, reply)) => drop(reply.send(crew.guest(&name))),
            Ok(Order::Down(bound, reply)) => {
                crew.down(bound);
                let _ = reply.send(Ok(()));
                std::thread::sleep(LAST_WORDS);
                return Ok(());
            }
            Err(_) => {}
        }
        crew.look();
    }
}

/// Takes the ports of the loopback. One that the user chose must be free; another one gives way to any that is.
fn bind(ports: &mut [Port]) -> Result<Vec<Forward>> {
    let at = |port| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let mut forwards = Vec::new();
    for port in ports {
        let wanted = port.listen.unwrap_or(0);
        let listener = match at(wanted) {
            Err(why) if port.chosen => {
                let fault = Fault::new(Kind::Environment, format!("port {wanted} of 127.0.0.1 is taken"));
                let fault = fault.hint("choose another one by `--port`, or end what listens there");
                return Err(anyhow::Error::from(why).context(fault));
            }
            Err(_) => at(0),
            good => good,
        };
        let doing = || "listening on 127.0.0.1".to_owned();
        let listener = listener.blame(Kind::Environment, doing)?;
        port.listen = Some(listener.local_addr().blame(Kind::Environment, doing)?.port());
        forwards.push(Forward { listener, to: port.to });
    }
    Ok(forwards)
}

/// The supervisor of a directory, if one lives.
pub(super) fn find(dir: &Path) -> Result<Option<Client>> {
    let path = dir.join(LOCK);
    if !path.exists() {
        return Ok(None);
    }
    let held = fs::open_lock(&path)?.try_lock().is_err();
    Ok(held.then(|| Client::new(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(listen: Option<u16>, chosen: bool) -> Port {
        Port { name: "api".into(), listen, chosen, to: SocketAddrV4::new(ADDRESS, 6443) }
    }

    #[test]
    fn a_chosen_port_that_is_taken_is_refused_and_another_one_gives_way() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let error = bind(&mut [port(Some(number), true)]).unwrap_err();
        assert!(error.to_string().contains(&format!("port {number} of 127.0.0.1 is taken")), "{error}");
        let mut ports = [port(Some(number), false), port(None, false)];
        let forwards = bind(&mut ports).unwrap();
        assert_eq!(forwards.len(), 2);
        assert!(ports.iter().all(|port| port.listen.is_some_and(|listen| listen != number && listen > 0)));
        drop(forwards);
        bind(&mut ports).unwrap();
    }

    #[test]
    fn a_lock_file_that_nobody_holds_is_no_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path()).unwrap().is_none());
        let lock = fs::open_lock(&dir.path().join(LOCK)).unwrap();
        assert!(find(dir.path()).unwrap().is_none());
        lock.lock().unwrap();
        assert!(find(dir.path()).unwrap().is_some());
    }
}
