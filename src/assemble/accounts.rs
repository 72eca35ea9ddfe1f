//! Users and groups, from base-passwd's masters and from sysusers.d(5), as their scripts would make them. Every password
//! is locked and nobody has a login shell.

use crate::error::{Fault, Kind, Result};
use crate::tree::{Tree, show};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Where ids without a number are given out from, downwards, as systemd-sysusers does (SYS_UID_MAX).
const HIGHEST: u32 = 999;

#[derive(Debug, Clone)]
struct User {
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
}

/// The accounts of an image.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, u32>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Accounts {
    /// Reads what the tree's packages and roles ask for.
    ///
    /// # Errors
    /// [`Kind::Build`] when a line asks for what cannot be: an id twice, an unknown kind of line.
    pub(super) fn of(tree: &Tree) -> Result<Self> {
        let mut accounts = Self::default();
        if let Some(master) = text(tree, b"usr/share/base-passwd/group.master")? {
            for line in master.lines() {
                if let [name, _, gid, ..] = line.split(':').collect::<Vec<_>>()[..]
                    && let Ok(gid) = gid.parse()
                {
                    accounts.groups.insert(name.into(), gid);
                }
            }
        }
        if let Some(master) = text(tree, b"usr/share/base-passwd/passwd.master")? {
            for line in master.lines() {
                if let [name, _, uid, gid, gecos, home, ..] = line.split(':').collect::<Vec<_>>()[..]
                    && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
                {
                    accounts.users.insert(name.into(), User { uid, gid, gecos: gecos.into(), home: home.into() });
                }
            }
        }
        let dir = b"usr/lib/sysusers.d";
        let files: Vec<_> =
            tree.below(dir).filter(|(path, _)| path.ends_with(b".conf")).map(|(path, _)| path.to_vec()).collect();
        // Groups first: a user line may name the group of another file.
        for kinds in ["g", "u", "m"] {
            for path in &files {
                let Some(content) = text(tree, path)? else { continue };
                for line in content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                    let refused = |why: String| Fault::new(Kind::Build, format!("{}: `{line}`: {why}", show(path)));
                    accounts.line(kinds, &words(line)).map_err(refused)?;
                }
            }
        }
        Ok(accounts)
    }

    /// One line of sysusers.d, if it is of the wanted kind.
    fn line(&mut self, wanted: &str, words: &[String]) -> Result<(), String> {
        let word = |at: usize| words.get(at).map(String::as_str).filter(|word| *word != "-");
        let kind = words.first().map_or("", |kind| kind.trim_end_matches(['!', '+', '-', '=']));
        if !["u", "g", "m", "r"].contains(&kind) {
            return Err(format!("`{kind}` is not a kind of line that sysusers.d(5) knows"));
        }
        let name = word(1).unwrap_or_default();
        if kind != wanted || (name.is_empty() && kind != "r") {
            return Ok(());
        }
        match kind {
            "g" if !self.groups.contains_key(name) => {
                let gid = match word(2) {
                    Some(id) => id.parse().map_err(|_| format!("`{id}` is not a group id"))?,
                    None => self.free()?,
                };
                if let Some((other, _)) = self.groups.iter().find(|(_, id)| **id == gid) {
                    return Err(format!("the id {gid} is the group {other}'s already"));
                }
                self.groups.insert(name.into(), gid);
            }
            "u" if !self.users.contains_key(name) => self.user(name, word(2), word(3), word(4))?,
            "m" => {
                let group = word(2).ok_or("no group")?.to_owned();
                if !self.groups.contains_key(&group) {
                    let gid = self.free()?;
                    self.groups.insert(group.clone(), gid);
                }
                self.members.entry(group).or_default().insert(name.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn user(&mut self, name: &str, id: Option<&str>, gecos: Option<&str>, home: Option<&str>) -> Result<(), String> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not an id"));
        let (uid, gid) = match id.map(|id| id.split_once(':').unwrap_or((id, ""))) {
            None => {
                let uid = self.groups.get(name).copied().map_or_else(|| self.free(), Ok)?;
                (uid, uid)
            }
            Some((uid, "")) => {
                let uid = number(uid)?;
                let foreign = self.groups.values().any(|gid| *gid == uid);
                // As systemd-sysusers: of a group of another name, a user does not become a member by its number.
                let own = || if foreign { self.free() } else { Ok(uid) };
                (uid, self.groups.get(name).copied().map_or_else(own, Ok)?)
            }
            Some((uid, group)) => {
                let gid = self.groups.get(group).copied().map_or_else(|| number(group), Ok)?;
                (if uid == "-" { self.free()? } else { number(uid)? }, gid)
            }
        };
        if let Some((other, _)) = self.users.iter().find(|(_, user)| user.uid == uid) {
            return Err(format!("the id {uid} is {other}'s already"));
        }
        if !self.groups.values().any(|group| *group == gid) {
            self.groups.insert(name.into(), gid);
        }
        let user = User { uid, gid, gecos: gecos.unwrap_or_default().into(), home: home.unwrap_or("/").into() };
        self.users.insert(name.into(), user);
        Ok(())
    }

    /// The highest id that neither a user nor a group has.
    fn free(&self) -> Result<u32, String> {
        let taken =
            |id: &u32| self.users.values().any(|user| user.uid == *id) || self.groups.values().any(|gid| gid == id);
        (1..=HIGHEST).rev().find(|id| !taken(id)).ok_or_else(|| "no id is free below 1000".into())
    }

    /// As [`Accounts::write`], unless nobody asked for any: most containers run under a bare number.
    ///
    /// # Errors
    /// As [`Accounts::write`].
    pub(super) fn write_if_any(&self, tree: &mut Tree) -> Result<()> {
        if self.users.is_empty() && self.groups.is_empty() { Ok(()) } else { self.write(tree) }
    }

    /// Writes passwd, group, shadow and gshadow.
    ///
    /// # Errors
    /// As [`Tree::file`].
    pub(super) fn write(&self, tree: &mut Tree) -> Result<()> {
        let origin: Arc<str> = Arc::from("assemble accounts");
        let (mut passwd, mut shadow, mut group, mut gshadow) =
            (String::new(), String::new(), String::new(), String::new());
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|(_, user)| user.uid);
        for (name, user) in users {
            let User { uid, gid, gecos, home } = user;
            let _ = writeln!(passwd, "{name}:x:{uid}:{gid}:{gecos}:{home}:/usr/sbin/nologin");
            let _ = writeln!(shadow, "{name}:!*:::::::");
        }
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, gid)| **gid);
        for (name, gid) in groups {
            let members = self.members.get(name).map(|members| members.iter().cloned().collect::<Vec<_>>().join(","));
            let members = members.unwrap_or_default();
            let _ = writeln!(group, "{name}:x:{gid}:{members}");
            let _ = writeln!(gshadow, "{name}:!*::{members}");
        }
        tree.file("etc/passwd", 0o644, passwd, &origin)?;
        tree.file("etc/group", 0o644, group, &origin)?;
        tree.file("etc/shadow", 0o600, shadow, &origin)?;
        tree.file("etc/gshadow", 0o600, gshadow, &origin)
    }
}

