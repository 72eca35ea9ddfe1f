//! What a new lock changes, for people.

use crate::lock::{Lock, Package};
use crate::spec::requests::Use;
use std::collections::BTreeMap;
use std::fmt;

/// One difference between two locks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A package or binary that was not there.
    Added {
        /// Package name, or `role/name` of a binary.
        name: String,
        /// Debian version, or what a binary was made from.
        version: String,
        /// For which use; empty for a binary.
        usage: String,
    },
    /// A package or binary that is not needed any more.
    Removed {
        /// As in `Added`.
        name: String,
        /// As in `Added`.
        version: String,
        /// As in `Added`.
        usage: String,
    },
    /// Another version.
    Moved {
        /// As in `Added`.
        name: String,
        /// The version before.
        from: String,
        /// The version now.
        to: String,
        /// As in `Added`.
        usage: String,
        /// The archive does not hold the old version any more: nobody asked for the move.
        vanished: bool,
    },
    /// Same version, other bytes: the suite, the recipe or the toolchain changed. Or nothing but what the spec asks.
    Other {
        /// As in `Added`; `requests` for what the spec asks.
        name: String,
        /// What changed.
        what: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |usage: &str| if usage.is_empty() { String::new() } else { format!("  ({usage})") };
        match self {
            Self::Added { name, version, usage } => write!(f, "+ {name} {version}{}", place(usage)),
            Self::Removed { name, version, usage } => write!(f, "- {name} {version}{}", place(usage)),
            Self::Moved { name, from, to, usage, vanished } => {
                let why = if *vanished { ", the archive dropped the old version" } else { "" };
                write!(f, "~ {name} {from} → {to}{}{why}", place(usage))
            }
            Self::Other { name, what } => write!(f, "~ {name}: {what}"),
        }
    }
}

/// The differences from `old` to `new`, by use, then name. `exists` says whether the archive holds a name and version.
pub(super) fn between(old: Option<&Lock>, new: &Lock, exists: &dyn Fn(&str, &str) -> bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for usage in Use::ALL {
        let before = old.map(|old| of_use(old, usage)).unwrap_or_default();
        let after = of_use(new, usage);
        let usage = usage.word().to_owned();
        for (name, package) in &after {
            let name = (*name).to_owned();
            let version = package.version.clone();
            match before.get(name.as_str()) {
                None => changes.push(Change::Added { name, version, usage: usage.clone() }),
                Some(old) if old.version != version => {
                    let vanished = !exists(&name, &old.version);
                    let (from, to) = (old.version.clone(), version);
                    changes.push(Change::Moved { name, from, to, usage: usage.clone(), vanished });
                }
                Some(old) if old.sha256 != package.sha256 || old.suite != package.suite => {
                    let what = format!("now from {}, sha256 {}", package.suite, package.sha256.short());
                    changes.push(Change::Other { name, what });
                }
                Some(_) => {}
            }
        }
        for (name, package) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            let (name, version) = ((*name).to_owned(), package.version.clone());
            changes.push(Change::Removed { name, version, usage: usage.clone() });
        }
    }
    changes.extend(binaries(old, new));
    changes
}

fn of_use(lock: &Lock, usage: Use) -> BTreeMap<&str, &Package> {
    let packages = lock.packages.iter().filter(|package| package.uses.contains(&usage));
    packages.map(|package| (package.name.as_str(), package)).collect()
}

fn binaries(old: Option<&Lock>, new: &Lock) -> Vec<Change> {
    let mut changes = Vec::new();
    let before = old.map(|old| old.binaries.as_slice()).unwrap_or_default();
    for binary in &new.binaries {
        let (name, version) = (binary.id.clone(), binary.from.clone());
        match before.iter().find(|old| old.id == binary.id) {
            None => changes.push(Change::Added { name, version, usage: String::new() }),
            Some(old) if old.from != binary.from => {
                let (from, usage) = (old.from.clone(), String::new());
                changes.push(Change::Moved { name, from, to: version, usage, vanished: false });
            }
            Some(old) if old.sha256 != binary.sha256 => {
                changes.push(Change::Other { name, what: format!("rebuilt, sha256 {}", binary.sha256.short()) });
            }
            Some(old) if old.recipe != binary.recipe => {
                changes.push(Change::Other { name, what: "another recipe, the same bytes".into() });
            }
            Some(_) => {}
        }
    }
    for old in before.iter().filter(|old| !new.binaries.iter().any(|new| new.id == old.id)) {
        let (name, version) = (old.id.clone(), old.from.clone());
        changes.push(Change::Removed { name, version, usage: String::new() });
    }
    changes
}
