//! Whose fault it is and what to do next: every failure a user can meet is a [`Fault`] with a [`Kind`].
//!
//! Stages return `anyhow::Result`; a `Fault` anywhere in the chain decides the exit code and the hint. An error
//! without one is a bug of ours ([`Kind::Internal`]) and says so.

use std::fmt;

/// The result that every stage returns.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// Whose fault a failure is. The number is the process's exit code; the README's table is tested against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The command line is wrong.
    Usage,
    /// A spec, role, claim or lock file is wrong or does not fit the others.
    Spec,
    /// The host lacks something: disk space, a permission, a running QEMU.
    Environment,
    /// A server could not be reached or broke off.
    Network,
    /// Bytes differ from what was promised: signature, digest, length, freshness.
    Integrity,
    /// The inputs are sound but no image could be made of them.
    Build,
    /// The image was built, and a claim about it failed.
    Verdict,
    /// Publishing failed.
    Publish,
    /// Replacing nodes failed.
    Replace,
    /// A bug of nodelith.
    Internal,
}

impl Kind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: [Self; 10] = [
        Self::Usage,
        Self::Spec,
        Self::Environment,
        Self::Network,
        Self::Integrity,
        Self::Build,
        Self::Verdict,
        Self::Publish,
        Self::Replace,
        Self::Internal,
    ];

    /// The process's exit code. Part of the interface: never renumber.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Spec => 3,
            Self::Environment => 4,
            Self::Network => 5,
            Self::Integrity => 6,
            Self::Build => 7,
            Self::Verdict => 8,
            Self::Publish => 9,
            Self::Replace => 10,
            Self::Internal => 70,
        }
    }

    /// The word used in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Spec => "spec",
            Self::Environment => "environment",
            Self::Network => "network",
            Self::Integrity => "integrity",
            Self::Build => "build",
            Self::Verdict => "verdict",
            Self::Publish => "publish",
            Self::Replace => "replace",
            Self::Internal => "internal",
        }
    }
}

/// A failure that knows whose fault it is and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence, lower case, without a full stop: what went wrong. May span lines when it shows source text.
    pub message: String,
    /// What the user can do next, each an imperative sentence.
    pub hints: Vec<String>,
}

impl Fault {
    /// A fault without hints yet.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The fault that decides an error's exit code and hints: the outermost one in the chain, if any.
#[must_use]
pub fn fault_of(error: &anyhow::Error) -> Option<&Fault> {
    error.downcast_ref::<Fault>()
}

/// The kind that decides the exit code; anything unlabelled is ours.
#[must_use]
pub fn kind_of(error: &anyhow::Error) -> Kind {
    fault_of(error).map_or(Kind::Internal, |fault| fault.kind)
}

/// Labels foreign errors while they travel up.
pub trait Blame<T> {
    /// Wraps an error in a fault of this kind whose message says what was being done.
    ///
    /// # Errors
    /// Returns the labelled error when `self` is one.
    fn blame(self, kind: Kind, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Blame<T> for Result<T, E> {
    fn blame(self, kind: Kind, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().context(Fault::new(kind, doing())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_fault_decides_and_unlabelled_is_internal() {
        let io = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(io).blame(Kind::Environment, || "writing out".into()).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Environment);
        let outer = error.context("building worker");
        assert_eq!(kind_of(&outer), Kind::Environment);
        assert_eq!(format!("{outer:#}"), "building worker: writing out: disk on fire");
        assert_eq!(kind_of(&anyhow::anyhow!("oops")), Kind::Internal);
    }

    #[test]
    fn exit_codes_are_distinct() {
        let codes: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
    }
}
