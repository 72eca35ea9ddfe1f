//! `up`, `down` and `status`, as seen from the terminal's side: they decide, start or ask the supervisor, and watch.

use super::authority::Authority;
use super::control::Client;
use super::plan::{Image, Plan, Request, Seat};
use super::starter::Starter;
use super::status::{State, Status};
use super::watch::Watch;
use super::{access, supervisor};
use crate::error::{Blame, Fault, Kind, Result};
use crate::lab::interrupt;
use crate::report::{Event, Report};
use crate::sys::{fs, memory};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a supervisor that was told to end may take.
const ENDING: Duration = Duration::from_secs(30);
/// How long a supervisor that was killed may hold its lock while its socket is closed already.
const DYING: Duration = Duration::from_secs(2);
/// How often what cannot wake us is looked at.
const STEP: Duration = Duration::from_millis(100);

/// What [`up`] works with.
pub struct Up<'a> {
    /// The cluster's directory.
    pub dir: &'a Path,
    /// What the user asked for.
    pub request: &'a Request,
    /// The image of the first machine.
    pub controller: &'a Image,
    /// The image of the others.
    pub worker: &'a Image,
    /// The unpacked QEMU.
    pub emulator: &'a Path,
    /// How long the machines may take to be there.
    pub within: Duration,
}

/// How [`down`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// There was no cluster.
    Nothing,
    /// Its machines are off, its disks are kept.
    Kept,
    /// It is gone.
    Removed,
}

/// Starts a cluster, or what is off of one, and waits until its machines are there.
///
/// # Errors
/// [`Kind::Usage`] when the request contradicts the cluster that exists; [`Kind::Environment`] before anything boots when
/// memory is short, a port is taken or QEMU does not start, and when interrupted; [`Kind::Verdict`] when a machine does
/// not come up: the others run on then.
pub fn up(ask: &Up<'_>, report: &dyn Report) -> Result<Status> {
    interrupt::watch();
    let _alone = alone(ask.dir)?;
    fs::make_private_dir(ask.dir)?;
    let running = supervisor::find(ask.dir)?;
    let old = running.as_ref().map(Client::status).transpose()?;
    let mut plan = Plan::load(ask.dir)?.unwrap_or_else(|| Plan::new(ask.emulator));
    let before = plan.clone();
    plan.fit(ask.request, ask.controller, ask.worker)?;
    // One that was free and chosen by nobody may be the one that is asked for now.
    let listen = |plan: &Plan| plan.ports.iter().map(|port| port.listen).collect::<Vec<_>>();
    if old.is_some() && listen(&plan) != listen(&before) {
        let fault = Fault::new(Kind::Usage, "the cluster runs with another port");
        return Err(fault.hint("run `nodelith down --keep-disks` first, then `up` with the port you want").into());
    }
    if old.is_none() {
        plan.emulator = ask.emulator.to_owned();
    }
    keep_images(ask, &plan, report)?;
    let on = |seat: &&Seat| {
        let machine = old.iter().flat_map(|status| &status.machines).find(|machine| machine.seat.name == seat.name);
        machine.is_some_and(|machine| machine.state == State::On)
    };
    let off: Vec<&Seat> = plan.machines.iter().filter(|seat| !on(seat)).collect();
    plan.require_memory(&off, memory::available())?;
    plan.save(ask.dir)?;
    match running {
        Some(client) => {
            client.start()?;
            finish(ask, &client, report).map_err(|error| {
                if interrupt::raised() {
                    let fault = Fault::new(Kind::Environment, "interrupted; the cluster runs on");
                    return fault.hint("`nodelith down` ends it").into();
                }
                error
            })
        }
        None => {
            let mut starter = Starter::spawn(ask.dir)?;
            starter.wait()?;
            let result = finish(ask, &Client::new(ask.dir), report);
            // What did not come up in time may still come, and can be looked at; what was interrupted ends.
            if interrupt::raised() {
                starter.abandon();
            } else {
                starter.release();
            }
            result
        }
    }
}

