//! The pinned inputs of an image: every package, tool and binary by digest. No mirror and no path of the host is in it.
//!
//! The text is canonical: equal locks are equal bytes, one package a paragraph, sorted, so that a change reads well in
//! a diff. [`Lock::bind`] is the only way to a [`Locked`], which is what `fetch` and `build` take.

use crate::digest::Sha256;
use crate::error::{Fault, Kind, Result};
use crate::spec::Spec;
use crate::spec::requests::{Requests, Use};
use serde::{Deserialize, Serialize};

/// The version of the lock format that this program reads and writes.
pub const VERSION: u32 = 1;

/// What to do about a lock that cannot be read. `nodelith lock` reads it first as well: if it made another without a word,
/// nothing would hold the archive to its date.
const UNREADABLE: &str = "take it from version control again; if that has none, remove it and run `nodelith lock`, which \
                          then chooses every version anew and does not know how old the archive may be";

/// A lock file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// [`Requests::digest`] of the spec that this lock answers.
    pub requests: Sha256,
    /// The signed archive releases that packages were chosen from, sorted by suite.
    #[serde(rename = "release", default)]
    pub releases: Vec<Release>,
    /// Sorted by name, then version.
    #[serde(rename = "package", default)]
    pub packages: Vec<Package>,
    /// Sorted by id.
    #[serde(rename = "binary", default)]
    pub binaries: Vec<Binary>,
}

/// A signed release of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Such as `trixie-security`.
    pub suite: String,
    /// The Release file's own `Date`, as written there. A lock never goes back behind it.
    pub date: String,
    /// Of the InRelease file.
    pub sha256: Sha256,
    /// Fingerprints of the certificates whose signatures were good, sorted.
    pub signed_by: Vec<String>,
}

/// A Debian binary package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The suite that it was chosen from; decides the archive that `path` is in.
    pub suite: String,
    /// Relative to the archive's root: `pool/main/…`.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of the `.deb`.
    pub sha256: Sha256,
    /// What it is for, sorted.
    pub uses: Vec<Use>,
}

/// A program that does not come from Debian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// `role/name`.
    pub id: String,
    /// What it was made from, for people: `github.com/flannel-io/flannel@v0.28.9`, or a URL.
    pub from: String,
    /// [`crate::spec::requests::BinaryRequest::recipe`].
    pub recipe: Sha256,
    /// In bytes.
    pub size: u64,
    /// Of the program itself.
    pub sha256: Sha256,
}

/// A lock that satisfies its spec. Only [`Lock::bind`] makes one.
#[derive(Debug, Clone)]
pub struct Locked {
    spec: Spec,
    lock: Lock,
    containers: Vec<Self>,
}

impl Locked {
    /// The spec.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The lock.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The same, with the containers that it preloads, which have locks of their own.
    #[must_use]
    pub fn with_containers(self, containers: Vec<Self>) -> Self {
        Self { containers, ..self }
    }

    /// The containers that it preloads.
    #[must_use]
    pub fn containers(&self) -> &[Self] {
        &self.containers
    }

    /// The packages of one use, sorted by name.
    pub fn packages(&self, usage: Use) -> impl Iterator<Item = &Package> {
        self.lock.packages.iter().filter(move |package| package.uses.contains(&usage))
    }
}

impl Lock {
    /// Reads a lock file's text. `path` is for messages.
    ///
    /// # Errors
    /// [`Kind::Spec`], with file, line and column.
    pub fn parse(path: &std::path::Path, text: &str) -> Result<Self> {
        let lock: Self = toml::from_str(text).map_err(|error| {
            let source = crate::spec::Source { path, text };
            crate::spec::refuse(source, error.span(), error.message(), Some(UNREADABLE))
        })?;
        if lock.version != VERSION {
            let message =
                format!("{} has lock version {}, this nodelith reads {VERSION}", path.display(), lock.version);
            return Err(Fault::new(Kind::Spec, message).hint("use the nodelith that wrote it").hint(UNREADABLE).into());
        }
        Ok(lock)
    }

    /// The canonical text.
    ///
    /// # Errors
    /// Never in practice: every field is representable.
    pub fn to_text(&self) -> Result<String> {
        let mut sorted = self.clone();
        sorted.releases.sort_by(|a, b| a.suite.cmp(&b.suite));
        sorted.packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        sorted.packages.iter_mut().for_each(|package| package.uses.sort());
        sorted.binaries.sort_by(|a, b| a.id.cmp(&b.id));
        let head = "# Made by `nodelith lock`. Commit it; change the spec, not this file.\n";
        Ok(format!("{head}{}", toml::to_string(&sorted)?))
    }

    /// Proves that this lock answers a spec.
    ///
    /// # Errors
    /// [`Kind::Spec`] when the spec asks for something else than the lock was made for.
    pub fn bind(self, spec: Spec) -> Result<Locked> {
        let asked = Requests::of(&spec)?.digest();
        if asked != self.requests {
            let message = format!("{} does not satisfy {}", spec.lock_path().display(), spec.path.display());
            let hint = format!("run `nodelith lock {}` and review what changed", spec.path.display());
            return Err(Fault::new(Kind::Spec, message).hint(hint).into());
        }
        Ok(Locked { spec, lock: self, containers: Vec::new() })
    }
}
