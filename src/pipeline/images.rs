//! What stands in `out/`, as later stages take it: subjects of claims, machines of a cluster, its `kubectl`.

use crate::cluster::Image as ClusterImage;
use crate::error::{Fault, Kind, Result};
use crate::manifest::{self, Manifest};
use crate::store::Store;
use crate::sys;
use crate::trial::{Claim, Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The images of a cluster: the first machine's, and the others'.
const CLUSTER: [&str; 2] = ["controller", "worker"];

/// The images that a cluster is made of.
pub(super) fn of_cluster(out: &Path) -> Result<[ClusterImage; 2]> {
    let missing: Vec<&str> = CLUSTER.into_iter().filter(|name| !manifest::stands(&out.join(name))).collect();
    if !missing.is_empty() {
        let fault = Fault::new(Kind::Usage, format!("a cluster needs images that {} does not hold", out.display()));
        let hint = |fault: Fault, name: &&str| fault.hint(format!("run `nodelith build image-specs/{name}.toml`"));
        return Err(missing.iter().fold(fault, hint).into());
    }
    let read = |name: &str| Manifest::of_image(&out.join(name));
    let [(controller, first), (worker, second)] = [read(CLUSTER[0])?, read(CLUSTER[1])?];
    fit(out, &[&controller, &worker])?;
    let image = |name: &str, manifest: Manifest, digest| {
        // Each kind of certificate that the CA gives is a template of this name in its image.
        let admin = "kubernetes-admin";
        let gives = manifest.paths.contains_key(&format!("/usr/share/nodelith/step-ca/{admin}.tpl"));
        ClusterImage {
            raw: out.join(name).join(format!("{}.raw", manifest.name)),
            manifest: digest,
            name: manifest.name,
            certificates: manifest.certificates.into_iter().collect(),
            listeners: manifest.listeners,
            admin: gives.then(|| admin.to_owned()),
        }
    };
    Ok([image(CLUSTER[0], controller, first), image(CLUSTER[1], worker, second)])
}

/// Refuses images whose programs are of versions that must not meet, before any of them boots.
fn fit(out: &Path, images: &[&Manifest]) -> Result<()> {
    let pairs = images.iter().flat_map(|one| images.iter().map(move |other| (one, other)));
    for (one, other) in pairs {
        if let Some(why) = one.unfit(other) {
            let fault = Fault::new(Kind::Spec, format!("the images of {} do not fit each other: {why}", out.display()));
            let hint = "build both with versions that fit; the API server is upgraded first, then its nodes";
            return Err(fault.hint(hint).into());
        }
    }
    Ok(())
}

/// Refuses claims that boot images together which do not fit. One that is missing is told by whoever boots it.
pub(super) fn fit_claims(out: &Path, claims: &[Claim]) -> Result<()> {
    let sets = claims.iter().map(|claim| claim.machines.iter().map(|member| member.image.as_str()).collect());
    let sets: BTreeSet<BTreeSet<&str>> = sets.collect();
    let mut manifests = BTreeMap::new();
    for name in sets.iter().flatten() {
        let dir = out.join(name);
        if !manifests.contains_key(name) && manifest::stands(&dir) {
            manifests.insert(*name, Manifest::of_image(&dir)?.0);
        }
    }
    sets.iter().try_for_each(|set| fit(out, &set.iter().filter_map(|name| manifests.get(name)).collect::<Vec<_>>()))
}

/// A built image as the subject of claims.
pub(super) fn subject(dir: &Path) -> Result<Subject> {
    let (manifest, digest) = Manifest::of_image(dir)?;
    let Some(root_hash) = manifest.root_hash else {
        let fault = Fault::new(Kind::Usage, format!("{} holds a container, which no claim boots", dir.display()));
        return Err(fault.hint("name a machine's image in the claim").into());
    };
    let [tree, files] = manifest::seen_from_inside(&manifest.paths).map(|digest| digest.to_string());
    let listeners = manifest.listeners.join("\n");
    let facts = [("root_hash", root_hash), ("listeners", listeners), ("tree", tree), ("files", files)];
    Ok(Subject {
        raw: dir.join(format!("{}.raw", manifest.name)),
        manifest: digest,
        certificates: manifest.certificates.into_iter().collect(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
    })
}

/// The `kubectl` that belongs to a cluster's controller, from the store, made executable in the cluster's directory.
///
/// # Errors
/// [`Kind::Usage`] when the controller's image has none; [`Kind::Environment`] when the store has lost it.
pub fn kubectl(out: &Path, store: &Store) -> Result<PathBuf> {
    let none = |why: &str| {
        let fault = Fault::new(Kind::Usage, format!("there is no kubectl: {why}"));
        fault.hint("run `nodelith build image-specs/controller.toml`, with the role `kubectl` in it")
    };
    let dir = out.join(CLUSTER[0]);
    if !manifest::stands(&dir) {
        return Err(none(&format!("{} holds no image", dir.display())).into());
    }
    let (manifest, _) = Manifest::of_image(&dir)?;
    let binary = manifest.binaries.iter().find(|binary| binary.id.ends_with("/kubectl"));
    let binary = binary.ok_or_else(|| none("the controller's image does not hold one"))?;
    let program = out.join("cluster").join(format!("kubectl-{}", binary.sha256.short()));
    if !program.is_file() {
        let lost = || none("the store has lost the one that was built");
        let object = store.object(&binary.sha256)?.ok_or_else(lost)?;
        sys::fs::copy_executable(&object, &program)?;
    }
    Ok(program)
}
