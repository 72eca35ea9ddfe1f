//! Spec + archive indexes → lock: the only stage that chooses, and the only one that needs the network by nature.

mod change;
pub mod golang;
mod index;
mod relation;
mod release;
mod solve;
#[cfg(test)]
pub(crate) mod testing;

pub use change::Change;
pub use release::Keyring;

use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::lock::{self, Lock};
use crate::remote::Remote;
use crate::report::{Event, Report, Stage};
use crate::spec::requests::{Requests, Use};
use crate::spec::{BinarySource, Spec};
use crate::store::Store;
use crate::sys;
use golang::{Program, Toolchain};
use index::Universe;
use release::Release;
use std::collections::BTreeMap;

/// The largest InRelease file, in bytes. Debian's are 140 KB.
const MAX_RELEASE: u64 = 4 << 20;
/// The largest binary from a URL, in bytes.
const MAX_BINARY: u64 = 1 << 30;

/// Which locked packages may move to a newer version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// Only those that must.
    Nothing,
    /// These packages, with what they need and what would hold them.
    Named(Vec<String>),
    /// All of them.
    Everything,
}

/// How to resolve.
#[derive(Debug, Clone)]
pub struct Options {
    /// What may move.
    pub upgrade: Upgrade,
    /// Who may sign the archive's releases.
    pub keyring: Keyring,
    /// Only compare: nothing is built, a program that would have to be keeps what the old lock says of it.
    pub check: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Resolution {
    /// The lock. Equal to the old one, byte for byte, when nothing changed.
    pub lock: Lock,
    /// What changed; empty when the old lock stands.
    pub changes: Vec<Change>,
    /// What `--upgrade-all` would change on top.
    pub newer: Vec<Change>,
}

/// Makes the lock of a spec, staying with the old lock's versions where they still exist and fit.
///
/// # Errors
/// [`Kind::Spec`] when the spec cannot be satisfied, [`Kind::Network`] and [`Kind::Integrity`] for what servers do.
pub fn resolve(
    spec: &Spec,
    old: Option<&Lock>,
    options: &Options,
    store: &Store,
    remote: &Remote,
    report: &dyn Report,
) -> Result<Resolution> {
    let requests = Requests::of(spec)?;
    let stage = Stage::start(report, "reading the archive", None, "");
    let suites = read_suites(&requests.suites, old, options, store, remote)?;
    let mut universe = Universe::default();
    for (release, text) in &suites {
        universe.add(release, text)?;
    }
    stage.finish(format!("{} packages in {} suites", universe.candidates.len(), suites.len()));

    let mut lock = Lock {
        version: lock::VERSION,
        requests: requests.digest(),
        releases: suites.iter().map(|(release, _)| release.recorded.clone()).collect(),
        packages: choose(&universe, &requests, old, &options.upgrade, report)?,
        binaries: Vec::new(),
    };
    lock.releases.sort_by(|a, b| a.suite.cmp(&b.suite));
    if let Upgrade::Named(names) = &options.upgrade {
        names.iter().try_for_each(|name| movable(spec, &lock, name))?;
    }
    let newest = Lock { packages: choose(&universe, &requests, old, &Upgrade::Everything, report)?, ..lock.clone() };
    let mut rebuilds = Vec::new();
    lock.binaries = Binaries { spec, old, lock: &lock, check: options.check, store, remote, report }
        .make(&requests, &mut rebuilds)?;

    let exists =
        |name: &str, version: &str| universe.named(name).iter().any(|id| universe.candidates[*id].version == version);
    let mut changes = change::between(old, &lock, &exists);
    changes.append(&mut rebuilds);
    let newest = Lock { binaries: lock.binaries.clone(), ..newest };
    let newer = change::between(Some(&lock), &newest, &exists);
    if let Some(old) = old
        && changes.is_empty()
    {
        if old.requests == lock.requests {
            // A release that is merely newer is no reason to touch the lock.
            lock = old.clone();
        } else {
            // The same answer to another question: a build refuses the old lock all the same.
            let what = "the spec asks otherwise, the same packages and programs answer it".into();
            changes.push(Change::Other { name: "requests".into(), what });
        }
    }
    Ok(Resolution { lock, changes, newer })
}

/// Fetches and checks releases and indexes of all suites at once.
fn read_suites(
    suites: &[String],
    old: Option<&Lock>,
    options: &Options,
    store: &Store,
    remote: &Remote,
) -> Result<Vec<(Release, String)>> {
    let now = sys::clock::now();
    let one = |suite: &String| -> Result<(Release, String)> {
        let what = format!("the release of {suite}");
        let urls = remote.urls(suite, &format!("dists/{suite}/InRelease"));
        let seen = old.and_then(|old| old.releases.iter().find(|release| release.suite == *suite));
        let mut verified = None;
        // Checked inside the download: a mirror that is stale or forged must not stand before one that is sound.
        remote.download(&what, &urls, &mut |body| {
            let mut bytes = Vec::new();
            let doing = || format!("downloading {what}");
            std::io::Read::read_to_end(&mut std::io::Read::take(body, MAX_RELEASE), &mut bytes)
                .blame(Kind::Network, doing)?;
            verified = Some(release::verify(suite, &bytes, &options.keyring, now, seen)?);
            Ok(())
        })?;
        let release = verified.ok_or_else(|| anyhow::anyhow!("{what} was downloaded but not checked"))?;
        let text = index::fetch(&release, store, remote)?;
        Ok((release, text))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = suites.iter().map(|suite| scope.spawn(move || one(suite))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("reading a suite panicked"))))
            .collect()
    })
}