/// One verb at a time changes a cluster. What a `down` that was killed left of one goes now.
fn alone(dir: &Path) -> Result<std::fs::File> {
    let lock = fs::open_lock(&fs::beside(dir, "lock"))?;
    if lock.try_lock().is_err() {
        let why = format!("another `nodelith up` or `down` is at work on {}", dir.display());
        return Err(Fault::new(Kind::Environment, why).hint("wait for it, or end it").into());
    }
    fs::remove(&fs::beside(dir, "gone"))?;
    Ok(lock)
}

/// Keeps the images that the machines' disks lie on: a rebuild replaces `out/<image>/`, and the disks would not fit.
fn keep_images(ask: &Up<'_>, plan: &Plan, report: &dyn Report) -> Result<()> {
    let mut other = Vec::new();
    for seat in &plan.machines {
        let image = if seat.image == ask.controller.name { ask.controller } else { ask.worker };
        if seat.manifest != image.manifest {
            other.push(seat.name.as_str());
        }
        let kept = ask.dir.join(seat.raw());
        if kept.exists() {
            continue;
        }
        if seat.manifest != image.manifest {
            let why = format!("the image that {}'s disk lies on is gone: {}", seat.name, kept.display());
            return Err(Fault::new(Kind::Environment, why).hint("run `nodelith down`, then `nodelith up`").into());
        }
        fs::link_or_copy(&image.raw, &kept)?;
    }
    if !other.is_empty() {
        let text = format!(
            "{} keep the image they were made with; `nodelith down` and `up` give them the one built since",
            other.join(", ")
        );
        report.event(Event::Note { text });
    }
    Ok(())
}

/// Watches until every machine is there, then makes the kubeconfig and waits for the nodes.
fn finish(ask: &Up<'_>, client: &Client, report: &dyn Report) -> Result<Status> {
    let until = Instant::now() + ask.within;
    let mut watch = Watch::new(report);
    let status = watch.until_there(client, until)?;
    let plan = Plan::load(ask.dir)?.ok_or_else(|| Fault::new(Kind::Environment, "the plan is gone"))?;
    if plan.admin.is_some() {
        let authority = Authority::kept(&ask.dir.join("authority"))?;
        access::kubeconfig(ask.dir, &plan, &authority)?;
        watch.until_ready(ask.dir, &plan, &status, until)?;
    }
    for machine in &status.machines {
        let word = if access::is_node(&plan, &machine.seat) { "Ready" } else { "joined" };
        let detail = format!("{word}, {}", machine.seat.address);
        report.event(Event::Finished { stage: machine.seat.name.clone(), detail });
    }
    client.status()
}

/// Takes a cluster down: presses the power buttons, waits so long, cuts what is left, and removes it unless its disks
/// shall be kept.
///
/// # Errors
/// [`Kind::Environment`] when a file cannot be removed, or a supervisor cannot be ended.
pub fn down(dir: &Path, keep_disks: bool, bound: Duration, report: &dyn Report) -> Result<Down> {
    let gone = fs::beside(dir, "gone");
    if !dir.exists() && !gone.exists() {
        return Ok(Down::Nothing);
    }
    let _alone = alone(dir)?;
    if !dir.exists() {
        return Ok(Down::Nothing);
    }
    if let Some(client) = supervisor::find(dir)? {
        press(&client, bound, report);
        let until = Instant::now() + ENDING;
        while supervisor::find(dir)?.is_some() {
            if Instant::now() >= until {
                kill(dir)?;
            }
            std::thread::sleep(STEP);
        }
    }
    if keep_disks && Plan::load(dir)?.is_some() {
        return Ok(Down::Kept);
    }
    // In one step: half a cluster would be taken for a whole one by the next `up`.
    fs::rename(dir, &gone)?;
    fs::remove(&gone)?;
    Ok(Down::Removed)
}

