//! `nodelith down`.

use super::output::Printer;
use crate::cluster::{self, Down};
use crate::error::Result;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Take the cluster down: press every power button, wait, cut what is still on, and remove its files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nodelith down
  nodelith down --keep-disks      `nodelith up` then brings the same nodes back")]
pub(super) struct Args {
    /// Keep disks, keys and addresses: the next `up` brings the same nodes back.
    #[arg(long)]
    keep_disks: bool,
    /// How many seconds the machines may take to power off by themselves.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    within: u64,
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<()> {
    let dir = args.out.join("cluster");
    let how = cluster::down(&dir, args.keep_disks, Duration::from_secs(args.within), printer)?;
    let (word, text) = match how {
        Down::Nothing => ("nothing", format!("there is no cluster in {}", dir.display())),
        Down::Kept => ("kept", format!("the cluster is off; its disks are kept in {}", dir.display())),
        Down::Removed => ("removed", format!("the cluster is off, and {} is removed", dir.display())),
    };
    printer.result(&text, &json!({ "cluster": word, "directory": dir }))
}
