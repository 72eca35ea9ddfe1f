//! Specs and roles: `raw` is what was typed, this module what is meant. Values only; nothing here reads the network.

mod container;
mod diagnose;
mod load;
mod raw;
pub mod reference;
mod relations;
pub mod requests;
mod role;
mod skew;
mod switches;
pub mod value;

pub use container::{Container, Port};
pub use diagnose::{Source, refuse};
pub use load::load;
pub use role::{
    Binary, BinarySource, Certificate, GoModule, Listener, PackageRequest, Relation, RelationKind, Role, SetAt, Value,
    ValueType, Variable,
};
pub use skew::{Skew, Version};
pub use switches::Switches;

use crate::text::Name;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A spec as meant: its roles read, its values checked and completed.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The image's name; also the file's stem.
    pub name: Name,
    /// What is made of it.
    pub kind: Kind,
    /// The file it was read from.
    pub path: PathBuf,
    /// Seconds since 1970: every time stamp in the image.
    pub epoch: u64,
    /// Debian suites that packages may come from, the most preferred last.
    pub suites: Vec<String>,
    /// Roles in order; a role stands after all that it needs.
    pub roles: Vec<Role>,
    /// Debian packages beyond the roles'.
    pub packages: Vec<PackageRequest>,
    /// Kernel command line words beyond ours; none for a container.
    pub cmdline: Vec<String>,
    /// The value of every variable that has one: role → variable → value. A boot variable's value is its default.
    pub values: BTreeMap<Name, BTreeMap<Name, Value>>,
}

/// What is made of a spec.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A disk that boots.
    Machine,
    /// An OCI archive.
    Container(Box<Container>),
}

impl Spec {
    /// The lock file's path: beside the spec, `.lock` instead of `.toml`.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    /// The containers that its roles preload, each once.
    pub fn preloads(&self) -> impl Iterator<Item = &Self> {
        self.roles.iter().flat_map(|role| &role.preload)
    }

    /// Every certificate of every role, by name.
    pub fn certificates(&self) -> impl Iterator<Item = (&Name, &Certificate)> {
        self.roles.iter().flat_map(|role| &role.certificates)
    }
}