/// Tells how the machines go off. A supervisor that does not answer is dealt with by the caller.
fn press(client: &Client, bound: Duration, report: &dyn Report) {
    // Watched before the buttons are pressed, so that no machine goes off unseen.
    let mut watch = client.watch().into_iter().flatten().map_while(Result::ok).peekable();
    let _ = watch.peek();
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| client.down(bound));
        let mut told: BTreeMap<String, State> = BTreeMap::new();
        let mut after = 0;
        for status in watch {
            for machine in &status.machines {
                let name = &machine.seat.name;
                let before = told.insert(name.clone(), machine.state);
                if before.is_some_and(|before| before != machine.state) && machine.state == State::Off {
                    report.event(Event::Note { text: format!("{name:<12} off") });
                }
            }
            // The supervisor ends soon after its answer; one that does not is not watched for ever.
            after += u8::from(ending.is_finished());
            if after > 3 {
                break;
            }
        }
        if let Ok(Err(error)) = ending.join() {
            report.event(Event::Warning { text: format!("the supervisor is ended by force: {error:#}") });
        }
    });
}

/// Ends a supervisor that does not do so by itself. Its machines die with it.
fn kill(dir: &Path) -> Result<()> {
    let path = dir.join(supervisor::PID);
    let pid: i32 =
        fs::read_text(&path)?.trim().parse().blame(Kind::Environment, || format!("reading {}", path.display()))?;
    // The number may belong to another program by now.
    let ours = std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|words| words.split(|c| *c == 0).any(|word| word == b"supervise"));
    let pid = rustix::process::Pid::from_raw(pid).filter(|_| ours);
    let gone = || {
        Fault::new(
            Kind::Environment,
            format!("a supervisor holds {}, but {} does not name it", dir.display(), path.display()),
        )
    };
    rustix::process::kill_process(pid.ok_or_else(gone)?, rustix::process::Signal::KILL)
        .blame(Kind::Environment, || "ending the supervisor".to_owned())
}

/// What a cluster looks like; none when there is none.
///
/// # Errors
/// [`Kind::Environment`] when the supervisor does not answer or a file cannot be read.
pub fn status(dir: &Path) -> Result<Option<Status>> {
    let until = Instant::now() + DYING;
    while let Some(client) = supervisor::find(dir)? {
        let answer = client.status();
        if answer.is_ok() || Instant::now() > until {
            return answer.map(Some);
        }
        std::thread::sleep(STEP / 10);
    }
    Ok(Plan::load(dir)?.as_ref().map(Status::off))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Silent;

    #[test]
    fn a_supervisor_that_dies_while_it_is_asked_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let lock = fs::open_lock(&dir.path().join(supervisor::LOCK)).unwrap();
        lock.lock().unwrap();
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join(crate::cluster::control::SOCKET)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // It takes the question and is gone; the kernel gives up the lock after the socket.
                drop(socket.accept().unwrap());
                drop(socket);
                drop(lock);
            });
            assert_eq!(status(dir.path()).unwrap(), None);
        });
    }

    #[test]
    fn a_removal_that_was_cut_off_leaves_no_cluster_and_is_finished_by_the_next_verb() {
        let out = tempfile::tempdir().unwrap();
        let dir = out.path().join("cluster");
        let gone = out.path().join(".cluster.gone");
        let down = || down(&dir, false, Duration::ZERO, &Silent).unwrap();
        assert_eq!(down(), Down::Nothing);
        assert!(!out.path().join(".cluster.lock").exists(), "nothing is made where nothing is");
        fs::make_dir(&gone.join("machines/worker-1")).unwrap();
        assert_eq!(status(&dir).unwrap(), None);
        assert_eq!(down(), Down::Nothing);
        assert!(!gone.exists());
        fs::make_dir(&gone.join("machines")).unwrap();
        fs::make_dir(&dir.join("machines")).unwrap();
        assert_eq!(down(), Down::Removed);
        assert!(!gone.exists() && !dir.exists());
    }
}
