//! The only spawner of programs. A failure shows the command as it can be pasted, and what the program said.

use crate::error::{Blame, Fault, Kind, Result};
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// A command with an empty environment, nothing on standard input.
///
/// What a build runs must not depend on the host's variables, so each variable is passed on purpose.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// [`Kind::Environment`] when it cannot be started; `kind` when it fails, with the last 40 lines that it said.
pub fn output(command: &mut Command, kind: Kind) -> Result<Vec<u8>> {
    let pasteable = paste(command);
    let output = command.output().blame(Kind::Environment, || format!("starting `{pasteable}`"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(40)..].join("\n  | ");
    Err(Fault::new(kind, format!("`{pasteable}` failed ({})\n  | {tail}", output.status)).into())
}

/// The command as one line for a shell.
#[must_use]
pub fn paste(command: &Command) -> String {
    let quote = |text: &OsStr| {
        let text = text.to_string_lossy();
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c));
        if plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}
