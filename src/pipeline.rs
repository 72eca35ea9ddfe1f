//! The story of nodelith on one page: which stage follows which. No detail here, and no stage is called elsewhere.
//!
//! ```text
//! spec ──resolve──▶ lock ──fetch──▶ inputs ──assemble──▶ trees ──image──▶ disk ──trial──▶ verdict
//! ```

use crate::assemble;
use crate::error::{Fault, Kind, Result};
use crate::fetch;
use crate::image;
use crate::lock::{Lock, Locked};
use crate::manifest::{self, Manifest, Output};
use crate::remote::Remote;
use crate::report::Report;
use crate::resolve::{self, Change};
use crate::spec::Spec;
use crate::store::Store;
use crate::sys;
use std::path::Path;

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
pub fn lock(spec: Spec, options: &resolve::Options, check: bool, cx: &Context<'_>) -> Result<Vec<Change>> {
    let path = spec.lock_path();
    let old = if path.exists() { Some(Lock::parse(&path, &sys::fs::read_text(&path)?)?) } else { None };
    let resolution = resolve::resolve(&spec, old.as_ref(), options, &cx.store, &cx.remote, cx.report)?;
    if check && !resolution.changes.is_empty() {
        let list = resolution.changes.iter().map(|change| format!("\n  {change}")).collect::<String>();
        let fault = Fault::new(Kind::Spec, format!("{} is stale{list}", path.display()));
        return Err(fault.hint(format!("run `nodelith lock {}`", spec.path.display())).into());
    }
    let text = resolution.lock.to_text()?;
    if !check && old.map(|old| old.to_text()).transpose()?.as_deref() != Some(&text) {
        sys::fs::write_atomic(&path, text.as_bytes())?;
    }
    Ok(resolution.changes)
}

/// Joins a spec with the lock beside it.
///
/// # Errors
/// [`Kind::Spec`] when there is no lock, or it does not satisfy the spec.
pub fn bind(spec: Spec) -> Result<Locked> {
    let path = spec.lock_path();
    if !path.exists() {
        let fault = Fault::new(Kind::Spec, format!("{} is not locked: {} is missing", spec.path.display(), path.display()));
        return Err(fault.hint(format!("run `nodelith lock {}` and commit the lock", spec.path.display())).into());
    }
    Lock::parse(&path, &sys::fs::read_text(&path)?)?.bind(spec)
}

/// Builds an image into `out/<name>/`: the old directory stays until the new one is complete.
///
/// # Errors
/// Those of its stages; nothing is left half-written.
pub fn build(locked: &Locked, out: &Path, cx: &Context<'_>) -> Result<Manifest> {
    let name = locked.spec().name.as_str();
    sys::fs::make_dir(out)?;
    let _alone = sys::fs::lock(&out.join(format!(".{name}.lock")))?;
    let prefix = format!(".{name}.build-");
    sys::fs::sweep(out, &prefix)?;
    let work = sys::fs::temp_dir_in(out, &prefix)?;

    let inputs = fetch::fetch(locked, &cx.store, &cx.remote, cx.report)?;
    let node = assemble::assemble(locked, &inputs, cx.report)?;
    let image = image::build(&recipe(locked, &node), work.path(), cx.report)?;

    let manifest = describe(locked, &node, &image)?;
    sys::fs::write_atomic(&work.path().join("manifest.json"), manifest.to_text()?.as_bytes())?;
    sys::fs::replace_dir(work, &out.join(name))?;
    Ok(manifest)
}
