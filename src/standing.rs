//! Whether an image that stands in `out/` is what its inputs would make now: then nothing is to be built.
//!
//! Beside `out/<image>/` a file `.<image>.state` remembers the digest of all inputs, the digest of each output, and what
//! the file system said of it when it was written ([`Stamp`]). Outputs of hundreds of MiB are read only when the stamps
//! prove nothing: copied, touched, or written in the same tick of a coarse clock as the state. What then differs from its
//! digest, as whatever is missing, means: build.

use crate::digest::{Hashing, Sha256};
use crate::error::{Blame, Kind, Result};
use crate::lock::Locked;
use crate::manifest::{self, Manifest, Output};
use crate::store::hash_file;
use crate::sys::fs::{self, FileKind, Stamp};
use crate::sys::slot::Slot;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

/// The version of the state's format.
const FORMAT: u32 = 2;

/// What stands in `out/<image>/`: the manifest's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// A machine's dm-verity root hash, in hexadecimal.
    pub root_hash: Option<String>,
    /// A container's reference.
    pub reference: Option<String>,
    /// Of a container's OCI manifest.
    pub digest: Option<Sha256>,
    /// The image's files, but for the manifest.
    pub outputs: Vec<Output>,
}

/// All that decides an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Of what the inputs are; `None` when that cannot be told, which is then equal to nothing.
    digest: Option<Sha256>,
    /// Of when their files were changed: equal before and after a build, they were what they are all the while.
    changes: Sha256,
}

impl Inputs {
    /// This program, the lock, the spec and the roles as they were read, and each role's files as they are now.
    ///
    /// # Errors
    /// [`Kind::Environment`] when one of them cannot be read.
    pub fn of(locked: &Locked) -> Result<Self> {
        let mut facts = Facts { what: Hashing::new(io::sink()), when: Hashing::new(io::sink()) };
        facts.say("nodelith", env!("CARGO_PKG_VERSION").as_bytes())?;
        // While nodelith itself is worked on, its version does not change with what it does.
        let program = fs::program_stamp();
        facts.say("program", format!("{program:?}").as_bytes())?;
        facts.locked(locked)?;
        let Facts { what, when } = facts;
        Ok(Self { digest: program.map(|_| what.finish().1), changes: when.finish().1 })
    }
}

struct Facts {
    what: Hashing<io::Sink>,
    when: Hashing<io::Sink>,
}

impl Facts {
    /// A spec with its lock and roles, and the containers that it preloads.
    fn locked(&mut self, locked: &Locked) -> Result<()> {
        self.say("lock", locked.lock().to_text()?.as_bytes())?;
        // Not the files that it was read from: they may have changed since.
        self.say("spec", format!("{:?}", locked.spec()).as_bytes())?;
        for role in &locked.spec().roles {
            self.say("role", role.name.as_str().as_bytes())?;
            self.folder(&role.dir)?;
        }
        locked.containers().iter().try_for_each(|container| self.locked(container))
    }

    /// Every path below a directory, with what it is and holds.
    fn folder(&mut self, dir: &Path) -> Result<()> {
        for path in fs::list(dir)? {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            write!(self.when, "{:?}", fs::stamp(&path)?).blame(Kind::Internal, || "naming a build's inputs".into())?;
            match fs::kind(&path)? {
                FileKind::Directory => {
                    self.say("directory", name)?;
                    self.folder(&path)?;
                    self.say("end", b"")?;
                }
                FileKind::File { executable } => {
                    self.say(if executable { "program" } else { "file" }, name)?;
                    self.say("holds", &fs::read(&path)?)?;
                }
                FileKind::Symlink(target) => {
                    self.say("link", name)?;
                    self.say("to", target.as_bytes())?;
                }
                FileKind::Other => self.say("other", name)?,
            }
        }
        Ok(())
    }

    /// One fact, its length before it, so that no two lists of facts have the same bytes.
    fn say(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        let doing = || "naming a build's inputs".to_owned();
        writeln!(self.what, "{what} {}", bytes.len())
            .and_then(|()| self.what.write_all(bytes))
            .blame(Kind::Internal, doing)
    }
}

/// What is remembered of a build.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    format: u32,
    inputs: Option<Sha256>,
    /// Of the inputs' files before the build.
    #[serde(skip)]
    changes: Option<Sha256>,
    made: Made,
    manifest: Sha256,
    stamps: BTreeMap<String, Stamp>,
}

impl State {
    /// The state of a directory that was just filled and that nobody else has seen. `text` is the manifest's.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the directory cannot be read.
    pub fn of(dir: &Path, inputs: &Inputs, manifest: &Manifest, text: &str) -> Result<Self> {
        let made = Made {
            root_hash: manifest.root_hash.clone(),
            reference: manifest.reference.clone(),
            digest: manifest.digest,
            outputs: manifest.outputs.clone(),
        };
        Ok(Self {
            format: FORMAT,
            inputs: inputs.digest,
            changes: Some(inputs.changes),
            made,
            manifest: Sha256::of(text.as_bytes()),
            stamps: stamps(dir)?,
        })
    }

    /// Whether the files still have their digests, and nobody changed their modes or put others beside them.
    fn holds(&self, dir: &Path, now: &BTreeMap<String, Stamp>) -> bool {
        let names = || self.made.outputs.iter().map(|output| output.file.as_str()).chain([manifest::FILE]);
        let same = |name: &str| match (now.get(name), self.stamps.get(name)) {
            (Some(now), Some(then)) => (now.mode, now.size) == (then.mode, then.size),
            _ => false,
        };
        let whole = |name: &str, digest: Sha256| hash_file(&dir.join(name)).is_ok_and(|(found, _)| found == digest);
        now.len() == names().count()
            && names().all(same)
            && whole(manifest::FILE, self.manifest)
            && self.made.outputs.iter().all(|output| whole(&output.file, output.sha256))
    }
}

/// Remembers what a slot was filled with, unless the inputs were changed meanwhile: then nobody can say what it was made
/// of. `now` are the inputs after the build.
///
/// # Errors
/// [`Kind::Environment`], naming the path.
pub fn remember(slot: &Slot<'_>, state: State, now: &Inputs) -> Result<Made> {
    if state.inputs.is_some() && state.inputs == now.digest && state.changes == Some(now.changes) {
        write(slot, &state)?;
    }
    Ok(state.made)
}

fn write(slot: &Slot<'_>, state: &State) -> Result<()> {
    fs::write_atomic(&slot.beside("state"), serde_json::to_string_pretty(state)?.as_bytes())
}

/// What stands in the slot, if it was made of these inputs and is whole.
#[must_use]
pub fn find(slot: &Slot<'_>, inputs: &Inputs) -> Option<Made> {
    let path = slot.beside("state");
    let written = fs::stamp(&path).ok()?.changed;
    let mut state: State = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    if state.format != FORMAT || state.inputs.is_none() || state.inputs != inputs.digest {
        return None;
    }
    let now = stamps(&slot.dir()).ok()?;
    // What was changed in the clock's tick in which the state was written may have been changed once more in it.
    let settled = |stamp: &Stamp| stamp.changed.max(stamp.inode_changed) < written;
    if now != state.stamps || !now.values().all(settled) {
        if !state.holds(&slot.dir(), &now) {
            return None;
        }
        // Looked at before the files were read: a change since then shows the next time.
        state.stamps = now;
        // A directory that cannot be written is looked at this way every time.
        let _ = write(slot, &state);
    }
    Some(state.made)
}

fn stamps(dir: &Path) -> Result<BTreeMap<String, Stamp>> {
    let named = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, fs::stamp(&path)?))
    };
    fs::list(dir)?.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests;