/// Solves each use by itself and joins the results.
fn choose(
    universe: &Universe<'_>,
    requests: &Requests,
    old: Option<&Lock>,
    upgrade: &Upgrade,
    report: &dyn Report,
) -> Result<Vec<lock::Package>> {
    let mut packages: BTreeMap<(String, String), lock::Package> = BTreeMap::new();
    for (usage, wanted) in &requests.packages {
        let kept = old.map(|old| kept(old, *usage, upgrade)).unwrap_or_default();
        let question = solve::Question { usage: *usage, requests: wanted, kept, fixed: Vec::new() };
        let (chosen, held) = match upgrade {
            Upgrade::Named(names) => solve::raise(universe, question, names)?,
            Upgrade::Nothing | Upgrade::Everything => (solve::solve(universe, &question)?, Vec::new()),
        };
        held.into_iter().for_each(|text| report.event(Event::Warning { text }));
        for id in chosen {
            let package = universe.candidates[id].locked()?;
            let key = (package.name.clone(), package.version.clone());
            packages.entry(key).or_insert(package).uses.push(*usage);
        }
    }
    let mut packages: Vec<_> = packages.into_values().collect();
    packages.iter_mut().for_each(|package| package.uses.sort());
    Ok(packages)
}

fn kept<'a>(old: &'a Lock, usage: Use, upgrade: &Upgrade) -> BTreeMap<&'a str, &'a str> {
    let stays = |name: &str| match upgrade {
        Upgrade::Nothing => true,
        Upgrade::Named(names) => !names.iter().any(|moving| moving == name),
        Upgrade::Everything => false,
    };
    let packages = old.packages.iter().filter(|package| package.uses.contains(&usage) && stays(&package.name));
    packages.map(|package| (package.name.as_str(), package.version.as_str())).collect()
}

/// Refuses a name to upgrade that no package of the new lock has: nothing would move, and nobody would know why.
fn movable(spec: &Spec, lock: &Lock, name: &str) -> Result<()> {
    if lock.packages.iter().any(|package| package.name == name) {
        return Ok(());
    }
    let program = spec.roles.iter().find_map(|role| {
        let named = |id: &str| id == name || format!("{}/{id}", role.name) == name;
        let (_, binary) = role.binaries.iter().find(|(id, _)| named(id.as_str()))?;
        Some(match &binary.source {
            BinarySource::Go(module) => (&module.dir, "go.mod and go.sum"),
            BinarySource::Url { .. } => (&role.dir, "url and sha256 in role.toml"),
        })
    });
    let fault = match program {
        Some((dir, what)) => {
            let fault = Fault::new(Kind::Usage, format!("`{name}` is no package: its role pins it"));
            fault.hint(format!("change {what} of {}, and run `nodelith lock` without --upgrade", dir.display()))
        }
        None => {
            let fault = Fault::new(Kind::Usage, format!("{} needs no package `{name}`", spec.path.display()));
            fault.hint(format!("the packages to choose from are those in {}", spec.lock_path().display()))
        }
    };
    Err(fault.into())
}

/// What binaries are made with.
struct Binaries<'a> {
    spec: &'a Spec,
    old: Option<&'a Lock>,
    lock: &'a Lock,
    check: bool,
    store: &'a Store,
    remote: &'a Remote,
    report: &'a dyn Report,
}

