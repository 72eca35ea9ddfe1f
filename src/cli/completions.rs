//! `nodelith completions`.

use super::output::{self, Printer};
use crate::error::Result;
use clap::CommandFactory as _;

/// Print a shell's completion script.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  nodelith completions bash > ~/.local/share/bash-completion/completions/nodelith")]
pub(super) struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args, _: &Printer) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "nodelith", &mut script);
    output::write(&script)
}
