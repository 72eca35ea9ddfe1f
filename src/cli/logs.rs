//! `nodelith logs`.

use super::console::plan;
use super::output::Printer;
use crate::cluster::Client;
use crate::error::{Fault, Kind, Result};
use std::path::PathBuf;
use std::time::Duration;

/// How long a translated machine may take to read its journal.
const BOUND: Duration = Duration::from_secs(120);

/// Show the journal of a machine of the live cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith logs worker-1
  nodelith logs worker-1 flanneld.service
  nodelith logs controller etcd.service --lines 50")]
pub(super) struct Args {
    /// The machine.
    name: String,
    /// Only this unit's.
    #[arg(value_parser = unit)]
    unit: Option<String>,
    /// How many of the last lines.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000)]
    lines: u32,
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

/// A unit's name or pattern (systemd.unit(5)); nothing that a shell would read otherwise.
fn unit(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.@\\*".contains(c));
    if good { Ok(text.to_owned()) } else { Err("a unit's name has letters, digits and `:-_.@\\*`".to_owned()) }
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<()> {
    let dir = args.out.join("cluster");
    let name = &plan(&dir)?.seat(&args.name)?.name.clone();
    let only = args.unit.as_ref().map(|unit| format!(" --unit='{unit}'")).unwrap_or_default();
    let script = format!("journalctl --boot --no-pager --quiet --lines={}{only}", args.lines);
    let answer = Client::new(&dir).run(name, &script, BOUND).map_err(|error| {
        let fault = Fault::new(Kind::Environment, format!("{name} cannot be asked for its journal"));
        error.context(
            fault.hint(format!("`nodelith status` tells what it does, `nodelith console {name}` what it said")),
        )
    })?;
    let shown = printer.raw(&answer.stdout);
    if answer.code != 0 {
        return Err(Fault::new(Kind::Verdict, format!("journalctl failed on {name}: {}", answer.stderr.trim())).into());
    }
    shown
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_unit_cannot_add_a_command() {
        assert!(super::unit("nodelith-certificate@flannel.service").is_ok());
        for bad in ["", "a'; reboot; '", "a b", "a$b", "a\nb"] {
            assert!(super::unit(bad).is_err(), "{bad:?}");
        }
    }
}
