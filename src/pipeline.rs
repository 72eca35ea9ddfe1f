//! The story of nodelith on one page: which stage follows which. No detail here, and no stage is called elsewhere.
//!
//! ```text
//! spec ──resolve──▶ lock ──fetch──▶ inputs ──assemble──▶ trees ──image──▶ disk ──trial──▶ verdict
//!                     └── of a container ──▶ inputs ──▶ tree ──▶ archive ──▲ into the trees of machines
//! ```

use crate::assemble::{self, Node, Preload};
use crate::cluster;
use crate::digest::Sha256;
use crate::error::{Fault, Kind, Result};
use crate::fetch;
use crate::image::archive::Archive;
use crate::image::{self, Image, Recipe};
use crate::lab::Emulator;
use crate::lock::{Lock, Locked};
use crate::manifest::{self, Manifest};
use crate::remote::Remote;
use crate::report::Report;
use crate::resolve::{self, Change};
use crate::spec::requests::Use;
use crate::spec::{self, Skew, Spec};
use crate::standing::{self, Inputs, Made, State};
use crate::store::{self, Store};
use crate::sys;
use crate::tree::Tree;
use crate::trial::{self, Claim, Verdict};
use crate::verify;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod images;

pub use images::kubectl;

/// What every stage may use beside its input.
pub struct Context<'a> {
    /// Verified objects on this host.
    pub store: Store,
    /// The network, or its refusal.
    pub remote: Remote,
    /// Whoever watches.
    pub report: &'a dyn Report,
}

/// Pins a spec's inputs. Writes the lock beside the spec, unless this is only a check; returns what changed.
///
/// # Errors
/// Those of [`resolve::resolve`]; [`Kind::Spec`] when this is a check and something would change.
pub fn lock(spec: &Spec, options: &resolve::Options, cx: &Context<'_>) -> Result<Vec<Change>> {
    let path = spec.lock_path();
    let old = if path.exists() { Some(Lock::parse(&path, &sys::fs::read_text(&path)?)?) } else { None };
    let resolution = resolve::resolve(spec, old.as_ref(), options, &cx.store, &cx.remote, cx.report)?;
    if options.check && !resolution.changes.is_empty() {
        let list = resolution.changes.iter().map(|change| format!("\n  {change}")).collect::<String>();
        let fault = Fault::new(Kind::Spec, format!("{} is stale{list}", path.display()));
        return Err(fault.hint(format!("run `nodelith lock {}`", spec.path.display())).into());
    }
    let text = resolution.lock.to_text()?;
    if !options.check && old.map(|old| old.to_text()).transpose()?.as_deref() != Some(&text) {
        sys::fs::write_atomic(&path, text.as_bytes())?;
    }
    Ok(resolution.changes)
}

/// Joins a spec with the lock beside it, and the containers that it preloads with theirs.
///
/// # Errors
/// [`Kind::Spec`] when there is no lock, or it does not satisfy the spec.
pub fn bind(spec: Spec) -> Result<Locked> {
    let path = spec.lock_path();
    if !path.exists() {
        let fault =
            Fault::new(Kind::Spec, format!("{} is not locked: {} is missing", spec.path.display(), path.display()));
        return Err(fault.hint(format!("run `nodelith lock {}` and commit the lock", spec.path.display())).into());
    }
    let containers = spec.preloads().map(|container| bind(container.clone())).collect::<Result<_>>()?;
    Ok(Lock::parse(&path, &sys::fs::read_text(&path)?)?.bind(spec)?.with_containers(containers))
}

