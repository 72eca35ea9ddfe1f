//! Locked → fetched: every object of a lock in the store and checked. Nothing is chosen here; what the lock does not
//! name is not fetched, and what does not match it is not used.

use crate::digest::Sha256;
use crate::error::{Fault, Kind, Result, kind_of};
use crate::lock::{Binary, Locked, Package};
use crate::remote::{Remote, in_parallel};
use crate::report::{Event, Report, Stage};
use crate::resolve::golang::{Program, Toolchain};
use crate::resolve::{source, toolchain_packages};
use crate::spec::BinarySource;
use crate::spec::requests::Use;
use crate::store::{Check, Store, UnpackedPackage};
use crate::tree::Content;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The uses whose packages become parts of the image.
const UNPACKED: [Use; 3] = [Use::Image, Use::Initrd, Use::Stub];

/// Everything that a build reads, on disk and checked. Only [`with_inputs`] makes one.
#[derive(Debug)]
pub struct Fetched {
    locked: Locked,
    unpacked: BTreeMap<Sha256, UnpackedPackage>,
    binaries: BTreeMap<String, Content>,
    kmod: Option<PathBuf>,
}

impl Fetched {
    /// The spec and lock.
    #[must_use]
    pub fn locked(&self) -> &Locked {
        &self.locked
    }

    /// The packages of a use that goes into the image ([`Use::Image`], [`Use::Initrd`], [`Use::Stub`]), sorted by name.
    pub fn packages(&self, usage: Use) -> impl Iterator<Item = (&Package, &UnpackedPackage)> {
        self.locked.packages(usage).filter_map(|package| Some((package, self.unpacked.get(&package.sha256)?)))
    }

    /// The program `role/name`.
    ///
    /// # Errors
    /// [`Kind::Spec`] when the lock has none of that name.
    pub fn binary(&self, id: &str) -> Result<&Content> {
        let missing = || Fault::new(Kind::Spec, format!("the lock has no binary `{id}`")).into();
        self.binaries.get(id).ok_or_else(missing)
    }

    /// The root of the extracted closure of `kmod`, whose `depmod` is run on this host, by whoever asks
    /// [`crate::store::verify_tool`] first: most builds know what it would say.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a container, which has no kernel.
    pub fn kmod(&self) -> Result<&Path> {
        self.kmod.as_deref().ok_or_else(|| Fault::new(Kind::Internal, "a container has no kmod").into())
    }
}

/// Fetches all that a build needs (the image's packages, a machine's `kmod`, and the binaries) and hands it to `use_them`. Damage in
/// the store that only shows while it is used is mended, and `use_them` is called once more.
///
/// # Errors
/// [`Kind::Network`], [`Kind::Integrity`] or [`Kind::Environment`], naming the package or binary; those of `use_them`.
pub fn with_inputs<T>(
    locked: &Locked,
    store: &Store,
    remote: &Remote,
    report: &dyn Report,
    use_them: impl Fn(&Fetched) -> Result<T>,
) -> Result<T> {
    let used = use_them(&fetch(locked, store, remote, Check::Later, report)?);
    match used {
        Err(error) if kind_of(&error) == Kind::Integrity => {
            report.event(Event::Warning { text: format!("{error:#}: the whole store is checked now") });
            use_them(&fetch(locked, store, remote, Check::Now, report)?)
        }
        used => used,
    }
}

fn fetch(locked: &Locked, store: &Store, remote: &Remote, check: Check, report: &dyn Report) -> Result<Fetched> {
    let mut packages: BTreeMap<Sha256, &Package> = BTreeMap::new();
    for usage in UNPACKED {
        packages.extend(locked.packages(usage).map(|package| (package.sha256, package)));
    }
    let unpacked = unpack(&packages.into_values().collect::<Vec<_>>(), store, remote, check, report)?;
    let kmod = Use::Kmod.belongs_to(locked.spec());
    let kmod = kmod.then(|| tool(locked, Use::Kmod, store, remote, check, report)).transpose()?;
    let binaries = binaries(locked, store, remote, check, report)?;
    Ok(Fetched { locked: locked.clone(), unpacked, binaries, kmod })
}

