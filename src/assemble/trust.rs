//! The authorities that TLS clients trust, as the script of ca-certificates would collect them. Without them no container is
//! pulled from a registry.

use crate::error::Result;
use crate::tree::Tree;
use std::sync::Arc;

/// Debian's, and those that roles bring for registries of their own; update-ca-certificates(8) reads the same two.
const AUTHORITIES: [&str; 2] = ["usr/share/ca-certificates", "usr/local/share/ca-certificates"];
/// Where Go, curl and OpenSSL look.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Writes all authorities into one file, unless there are none or a role brings the file.
///
/// # Errors
/// [`crate::error::Kind::Integrity`] when content was damaged in the store.
pub(super) fn collect(tree: &mut Tree) -> Result<()> {
    let mut bundle = Vec::new();
    for dir in AUTHORITIES {
        let certificates = tree.below(dir.as_bytes()).filter(|(path, _)| path.ends_with(b".crt"));
        for content in certificates.filter_map(|(path, _)| tree.content(path)) {
            bundle.extend(content.read()?);
            // Two certificates on one line would be none.
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
    }
    if bundle.is_empty() || tree.get(BUNDLE).is_some() {
        return Ok(());
    }
    tree.file(BUNDLE, 0o644, bundle, &Arc::from("assemble trust"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, &str)]) -> Option<String> {
        let origin: Arc<str> = Arc::from("test");
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.file(path, 0o644, (*text).to_owned(), &origin).unwrap();
        }
        collect(&mut tree).unwrap();
        tree.content(BUNDLE).map(|content| String::from_utf8(content.read().unwrap()).unwrap())
    }

    #[test]
    fn all_authorities_are_one_file() {
        let files = [
            ("usr/share/ca-certificates/mozilla/B.crt", "b\n"),
            ("usr/share/ca-certificates/mozilla/A.crt", "a"),
            ("usr/share/ca-certificates/README", "no"),
            ("usr/local/share/ca-certificates/own.crt", "own\n"),
        ];
        assert_eq!(bundle(&files).unwrap(), "a\nb\nown\n");
        assert_eq!(bundle(&[("usr/share/x.crt", "x")]), None);
        assert_eq!(bundle(&[files[0], (BUNDLE, "a role's")]).unwrap(), "a role's");
    }
}
