//! `nodelith supervise`: what `up` leaves running. Not for people.

use super::output::Printer;
use crate::cluster;
use crate::error::Result;
use std::path::PathBuf;

/// Keep the machines of a cluster until it is taken down.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The cluster's directory.
    dir: PathBuf,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<()> {
    cluster::supervise(&args.dir, &mut std::io::stdout(), printer)
}
