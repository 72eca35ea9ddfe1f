//! Packages, roles and programs → a container's files. No kernel, no units, and nothing that only a machine needs.

use super::accounts::Accounts;
use super::taking::Taking;
use super::{packages, roles, settle};
use crate::error::{Fault, Kind, Result};
use crate::fetch::Fetched;
use crate::format::elf;
use crate::report::{Report, Stage};
use crate::spec::requests::Use;
use crate::spec::{Container, Spec};
use crate::tree::{Tree, What};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Makes a container's tree from checked inputs.
///
/// # Errors
/// [`Kind::Spec`] when a role is wrong or the program that is to be started is missing, [`Kind::Build`] when the inputs
/// do not fit together, [`Kind::Integrity`] when content was damaged in the store.
pub fn container(inputs: &Fetched, container: &Container, report: &dyn Report) -> Result<Tree> {
    let spec = inputs.locked().spec();
    let stage = Stage::start(report, format!("assemble {}", spec.name), None, "");
    let mut root = packages(inputs, Use::Image)?;
    if let Some(only) = &container.only {
        root = chosen(&root, only, &format!("the container {}", spec.name))?;
    }
    roles::install_all(&mut root, inputs)?;
    Accounts::of(&root)?.write_if_any(&mut root)?;
    settle::container(&mut root)?;
    startable(&root, spec, container)?;
    stage.finish(format!("{} paths", root.len()));
    Ok(root)
}

/// The listed paths with what they need, and the licences of the packages that they come from.
fn chosen(packages: &Tree, only: &[String], whose: &str) -> Result<Tree> {
    let mut taking =
        Taking::new(packages, whose, &Arc::from("assemble container"), &|content| elf::needs(&content.read()?))?;
    for path in only {
        taking.take(path)?;
    }
    // Not of directories: most belong to several packages, and there is nothing in them to license.
    let owned = taking.into.iter().filter(|(_, node)| node.what != What::Directory);
    let origins: BTreeSet<Arc<str>> = owned.map(|(_, node)| Arc::clone(&node.origin)).collect();
    for origin in origins {
        // `deb name version`
        let Some(package) = origin.strip_prefix("deb ").and_then(|rest| rest.split(' ').next()) else { continue };
        let licence = format!("usr/share/doc/{package}/copyright");
        if packages.content(&licence).is_some() {
            taking.take(&licence)?;
        }
    }
    Ok(taking.into)
}

/// A container whose program is missing would only fail on a node.
fn startable(root: &Tree, spec: &Spec, container: &Container) -> Result<()> {
    let program = container.entrypoint.first().map_or("", String::as_str);
    let place = program.strip_prefix('/').and_then(|path| root.resolve(path));
    let node = place.as_ref().and_then(|path| root.get(path));
    let node = match node.map(|node| &node.what) {
        Some(What::HardLink(target)) => root.get(target),
        _ => node,
    };
    let there = node.is_some_and(|node| matches!(node.what, What::File(_)) && node.mode & 0o111 != 0);
    if there {
        return Ok(());
    }
    let message = format!("{}: the container holds no program `{program}`", spec.path.display());
    Err(Fault::new(Kind::Spec, message).hint("see `entrypoint`, `packages`, `only` and `roles` in the spec").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;
    use crate::tree::show;

    fn packages() -> Tree {
        let mut tree = Tree::new();
        for (package, path) in [("a", "usr/bin/tool"), ("a", "usr/share/doc/a/copyright"), ("b", "etc/b/one")] {
            tree.file(path, 0o755, path, &Arc::from(format!("deb {package} 1"))).unwrap();
        }
        tree.symlink("usr/share/doc/b", "a", &Arc::from("deb b 1")).unwrap();
        tree.file("etc/b/two", 0o644, "2", &Arc::from("deb b 1")).unwrap();
        tree.file("usr/bin/other", 0o755, "", &Arc::from("deb c 1")).unwrap();
        tree
    }

    fn files(tree: &Tree) -> Vec<String> {
        let files = tree.iter().filter(|(_, node)| matches!(node.what, What::File(_)));
        files.map(|(path, _)| show(path)).collect()
    }

    #[test]
    fn what_is_chosen_comes_with_its_licences_and_nothing_else() {
        let tree = chosen(&packages(), &["etc/b".into(), "usr/bin/tool".into()], "x").unwrap();
        assert_eq!(files(&tree), ["etc/b/one", "etc/b/two", "usr/bin/tool", "usr/share/doc/a/copyright"]);
        let tree = chosen(&packages(), &["etc/b/one".into()], "x").unwrap();
        assert_eq!(files(&tree), ["etc/b/one", "usr/share/doc/a/copyright"], "through the package's link");
    }

    #[test]
    fn a_path_that_no_package_has_is_named() {
        let error = chosen(&packages(), &["usr/bin/none".into()], "the container x").unwrap_err();
        assert_eq!(kind_of(&error), Kind::Build);
        assert_eq!(error.to_string(), "the container x needs `usr/bin/none`, which none of its packages has");
    }
}