/// Builds an image into `out/<name>/`, and the containers that it preloads into theirs meanwhile: the old directory stays
/// until the new one is complete. Does nothing when the same inputs made what stands there, unless `force` asks for it.
///
/// # Errors
/// Those of its stages; nothing is left half-written.
pub fn build(locked: &Locked, out: &Path, force: bool, cx: &Context<'_>) -> Result<Built> {
    let slot = sys::slot::Slot::take(out, locked.spec().name.as_str())?;
    let inputs = Inputs::of(locked)?;
    // Made once, however often damage in the store has the machine's own work done again; and that is no cure for theirs.
    let containers = OnceLock::new();
    let preload = |container: &Locked| preload(container, out, force, cx);
    let preloads = || locked.containers().iter().map(preload).collect::<Result<Vec<_>>>();
    if !force && let Some(made) = standing::find(&slot, &inputs) {
        preloads()?;
        return Ok(Built { dir: slot.dir(), made, up_to_date: true });
    }
    let fill = |make: &dyn Fn(&Path) -> Result<Manifest>| {
        slot.fill(|work| {
            let manifest = make(work)?;
            let text = manifest.to_text()?;
            sys::fs::write_atomic(&work.join(manifest::FILE), text.as_bytes())?;
            State::of(work, &inputs, &manifest, &text).map(Some)
        })
    };
    let state = fetch::with_inputs(locked, &cx.store, &cx.remote, cx.report, |fetched| match &locked.spec().kind {
        spec::Kind::Machine => {
            let parts = || assemble::parts(fetched, &cx.store, cx.report);
            let (Ok(preloads), parts) = rayon::join(|| containers.get_or_init(preloads), parts) else {
                return Ok(None);
            };
            let node = assemble::assemble(fetched, parts?, preloads)?;
            fill(&|work| {
                let image = image::build(&recipe(locked, &node), work, &cx.store, cx.report)?;
                of_machine(locked, &node, preloads, image)
            })
        }
        spec::Kind::Container(kind) => {
            let tree = assemble::container(fetched, kind, cx.report)?;
            fill(&|work| {
                let archive = image::archive::build(locked.spec(), kind, &tree, work, &cx.store, cx.report)?;
                of_container(locked, kind, &tree, archive)
            })
        }
    })?;
    let Some(state) = state else {
        return Err(match containers.into_inner() {
            Some(Err(error)) => error,
            _ => anyhow::anyhow!("{} was not built", slot.dir().display()),
        });
    };
    let made = standing::remember(&slot, state, &Inputs::of(locked)?)?;
    Ok(Built { dir: slot.dir(), made, up_to_date: false })
}

/// What [`build`] did.
#[derive(Debug)]
pub struct Built {
    /// Where the image stands.
    pub dir: PathBuf,
    /// What stands there.
    pub made: Made,
    /// Whether it stood there before.
    pub up_to_date: bool,
}

/// Builds the image of a directory once more, from its lock, and compares.
///
/// # Errors
/// [`Kind::Spec`] when the lock, or the containers that it preloads, are not those that the image was built from,
/// [`Kind::Integrity`] when the images differ, those of [`build`].
pub fn rebuild(dir: &Path, manifest: &Manifest, locked: &Locked, cx: &Context<'_>) -> Result<()> {
    let lock = Sha256::of(locked.lock().to_text()?.as_bytes());
    if lock != manifest.lock {
        let path = locked.spec().lock_path();
        let message = format!(
            "{} was built from the lock of sha256 {}, {} has {lock}",
            dir.display(),
            manifest.lock,
            path.display()
        );
        return Err(Fault::new(Kind::Spec, message).hint("check out the commit that the image was built from").into());
    }
    let scratch = sys::fs::temp_dir_in(&cx.store.tmp(), "verify-")?;
    let built = build(locked, scratch.path(), true, cx)?;
    same_containers(dir, &manifest.containers, &Manifest::of_image(&built.dir)?.0.containers)?;
    same(dir, &built.dir)
}

/// A container has a lock of its own, so the machine's does not tell that one has changed since.
fn same_containers(dir: &Path, before: &BTreeMap<String, Sha256>, now: &BTreeMap<String, Sha256>) -> Result<()> {
    let Some((reference, digest)) = before.iter().find(|(reference, digest)| now.get(*reference) != Some(*digest))
    else {
        return Ok(());
    };
    let message =
        format!("{} was built with {reference} of digest {digest}, and its spec makes another", dir.display());
    Err(Fault::new(Kind::Spec, message).hint("check out the commit that the image was built from").into())
}

/// Proves that the images of two directories are equal, byte for byte.
///
/// # Errors
/// [`Kind::Integrity`], naming the first path that differs; those of [`verify::difference`].
pub fn same(dir: &Path, other: &Path) -> Result<()> {
    let Some(what) = verify::difference(dir, other)? else { return Ok(()) };
    let fault = Fault::new(Kind::Integrity, format!("{} differs from the other build in {what}", dir.display()));
    Err(fault.hint("was it built with this nodelith, and from these files of overlays/? If so, report it").into())
}

/// Boots claims on built images. The images are those of `out`, unchanged.
///
/// # Errors
/// [`Kind::Verdict`] is not an error here: the verdict says what did not hold. [`Kind::Spec`] when images that a claim
/// boots together do not fit each other; else those of [`trial::run`].
pub fn test(claims: &[Claim], setup: &Setup<'_>, cx: &Context<'_>) -> Result<Verdict> {
    images::fit_claims(setup.out, claims)?;
    let qemu = fetch::fetch_tool(setup.locked, Use::Qemu, &cx.store, &cx.remote, cx.report)?;
    let emulator = Emulator::new(&qemu)?;
    let subjects = |name: &str| images::subject(&setup.out.join(name));
    trial::run(claims, &subjects, &emulator, &setup.options, cx.report)
}

