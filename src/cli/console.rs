//! `nodelith console`.

use super::output::Printer;
use crate::cluster::{self, Plan, State};
use crate::error::{Blame, Fault, Kind, Result};
use crate::lab::interrupt;
use crate::sys;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a followed console is read again, and after how many reads it is asked whether the machine is still on.
const STEP: Duration = Duration::from_millis(200);
const ASK: u32 = 10;

/// Show what a machine of the live cluster says on its serial console, with the seconds since its power-on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith console worker-1
  nodelith console worker-1 --follow
  nodelith console worker-1 --previous      the boot before this one")]
pub(super) struct Args {
    /// The machine.
    name: String,
    /// Go on until the machine is off, or Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// The console of the boot before.
    #[arg(long, conflicts_with = "follow")]
    previous: bool,
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<()> {
    let dir = args.out.join("cluster");
    let plan = plan(&dir)?;
    let name = &plan.seat(&args.name)?.name;
    let file = dir.join(format!("{name}{}.console", if args.previous { ".previous" } else { "" }));
    if !file.is_file() {
        return Err(
            Fault::new(Kind::Usage, format!("{name} has not said anything: {} is missing", file.display())).into()
        );
    }
    if !args.follow {
        let bytes = sys::fs::read(&file)?;
        return printer.raw(&String::from_utf8_lossy(&bytes));
    }
    interrupt::watch();
    let mut followed = Followed { open: sys::fs::open(&file)?, file, rest: Vec::new() };
    let mut turn = 0;
    loop {
        let over = turn % ASK == ASK - 1 && !is_on(&dir, name)?;
        let news = followed.news(over)?;
        if !news.is_empty() {
            printer.raw(&news)?;
        }
        if over || interrupt::raised() {
            return Ok(());
        }
        turn += 1;
        std::thread::sleep(STEP);
    }
}

/// A console's file that grows, until a reboot renames it and another one begins in its place.
struct Followed {
    file: PathBuf,
    open: File,
    rest: Vec<u8>,
}

impl Followed {
    /// What came since, in whole lines so that no character is cut in two; with `over` to the last byte.
    fn news(&mut self, over: bool) -> Result<String> {
        // Opened before the old one is read to its end: whatever that still gets is in it by now.
        let next = if sys::fs::names(&self.file, &self.open)? { None } else { File::open(&self.file).ok() };
        let doing = || format!("reading {}", self.file.display());
        self.open.read_to_end(&mut self.rest).blame(Kind::Environment, doing)?;
        let line = || self.rest.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
        let whole = if over || next.is_some() { self.rest.len() } else { line() };
        let mut news = String::from_utf8_lossy(&self.rest.drain(..whole).collect::<Vec<_>>()).into_owned();
        if let Some(next) = next {
            self.open = next;
            news += &self.news(over)?;
        }
        Ok(news)
    }
}

/// The plan of the cluster in a directory.
pub(super) fn plan(dir: &Path) -> Result<Plan> {
    let none =
        || Fault::new(Kind::Usage, format!("there is no cluster in {}", dir.display())).hint("run `nodelith up`");
    Plan::load(dir)?.ok_or_else(|| none().into())
}

fn is_on(dir: &Path, name: &str) -> Result<bool> {
    let status = cluster::status(dir)?;
    let machine = status.iter().flat_map(|status| &status.machines).find(|machine| machine.seat.name == name);
    Ok(machine.is_some_and(|machine| matches!(machine.state, State::On | State::Stopping)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_reboot_is_followed_into_its_own_console() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("worker-1.console");
        let mut first = sys::fs::create(&file).unwrap();
        let mut followed = Followed { open: sys::fs::open(&file).unwrap(), file: file.clone(), rest: Vec::new() };
        first.write_all("one\nt\u{e4}".as_bytes()).unwrap();
        assert_eq!(followed.news(false).unwrap(), "one\n");
        sys::fs::rename(&file, &dir.path().join("worker-1.previous.console")).unwrap();
        first.write_all(b"glich").unwrap();
        assert_eq!(followed.news(false).unwrap(), "", "the next one is not there yet");
        let mut second = sys::fs::create(&file).unwrap();
        second.write_all(b"again\nlogin:").unwrap();
        assert_eq!(followed.news(false).unwrap(), "t\u{e4}glichagain\n");
        assert_eq!(followed.news(true).unwrap(), "login:");
    }
}