/// A file's text, if it is there.
fn text(tree: &Tree, path: &[u8]) -> Result<Option<String>> {
    let Some(content) = tree.content(path) else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(&content.read()?).into_owned()))
}

/// Splits a line at blanks, double quotes holding words together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut open) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, open) = (true, !open),
            c if c.is_whitespace() && !open => {
                if quoted || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                quoted = false;
            }
            c => word.push(c),
        }
    }
    if quoted || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        let origin = Arc::from("test");
        for (path, text) in files {
            tree.file(path, 0o644, *text, &origin).unwrap();
        }
        tree
    }

    const MASTERS: [(&str, &str); 2] = [
        (
            "usr/share/base-passwd/passwd.master",
            "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/bin/sh\n",
        ),
        ("usr/share/base-passwd/group.master", "root:*:0:\nnogroup:*:65534:\nadm:*:4:\n"),
    ];

    #[test]
    fn everyone_is_locked_out_and_ids_are_stable() {
        let mut files = MASTERS.to_vec();
        files.push(("usr/lib/sysusers.d/b.conf", "u etcd - \"etcd store\" /var/lib/etcd\nm etcd adm\n"));
        files.push(("usr/lib/sysusers.d/a.conf", "# c\ng render -\nu! web 88:adm\n"));
        let mut tree = tree(&files);
        let accounts = Accounts::of(&tree).unwrap();
        accounts.write(&mut tree).unwrap();
        let read = |path: &str| String::from_utf8(tree.content(path).unwrap().read().unwrap()).unwrap();
        assert_eq!(accounts.users["etcd"].uid, 998);
        assert_eq!((accounts.users["web"].uid, accounts.users["web"].gid), (88, 4));
        assert_eq!(accounts.groups["render"], 999);
        assert!(read("etc/passwd").contains("etcd:x:998:998:etcd store:/var/lib/etcd:/usr/sbin/nologin\n"));
        assert!(read("etc/group").contains("adm:x:4:etcd\n"));
        assert!(read("etc/shadow").lines().all(|line| line.contains(":!*:")));
        assert!(!read("etc/passwd").contains("/bin/sh"));
    }

    #[test]
    fn a_number_alone_makes_nobody_a_member_of_another_group() {
        let mut files = MASTERS.to_vec();
        files.push(("usr/lib/sysusers.d/a.conf", "u x 4\nu y 77\nu z 78:adm\n"));
        let accounts = Accounts::of(&tree(&files)).unwrap();
        let group = |user: &str| accounts.users[user].gid;
        assert_eq!((group("x"), group("y"), group("z")), (999, 77, 4));
        assert_eq!((accounts.groups["x"], accounts.groups["y"], accounts.groups["adm"]), (999, 77, 4));
    }

    #[test]
    fn wrong_lines_name_file_and_line() {
        for (text, why) in [
            ("x a -\n", "not a kind"),
            ("u a abc\n", "not an id"),
            ("u a 0\n", "root's already"),
            ("g a 500\ng b 500\n", "the group a's already"),
            ("g a -\ng b 999\n", "a's already"),
        ] {
            let mut files = MASTERS.to_vec();
            files.push(("usr/lib/sysusers.d/x.conf", text));
            let error = Accounts::of(&tree(&files)).unwrap_err();
            assert!(error.to_string().contains(why) && error.to_string().contains("x.conf"), "{error}");
        }
    }
}
