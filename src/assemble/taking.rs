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

    /// Takes a path, all links on its way and what they lead to, what is below it, and the libraries that its programs
    /// need.
    ///
    /// # Errors
    /// [`Kind::Build`] when no package has the path, or a library that is needed.
    pub(super) fn take(&mut self, path: &str) -> Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let Some(node) = self.from.get(path).cloned() else {
            if self.follow(path)? {
                return Ok(());
            }
            let message = format!("{} needs `{path}`, which none of its packages has", self.whose);
            return Err(Fault::new(Kind::Build, message).into());
        };
        match &node.what {
            What::Directory => {
                self.into.put(path, node)?;
                let below: Vec<String> = self.from.below(path.as_bytes()).map(|(path, _)| show(path)).collect();
                below.iter().try_for_each(|path| self.take(path))
            }
            What::Symlink(_) => {
                self.into.put(path, node)?;
                // `/dev/null` and the like lead out of the packages.
                self.follow(path).map(drop)
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

    /// Takes what a path leads to, and the links on its way: one that is not there would leave those before it dangling.
    /// Of a directory that is only passed nothing else is taken. Says whether the path leads to anything.
    fn follow(&mut self, path: &str) -> Result<bool> {
        let Some((end, links)) = self.from.follow(path) else { return Ok(false) };
        for link in links {
            if let Some(node) = self.from.get(&link).filter(|_| self.into.get(&link).is_none()) {
                self.into.put(&link, node.clone())?;
            }
        }
        if self.from.get(&end).is_none() {
            return Ok(false);
        }
        self.take(&show(&end)).map(|()| true)
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

    /// Where a library is, as its user would look for it: in the directories that the user names, then in the usual ones.
    /// The path may lead through links; [`Taking::take`] takes them too.
    ///
    /// # Errors
    /// [`Kind::Build`] when it is nowhere.
    pub(super) fn library(&self, name: &str, user: Option<(&str, &elf::Elf)>) -> Result<String> {
        let own = user.and_then(|(path, _)| path.rsplit_once('/')).map_or("", |(dir, _)| dir);
        let named = user.into_iter().flat_map(|(_, needs)| &needs.runpath);
        let named = named.map(|dir| dir.replace("${ORIGIN}", own).replace("$ORIGIN", own));
        let named = named.map(|dir| dir.trim_start_matches('/').to_owned());
        let usual = [LIBRARIES.to_owned(), format!("{LIBRARIES}/systemd"), "usr/lib64".to_owned()];
        let mut places = named.chain(usual).map(|dir| format!("{dir}/{name}"));
        places.find(|path| self.from.content(path).is_some()).ok_or_else(|| {
            let user = user.map_or(self.whose, |(path, _)| path);
            let message = format!("`{user}` needs the library `{name}`, which no package of {} has", self.whose);
            Fault::new(Kind::Build, message).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    /// What is taken of a tree with these files and links, whose program `usr/bin/p` needs `libp.so` by this run path.
    fn taken(files: &[&str], links: &[(&str, &str)], runpath: &str, path: &str) -> Result<Vec<String>> {
        let origin: Arc<str> = Arc::from("test");
        let mut from = Tree::new();
        for name in MERGED {
            from.symlink(name, &format!("usr/{name}"), &origin)?;
        }
        for file in files {
            from.file(file, 0o644, *file, &origin)?;
        }
        for (link, target) in links {
            from.symlink(link, target, &origin)?;
        }
        let needs = |content: &Content| {
            let elf = elf::Elf { needed: vec!["libp.so".into()], runpath: vec![runpath.into()], ..elf::Elf::default() };
            Ok((content.read()? == b"usr/bin/p").then_some(elf))
        };
        let mut taking = Taking::new(&from, "x", &origin, &needs)?;
        taking.take(path)?;
        let found = taking.into.iter().filter(|(_, node)| node.what != What::Directory).map(|(path, _)| show(path));
        Ok(found.filter(|path| !MERGED.contains(&path.as_str())).collect())
    }

    #[test]
    fn every_link_on_the_way_is_taken_and_nothing_beside() {
        let files = ["usr/bin/gcc-real", "usr/opt/v1/tool", "usr/opt/v1/other"];
        let links = [
            ("usr/bin/gcc", "gcc-14"),
            ("usr/bin/gcc-14", "/bin/gcc-real"),
            ("usr/bin/tool", "../opt/current/tool"),
            ("usr/opt/current", "v1"),
            ("usr/bin/off", "off-too"),
            ("usr/bin/off-too", "/dev/null"),
        ];
        let take = |path: &str| taken(&files, &links, "", path).unwrap();
        assert_eq!(take("usr/bin/gcc"), ["usr/bin/gcc", "usr/bin/gcc-14", "usr/bin/gcc-real"]);
        let tool = ["usr/bin/tool", "usr/opt/current", "usr/opt/v1/tool"];
        assert_eq!(take("usr/bin/tool"), tool);
        assert_eq!(take("bin/tool"), tool, "by the merged name");
        assert_eq!(take("usr/bin/off"), ["usr/bin/off", "usr/bin/off-too"]);
        assert!(taken(&files, &links, "", "usr/opt/current/none").is_err());
    }

    #[test]
    fn a_directory_is_taken_as_it_is() {
        let mut from = Tree::new();
        let mut node = Node::new(What::Directory, 0o2750, &Arc::from("test"));
        (node.uid, node.gid) = (7, 8);
        for path in ["var/lib/x", "var/lib/x/empty"] {
            from.put(path, node.clone()).unwrap();
        }
        let mut taking = Taking::new(&from, "x", &Arc::from("test"), &|_| Ok(None)).unwrap();
        taking.take("var/lib/x").unwrap();
        assert_eq!(taking.into.get("var/lib/x"), Some(&node));
        assert_eq!(taking.into.get("var/lib/x/empty"), Some(&node));
    }

    #[test]
    fn libraries_are_found_where_the_program_looks() {
        let merged = "usr/lib/x86_64-linux-gnu/private/libp.so";
        for (runpath, file) in [
            ("$ORIGIN/../lib/p", "usr/lib/p/libp.so"),
            ("${ORIGIN}/../lib/p", "usr/lib/p/libp.so"),
            ("/lib/x86_64-linux-gnu/private", merged),
        ] {
            let all = taken(&["usr/bin/p", file], &[], runpath, "usr/bin/p").unwrap();
            assert_eq!(all, ["usr/bin/p", file], "{runpath}");
        }
        let links = [("usr/lib/p", "p-1"), ("usr/lib/p-1/libp.so", "libp.so.1")];
        let all = taken(&["usr/bin/p", "usr/lib/p-1/libp.so.1"], &links, "/usr/lib/p", "usr/bin/p").unwrap();
        assert_eq!(all, ["usr/bin/p", "usr/lib/p", "usr/lib/p-1/libp.so", "usr/lib/p-1/libp.so.1"]);
    }
}
