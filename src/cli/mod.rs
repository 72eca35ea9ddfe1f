//! The command line: one file per verb. Only this module prints, and only here errors become exit codes.

mod build;
mod cache;
mod completions;
mod console;
mod down;
mod inspect;
mod kubectl;
mod lock;
mod logs;
mod output;
mod size;
mod status;
mod supervise;
mod test;
mod token;
mod up;
mod verify;

use crate::error::{Kind, Result};
use crate::pipeline::Context;
use crate::remote::{Mirrors, Remote, Settings};
use crate::store::Store;
use clap::{Parser, Subcommand};
use output::{Output, Printer};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Builds immutable Kubernetes node images, boots them and proves what they claim.
#[derive(Debug, Parser)]
#[command(name = "nodelith", version, max_term_width = 100, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  nodelith build image-specs/worker.toml     the image that worker.lock pins, in out/worker/
  nodelith test join                         boots the claims of the area `join`
  nodelith up --workers 2                    a live cluster of what was built, on this machine
  nodelith lock image-specs/worker.toml      pins anew, and prints what changed

Exit codes: 0 done, 2 usage, 3 spec, 4 environment, 5 network, 6 integrity, 7 build, 8 verdict, 70 our bug.";

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// How to report: bars and lines for people, or one JSON object a line.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    output: Output,
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Where verified inputs are kept [default: $XDG_CACHE_HOME/nodelith].
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Never use the network: fail when the store lacks something.
    #[arg(long, global = true)]
    offline: bool,
    /// The Debian mirror to ask first, instead of the host's own apt settings.
    #[arg(long, global = true, env = "NODELITH_MIRROR", value_name = "URL")]
    mirror: Option<String>,
    /// The same for Debian's security archive.
    #[arg(long, global = true, env = "NODELITH_SECURITY_MIRROR", value_name = "URL")]
    security_mirror: Option<String>,
    /// Folder of the roles.
    #[arg(long, global = true, default_value = "overlays", value_name = "DIR")]
    overlays: PathBuf,
}

impl Global {
    /// What the stages work with.
    fn context<'a>(&self, printer: &'a Printer) -> Result<Context<'a>> {
        let mirrors = Mirrors::choose(self.mirror.as_deref(), self.security_mirror.as_deref(), Path::new("/etc/apt"))?;
        let remote = Remote::new(Settings::new(mirrors, self.offline))?;
        Ok(Context { store: Store::open(&self.store_dir()?)?, remote, report: printer })
    }

    fn store_dir(&self) -> Result<PathBuf> {
        self.store.clone().map_or_else(crate::sys::fs::cache_dir, Ok)
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    Lock(lock::Args),
    Build(build::Args),
    Test(test::Args),
    Up(up::Args),
    Down(down::Args),
    Status(status::Args),
    Kubectl(kubectl::Args),
    Console(console::Args),
    Logs(logs::Args),
    Token(token::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Cache(cache::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

/// Parses, runs, renders; the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that went away (`nodelith --help | head`) is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Kind::Usage.exit_code()) } else { ExitCode::SUCCESS };
        }
    };
    let printer = Printer::new(cli.global.output, cli.global.quiet);
    match run(&cli, &printer) {
        Ok(code) => code,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => printer.failure(&error),
    }
}

fn run(cli: &Cli, printer: &Printer) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Lock(args) => lock::run(args, &cli.global, printer),
        Verb::Build(args) => build::run(args, &cli.global, printer),
        Verb::Test(args) => test::run(args, &cli.global, printer),
        Verb::Up(args) => up::run(args, &cli.global, printer),
        Verb::Down(args) => down::run(args, printer),
        Verb::Status(args) => status::run(args, printer),
        // A program's exit code is passed through.
        Verb::Kubectl(args) => return kubectl::run(args, &cli.global),
        Verb::Console(args) => console::run(args, printer),
        Verb::Logs(args) => logs::run(args, printer),
        Verb::Token(args) => token::run(args, printer),
        Verb::Verify(args) => verify::run(args, &cli.global, printer),
        Verb::Inspect(args) => inspect::run(args, &cli.global, printer),
        Verb::Cache(args) => cache::run(args, &cli.global, printer),
        Verb::Completions(args) => completions::run(args, printer),
        Verb::Supervise(args) => supervise::run(args, printer),
    }
    .map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_fits_80_columns() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        let mut pages = vec![command.render_help().to_string()];
        pages.extend(command.get_subcommands_mut().map(|verb| verb.render_help().to_string()));
        for line in pages.iter().flat_map(|page| page.lines()) {
            assert!(line.chars().count() <= 100, "over 100 columns: {line}");
        }
    }
}
