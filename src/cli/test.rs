//! `nodelith test`.

use super::Global;
use super::output::Printer;
use crate::error::{Fault, Kind, Result};
use crate::pipeline;
use crate::spec;
use crate::sys;
use crate::trial::{self, Options};
use serde_json::json;
use std::path::PathBuf;

/// Boot claims on what was built, in QEMU machines on a network of their own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A claim is a file of vm-tests/; docs/testing.md shows how to write one. The exit code is 8 when a claim does not hold.

Examples:
  nodelith test --list
  nodelith test boot/clean verity
  nodelith test join --report out/report")]
pub(super) struct Args {
    /// Only these claims, or those of these areas.
    claims: Vec<String>,
    /// List the claims and boot nothing.
    #[arg(long)]
    list: bool,
    /// Where the report goes: verdict.json, junit.xml, and the console of each machine.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
    /// Folder of the claims.
    #[arg(long, default_value = "vm-tests", value_name = "DIR")]
    vm_tests: PathBuf,
    /// A locked spec: its lock pins QEMU.
    #[arg(long, default_value = "image-specs/worker.toml", value_name = "SPEC")]
    spec: PathBuf,
    /// The seed of the network's faults.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Capture each claim's network beside its consoles.
    #[arg(long)]
    capture: bool,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let claims = trial::select(trial::load(&args.vm_tests)?, &args.claims)?;
    if args.list {
        let width = claims.iter().map(|claim| claim.name.len()).max().unwrap_or(0);
        let lines = claims.iter().map(|claim| format!("{:<width$} {}\n", claim.name, claim.about)).collect::<String>();
        let values: Vec<_> = claims.iter().map(|claim| json!({"claim": claim.name, "about": claim.about})).collect();
        return printer.result(&lines, &values.into());
    }
    let locked = pipeline::bind(spec::load(&args.spec, &global.overlays)?)?;
    let context = global.context(printer)?;
    let dir = args.report.clone().unwrap_or_else(|| args.out.join("report"));
    sys::fs::make_dir(&dir)?;
    let options = Options { dir: dir.clone(), seed: args.seed, capture: args.capture };
    let setup = pipeline::Setup { locked: &locked, out: &args.out, options };
    let verdict = pipeline::test(&claims, &setup, &context)?;
    let shown = printer.result(&verdict.headline(), &serde_json::to_value(&verdict)?);
    // A failed claim stays one when nobody reads the result to its end.
    if verdict.passed() {
        return shown;
    }
    let fault = Fault::new(Kind::Verdict, "not every claim holds");
    Err(fault.hint(format!("the consoles and the verdict are in {}", dir.display())).into())
}