/// Fetches and extracts the packages of a tool that is to be run; returns the root of the extracted closure, every byte
/// checked.
///
/// # Errors
/// As [`with_inputs`].
pub fn fetch_tool(locked: &Locked, usage: Use, store: &Store, remote: &Remote, report: &dyn Report) -> Result<PathBuf> {
    tool(locked, usage, store, remote, Check::Now, report)
}

fn tool(
    locked: &Locked,
    usage: Use,
    store: &Store,
    remote: &Remote,
    check: Check,
    report: &dyn Report,
) -> Result<PathBuf> {
    let packages: Vec<&Package> = locked.packages(usage).collect();
    let debs: Vec<Sha256> = packages.iter().map(|package| package.sha256).collect();
    if let Some(dir) = store.extracted(&debs, check) {
        return Ok(dir);
    }
    remote.packages(store, &packages, report)?;
    let stage = Stage::start(report, format!("unpacking {}", usage.word()), None, "");
    let dir = store.extract(&debs)?;
    stage.finish(format!("{} packages", debs.len()));
    Ok(dir)
}

/// Unpacked packages by digest; only those that the store does not hold unpacked are downloaded or decoded.
fn unpack(
    packages: &[&Package],
    store: &Store,
    remote: &Remote,
    check: Check,
    report: &dyn Report,
) -> Result<BTreeMap<Sha256, UnpackedPackage>> {
    let ready = in_parallel(packages, |package| store.unpacked(&package.sha256, check))?;
    let (mut done, mut todo) = (BTreeMap::new(), Vec::new());
    for (package, ready) in packages.iter().zip(ready) {
        match ready {
            Some(unpacked) => drop(done.insert(package.sha256, unpacked)),
            None => todo.push(*package),
        }
    }
    if todo.is_empty() {
        return Ok(done);
    }
    remote.packages(store, &todo, report)?;
    // The largest first: begun last, it would be decoded alone while the other cores wait.
    todo.sort_by_key(|package| std::cmp::Reverse(package.size));
    let stage = Stage::start(report, "unpacking packages", Some(todo.len() as u64), "packages");
    let fresh = in_parallel(&todo, |package| {
        let unpacked = store
            .unpack(&package.sha256)
            .map_err(|error| error.context(format!("unpacking {} {}", package.name, package.version)))?;
        stage.advance(1);
        Ok(unpacked)
    })?;
    stage.finish(format!("{} packages", todo.len()));
    done.extend(todo.iter().map(|package| package.sha256).zip(fresh));
    Ok(done)
}

fn binaries(
    locked: &Locked,
    store: &Store,
    remote: &Remote,
    check: Check,
    report: &dyn Report,
) -> Result<BTreeMap<String, Content>> {
    let toolchain = Toolchain::new(toolchain_packages(locked.lock()), store, remote, report);
    let mut contents = BTreeMap::new();
    let mut built = false;
    for binary in &locked.lock().binaries {
        let content = match store.content(&binary.sha256, binary.size, check)? {
            Some(content) => content,
            None => {
                match source(locked.spec(), &binary.id)? {
                    BinarySource::Url { url, .. } => {
                        let wanted = (&binary.sha256, binary.size);
                        remote.object(store, &binary.id, std::slice::from_ref(url), wanted, &|_| {})?;
                    }
                    BinarySource::Go(module) => {
                        built = true;
                        rebuild(&toolchain, binary, module)?;
                    }
                }
                let gone = || anyhow::anyhow!("{} vanished from the store", binary.id);
                store.content(&binary.sha256, binary.size, Check::Later)?.ok_or_else(gone)?
            }
        };
        contents.insert(binary.id.clone(), content);
    }
    if built {
        toolchain.clean()?;
    }
    Ok(contents)
}

fn rebuild(toolchain: &Toolchain<'_>, binary: &Binary, module: &crate::spec::GoModule) -> Result<()> {
    let (found, _) = toolchain.build(Program { id: &binary.id, module, recipe: &binary.recipe })?;
    if found != binary.sha256 {
        let message = format!("{} was built to sha256 {found}, but the lock says {}", binary.id, binary.sha256);
        let fault = Fault::new(Kind::Integrity, message);
        return Err(fault.hint("the build is not reproducible here: report it with both digests").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
