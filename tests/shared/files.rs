//! The texts of a folder, for tests that read roles and pages.

use std::fs;
use std::path::Path;

/// Adds the texts of the files below a directory, with their paths.
pub(crate) fn files(dir: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // Links lead into the image, not into the checkout.
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files(&path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            into.push((path.display().to_string(), text));
        }
    }
}