impl Binaries<'_> {
    /// The binaries for the lock: as the old lock has them where recipe and toolchain are the same, else made now.
    fn make(&self, requests: &Requests, rebuilds: &mut Vec<Change>) -> Result<Vec<lock::Binary>> {
        let packages = toolchain_packages(self.lock);
        let toolchain = Toolchain::new(packages, self.store, self.remote, self.report);
        let same_toolchain = self.old.is_some_and(|old| digests(old) == digests(self.lock));
        let mut binaries = Vec::new();
        let mut built = false;
        for request in &requests.binaries {
            let source = source(self.spec, &request.id)?;
            let before = self.old.and_then(|old| old.binaries.iter().find(|binary| binary.id == request.id));
            let go = matches!(source, BinarySource::Go(_));
            if let Some(before) = before
                && before.recipe == request.recipe
                && (same_toolchain || !go)
            {
                binaries.push(before.clone());
                continue;
            }
            if self.check {
                rebuilds.push(Change::Other { name: request.id.clone(), what: "has to be made anew".into() });
                binaries.extend(before.cloned());
                continue;
            }
            let (from, (sha256, size)) = match source {
                BinarySource::Url { url, sha256 } => (url.clone(), self.download(&request.id, url, sha256)?),
                BinarySource::Go(module) => {
                    built = true;
                    let program = Program { id: &request.id, module, recipe: &request.recipe };
                    (module.origin()?, toolchain.build(program)?)
                }
            };
            binaries.push(lock::Binary { id: request.id.clone(), from, recipe: request.recipe, size, sha256 });
        }
        if built {
            toolchain.clean()?;
        }
        Ok(binaries)
    }

    /// A binary whose digest the spec gives, but not its size.
    fn download(&self, id: &str, url: &str, sha256: &Sha256) -> Result<(Sha256, u64)> {
        let path = if let Some(path) = self.store.object(sha256)? {
            path
        } else {
            let bytes = self.remote.bytes(id, &[url.to_owned()], MAX_BINARY)?;
            let found = Sha256::of(&bytes);
            if found != *sha256 {
                let fault = Fault::new(Kind::Integrity, format!("{url} hashes to {found}, but {id} is {sha256}"));
                return Err(fault.hint("check the role's url and sha256 against the publisher's").into());
            }
            self.store.ensure(sha256, bytes.len() as u64, |sink| sink(&bytes))?
        };
        Ok((*sha256, sys::fs::stamp(&path)?.size))
    }
}

/// Reads the texts of an archive, a release and a package index with the relations in it, and chooses nothing: for
/// whoever feeds them what a mirror should never send. Returns how many files and packages they tell of.
///
/// # Errors
/// [`Kind::Integrity`] when they are not such texts.
pub fn read_archive(release: &str, index: &str) -> Result<(usize, usize)> {
    let release = release::read("trixie", release, 0, None)?;
    let mut universe = Universe::default();
    universe.add(&release, index)?;
    for candidate in &universe.candidates {
        candidate.depends.into_iter().chain(candidate.breaks).for_each(|field| drop(relation::parse(field)));
        candidate.locked()?;
    }
    Ok((release.files.len(), universe.candidates.len()))
}

/// The packages of a lock that make up the Go toolchain.
#[must_use]
pub fn toolchain_packages(lock: &Lock) -> Vec<&lock::Package> {
    lock.packages.iter().filter(|package| package.uses.contains(&Use::Go)).collect()
}

fn digests(lock: &Lock) -> Vec<Sha256> {
    let mut digests: Vec<_> = toolchain_packages(lock).iter().map(|package| package.sha256).collect();
    digests.sort();
    digests
}

/// Where a spec's binary `role/name` comes from.
///
/// # Errors
/// [`Kind::Spec`] when the spec has no such binary.
pub fn source<'a>(spec: &'a Spec, id: &str) -> Result<&'a BinarySource> {
    let found = id.split_once('/').and_then(|(role, name)| {
        let role = spec.roles.iter().find(|candidate| candidate.name.as_str() == role)?;
        role.binaries.iter().find(|(candidate, _)| candidate.as_str() == name)
    });
    let missing = || Fault::new(Kind::Spec, format!("{} has no binary `{id}`", spec.path.display()));
    Ok(&found.ok_or_else(missing)?.1.source)
}

#[cfg(test)]
mod tests;
