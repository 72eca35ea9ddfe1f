//! Packages of a lock into the store, several at once.

use super::Remote;
use crate::error::Result;
use crate::lock::Package;
use crate::report::{Report, Stage};
use crate::store::Store;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Downloads at once. Mirrors are far away more often than they are slow.
const AT_ONCE: usize = 6;

/// Runs a job for each package on all cores; results in order, the first failure in order.
pub(crate) fn in_parallel<T: Send>(
    packages: &[&Package],
    job: impl Fn(&Package) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    // Collected before it is judged: which failure is told must not depend on timing.
    let results: Vec<Result<T>> = packages.par_iter().with_max_len(1).map(|package| job(package)).collect();
    results.into_iter().collect()
}

impl Remote {
    /// Makes sure that packages are in the store, as objects. A damaged one is fetched again.
    ///
    /// # Errors
    /// The first package's failure in the order given: see [`Remote::object`].
    pub fn packages(&self, store: &Store, packages: &[&Package], report: &dyn Report) -> Result<()> {
        // Looking at the bytes removes what is damaged, so that it counts as missing.
        let found = in_parallel(packages, |package| store.object(&package.sha256))?;
        let missing = packages.iter().zip(found).filter(|(_, found)| found.is_none());
        let missing: BTreeMap<_, _> = missing.map(|(package, _)| (package.sha256, *package)).collect();
        let missing: Vec<&Package> = missing.into_values().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let total: u64 = missing.iter().map(|package| package.size).sum();
        store.require(total, store.dir())?;
        let stage = Stage::start(report, "downloading packages", Some(total), "bytes");
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(missing.len()) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(package) = missing.get(at) else { break };
                        let what = format!("{} {}", package.name, package.version);
                        let urls = self.urls(&package.suite, &package.path);
                        let wanted = (&package.sha256, package.size);
                        if let Err(error) = self.object(store, &what, &urls, wanted, &|bytes| stage.advance(bytes)) {
                            // One failure is enough: the others are not waited for.
                            next.store(missing.len(), Ordering::Relaxed);
                            failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(at, error);
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, error)) = failures.into_iter().next() {
            return Err(error);
        }
        stage.finish(format!("{} packages, {} MB", missing.len(), total / 1_000_000));
        Ok(())
    }
}
