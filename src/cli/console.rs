//! `nodelith console`.

use super::output::Printer;
use crate::cluster::{self, Plan, State};
use crate::error::{Blame, Fault, Kind, Result};
use crate::lab::interrupt;
use crate::sys;
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
    let mut open = sys::fs::open(&file)?;
    let mut rest = Vec::new();
    let mut turn = 0;
    loop {
        let over = turn % ASK == ASK - 1 && !is_on(&dir, name)?;
        open.read_to_end(&mut rest).blame(Kind::Environment, || format!("reading {}", file.display()))?;
        // Whole lines only, so that no character is cut in two.
        let whole = if over { rest.len() } else { rest.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1) };
        if whole > 0 {
            printer.raw(&String::from_utf8_lossy(&rest.drain(..whole).collect::<Vec<_>>()))?;
        }
        if over || interrupt::raised() {
            return Ok(());
        }
        turn += 1;
        std::thread::sleep(STEP);
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
