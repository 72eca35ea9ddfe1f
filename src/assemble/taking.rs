//! Files taken by name out of a tree of packages, with all that they need: where links lead, what is below
//! directories, and the libraries of programs. So a package that grows does not grow what is made of a few of its files.

use super::merge::MERGED;
use crate::error::{Fault, Kind, Result};
use crate::format::elf;
use crate::tree::{Content, Tree, What, show};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where Debian has libraries.
pub(super) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What a program or library needs; nothing when it is neither. [`elf::needs`], or something that remembers its answers.
pub(super) type Needs<'a> = &'a dyn Fn(&Content) -> Result<Option<elf::Elf>>;

/// A tree that is filled from another.
pub(super) struct Taking<'a> {
    /// What it is filled from.
    pub(super) from: &'a Tree,
    /// What was taken so far.
    pub(super) into: Tree,
    seen: BTreeSet<String>,
    /// `the initrd`, for messages.
    whose: &'a str,
    needs: Needs<'a>,
}

impl<'a> Taking<'a> {
    /// Begins with the links of a merged-/usr system.
    ///
    /// # Errors
    /// Never in practice: an empty tree takes links.
    pub(super) fn new(from: &'a Tree, whose: &'a str, origin: &Arc<str>, needs: Needs<'a>) -> Result<Self> {
        let mut into = Tree::new();
        for name in MERGED {
            into.directory(&format!("usr/{name}"), 0o755, origin)?;
            into.symlink(name, &format!("usr/{name}"), origin)?;
        }
        Ok(Self { from, into, seen: BTreeSet::new(), whose, needs })
    }

    /// Takes a path, what its links lead to, what is below it, and the libraries that its programs need.
    ///
    /// # Errors
    /// [`Kind::Build`] when no package has the path, or a library that is needed.
    pub(super) fn take(&mut self, path: &str) -> Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let Some(node) = self.from.get(path).cloned() else {
            let message = format!("{} needs `{path}`, which none of its packages has", self.whose);
            return Err(Fault::new(Kind::Build, message).into());
        };
        match &node.what {
            What::Directory => {
                let below: Vec<String> = self.from.below(path.as_bytes()).map(|(path, _)| show(path)).collect();
                below.iter().try_for_each(|path| self.take(path))
            }
            What::Symlink(_) => {
                self.into.put(path, node)?;
                // `/dev/null` and the like lead out of the packages.
                let target = self.from.resolve(path).filter(|target| self.from.get(target).is_some());
                target.map_or(Ok(()), |target| self.take(&show(&target)))
            }
            What::HardLink(target) => {
                let target = show(target);
                self.into.put(path, node)?;
                self.take(&target)
            }
            What::File(content) => {
                let needs = (self.needs)(content)?;
                self.into.put(path, node)?;
                needs.map_or(Ok(()), |needs| self.take_needs(path, &needs))
            }
            _ => self.into.put(path, node),
        }
    }

    fn take_needs(&mut self, path: &str, needs: &elf::Elf) -> Result<()> {
        if let Some(interpreter) = &needs.interpreter {
            // `/lib64` is a link to `usr/lib64` in every merged tree.
            let path = interpreter.trim_start_matches('/');
            let path = if path.starts_with("lib") { format!("usr/{path}") } else { path.to_owned() };
            self.take(&path)?;
        }
        for name in &needs.needed {
            let library = self.library(name, Some((path, needs)))?;
            self.take(&library)?;
        }
        // What is only recommended may be missing: these programs look before they open.
        for name in &needs.dlopen {
            if let Ok(library) = self.library(name, Some((path, needs))) {
                self.take(&library)?;
            }
        }
        Ok(())
    }

    /// Where a library is: in the directories that its user names, then in the usual one.
    ///
    /// # Errors
    /// [`Kind::Build`] when it is nowhere.
    pub(super) fn library(&self, name: &str, user: Option<(&str, &elf::Elf)>) -> Result<String> {
        let own = user.and_then(|(path, _)| path.rsplit_once('/')).map_or("", |(dir, _)| dir);
        let named = user.into_iter().flat_map(|(_, needs)| &needs.runpath);
        let named = named.map(|dir| dir.replace("$ORIGIN", own).trim_start_matches('/').to_owned());
        let usual = [LIBRARIES.to_owned(), format!("{LIBRARIES}/systemd"), "usr/lib64".to_owned()];
        let mut places = named.chain(usual).map(|dir| format!("{dir}/{name}"));
        places.find(|path| self.from.content(path).is_some()).ok_or_else(|| {
            let user = user.map_or(self.whose, |(path, _)| path);
            let message = format!("`{user}` needs the library `{name}`, which no package of {} has", self.whose);
            Fault::new(Kind::Build, message).into()
        })
    }
}