/// Starts a live cluster from the images of `out`, or what is off of one, and waits until its machines are there.
///
/// # Errors
/// [`Kind::Usage`] when an image is missing, [`Kind::Spec`] when the two do not fit each other; else those of
/// [`cluster::up`].
pub fn up(locked: &Locked, out: &Path, wanted: &Wanted<'_>, cx: &Context<'_>) -> Result<cluster::Status> {
    let [controller, worker] = images::of_cluster(out)?;
    let emulator = fetch::fetch_tool(locked, Use::Qemu, &cx.store, &cx.remote, cx.report)?;
    let ask = cluster::Up {
        dir: &out.join("cluster"),
        request: wanted.request,
        controller: &controller,
        worker: &worker,
        emulator: &emulator,
        within: wanted.within,
    };
    cluster::up(&ask, cx.report)
}

/// What [`up`] is asked for.
pub struct Wanted<'a> {
    /// Machines and ports.
    pub request: &'a cluster::Request,
    /// How long the machines may take.
    pub within: std::time::Duration,
}

/// What [`test`] needs besides claims.
pub struct Setup<'a> {
    /// Any lock of the images: it pins QEMU.
    pub locked: &'a Locked,
    /// Where the images are.
    pub out: &'a Path,
    /// How claims are run.
    pub options: trial::Options,
}

fn recipe<'a>(locked: &'a Locked, node: &'a Node) -> Recipe<'a> {
    Recipe {
        name: locked.spec().name.as_str(),
        root: &node.root,
        initrd: &node.initrd,
        kernel: &node.kernel,
        stub: &node.stub,
        os_release: &node.os_release,
        cmdline_extra: &node.cmdline,
        uname: &node.release,
        epoch: locked.spec().epoch,
    }
}

/// A container, built, as its machine takes it.
fn preload(locked: &Locked, out: &Path, force: bool, cx: &Context<'_>) -> Result<Preload> {
    let Built { dir, made, .. } = build(locked, out, force, cx)?;
    let name = locked.spec().name.to_string();
    let incomplete = || anyhow::anyhow!("{} was built, but is not an archive", dir.display());
    let (Some(reference), Some(digest), [archive]) = (made.reference, made.digest, made.outputs.as_slice()) else {
        return Err(incomplete());
    };
    let archive = store::file_content(&dir.join(&archive.file), archive.sha256, archive.size)?;
    Ok(Preload { name, reference, digest, archive })
}

fn of_machine(locked: &Locked, node: &Node, preloads: &[Preload], image: Image) -> Result<Manifest> {
    Ok(Manifest {
        root_hash: Some(image.root_hash.to_string()),
        cmdline: Some(image.cmdline),
        containers: preloads.iter().map(|preload| (preload.reference.clone(), preload.digest)).collect(),
        outputs: image.outputs,
        ..described(locked, &node.root)?
    })
}

fn of_container(locked: &Locked, kind: &spec::Container, tree: &Tree, archive: Archive) -> Result<Manifest> {
    Ok(Manifest {
        reference: Some(kind.reference.clone()),
        digest: Some(archive.digest),
        outputs: vec![archive.output],
        ..described(locked, tree)?
    })
}

/// What is known of every kind of image before it is written.
fn described(locked: &Locked, root: &Tree) -> Result<Manifest> {
    Ok(Manifest {
        schema: manifest::SCHEMA,
        name: locked.spec().name.to_string(),
        nodelith: env!("CARGO_PKG_VERSION").into(),
        epoch: locked.spec().epoch,
        lock: Sha256::of(locked.lock().to_text()?.as_bytes()),
        root_hash: None,
        cmdline: None,
        reference: None,
        digest: None,
        containers: BTreeMap::new(),
        listeners: assemble::listeners(locked).collect(),
        certificates: locked
            .spec()
            .certificates()
            .map(|(name, kind)| (name.to_string(), kind.provisioner.clone()))
            .collect(),
        outputs: Vec::new(),
        packages: Manifest::inputs(locked.lock()),
        binaries: locked.lock().binaries.clone(),
        skew: skews(locked.spec()),
        paths: manifest::paths(root),
    })
}

/// What a spec's programs ask of others' versions, by the program's id.
fn skews(spec: &Spec) -> BTreeMap<String, Vec<Skew>> {
    let all = spec.roles.iter().flat_map(|role| role.binaries.iter().map(move |(name, binary)| (role, name, binary)));
    let all = all.map(|(role, name, binary)| (format!("{}/{name}", role.name), binary.skew.clone()));
    all.filter(|(_, skews)| !skews.is_empty()).collect()
}

#[cfg(test)]
mod tests;
