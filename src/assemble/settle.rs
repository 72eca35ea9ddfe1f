//! The last word on a root: what must hold of every image whatever its roles brought. Each rule names what it prevents.

use super::trust;
use crate::error::Result;
use crate::tree::{Node, Tree, What, show};
use std::fmt::Write as _;
use std::sync::Arc;

/// Directories that exist for others to be mounted on, or because programs expect them.
const DIRECTORIES: &[(&str, u16)] = &[
    ("boot", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o755),
    ("usr", 0o755),
    ("var", 0o755),
];

/// Makes a root ready to be sealed. `os_release` is the image's own.
///
/// # Errors
/// As [`Tree::put`].
pub(super) fn settle(tree: &mut Tree, os_release: &str) -> Result<()> {
    let origin: Arc<str> = Arc::from("assemble settle");
    for (path, mode) in DIRECTORIES {
        tree.directory(path, *mode, &origin)?;
    }
    trust::collect(tree)?;
    var_to_factory(tree)?;
    without_sealed_paths(tree)?;
    tree.remove("boot");
    tree.directory("boot", 0o755, &origin)?;
    // The initrd binds the lasting id from /var over this file; without the file there would be nothing to bind to.
    tree.file("etc/machine-id", 0o444, "", &origin)?;
    if tree.get("usr/lib/systemd/systemd-resolved").is_some() {
        tree.symlink("etc/resolv.conf", "../run/systemd/resolve/resolv.conf", &origin)?;
    }
    tree.symlink("etc/mtab", "../proc/self/mounts", &origin)?;
    tree.file("usr/lib/os-release", 0o644, os_release, &origin)?;
    tree.symlink("etc/os-release", "../usr/lib/os-release", &origin)?;
    // systemd takes this file's modification time, which is the image's epoch, as the floor of the clock.
    tree.file("usr/lib/clock-epoch", 0o644, "", &origin)?;
    // No cache of the linker: Debian's directories are built into it, and a stale cache would win over them.
    tree.remove("etc/ld.so.cache");
    harmless(tree);
    Ok(())
}

/// Makes a container's tree ready to be packed. Its file system is writable while it runs, so it needs no more than that.
///
/// # Errors
/// As [`Tree::put`].
pub(super) fn container(tree: &mut Tree) -> Result<()> {
    // Debian's directories are built into the linker, and a stale cache would win over them.
    tree.remove("etc/ld.so.cache");
    trust::collect(tree)?;
    harmless(tree);
    // The one place where a program that is not root's may write; nothing else mounts one there.
    tree.directory("tmp", 0o1777, &Arc::from("assemble settle"))
}

/// Directories of base-files that its script makes links into `/run`, as systemd's own lines do where nothing is in the
/// way. As directories of `/var` they would outlive a reboot with the sockets and pid files of who still uses those names,
/// and who looks for `/run/docker.sock` as `/var/run/docker.sock` would not find it.
const LINKS: [&[u8]; 2] = [b"var/lock", b"var/run"];

/// Where copies of what packages have in `/var` are.
const FACTORY: &[u8] = b"usr/share/factory/";

/// `/var` is empty at first boot: what packages want there is made by systemd-tmpfiles, from a copy below `/usr`.
fn var_to_factory(tree: &mut Tree) -> Result<()> {
    let origin: Arc<str> = Arc::from("assemble settle");
    let mut lines = String::from("# Made of the packages' own /var.\n");
    let nodes: Vec<(Vec<u8>, Node)> = tree.below(b"var").map(|(path, node)| (path.to_vec(), node.clone())).collect();
    for (path, node) in nodes {
        let (copy, shown) = ([FACTORY, &path].concat(), field(&path));
        // A hard link has mode and owner of the file.
        let inode = if let What::HardLink(file) = &node.what { tree.get(file).unwrap_or(&node) } else { &node };
        let (mode, uid, gid) = (inode.mode & 0o7777, inode.uid, inode.gid);
        match &node.what {
            What::Directory if LINKS.contains(&path.as_slice()) => {}
            What::Directory => {
                let _ = writeln!(lines, "d {shown} {mode:04o} {uid} {gid} -");
            }
            What::Symlink(target) => {
                let _ = writeln!(lines, "L {shown} - - - - {}", argument(target));
            }
            What::File(_) | What::HardLink(_) => {
                let from = argument(&[b"/", copy.as_slice()].concat());
                let _ = writeln!(lines, "C {shown} {mode:04o} {uid} {gid} - {from}");
                tree.put(copy, node)?;
            }
            _ => {}
        }
    }
    // Hard links to files of /var, also those from elsewhere, are links to the copies now.
    let links: Vec<Vec<u8>> =
        tree.iter().filter(|(_, node)| in_var(&node.what)).map(|(path, _)| path.to_vec()).collect();
    for link in links {
        if let Some(What::HardLink(file)) = tree.get_mut(link).map(|node| &mut node.what) {
            *file = [FACTORY, file].concat();
        }
    }
    tree.remove("var");
    tree.directory("var", 0o755, &origin)?;
    tree.file("usr/lib/tmpfiles.d/00-nodelith-var.conf", 0o644, lines, &origin)
}

/// Whether it is another name of a file in `/var`.
fn in_var(what: &What) -> bool {
    matches!(what, What::HardLink(file) if file.starts_with(b"var/"))
}

/// A path as a field of tmpfiles.d(5), where blanks part fields and `%` begins a specifier.
fn field(path: &[u8]) -> String {
    let text = escaped(path);
    if text.contains([' ', '\'', '\\']) { format!("\"/{text}\"") } else { format!("/{text}") }
}

/// The last field of a line of tmpfiles.d(5), which no quotes hold together: a blank at its end would be lost.
fn argument(text: &[u8]) -> String {
    escaped(text).replace(' ', "\\x20")
}

fn escaped(text: &[u8]) -> String {
    let escape = |c: char| match c {
        '%' => "%%".into(),
        '\\' | '"' => format!("\\{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    String::from_utf8_lossy(text).chars().map(escape).collect()
}

/// What systemd-tmpfiles can only fail at: lines for places in the sealed root. Each would be a warning in the journal of
/// every boot, and people learn to read over warnings.
fn without_sealed_paths(tree: &mut Tree) -> Result<()> {
    let sealed = |line: &str| {
        let path = line.split_whitespace().nth(1).unwrap_or_default();
        !line.starts_with('#') && ["/etc/", "/root", "/usr/"].iter().any(|place| path.starts_with(place))
    };
    let files = tree.below(b"usr/lib/tmpfiles.d").map(|(path, _)| path.to_vec()).collect::<Vec<_>>();
    for path in files {
        let Some(content) = tree.content(&path) else { continue };
        let text = String::from_utf8_lossy(&content.read()?).into_owned();
        if text.lines().any(sealed) {
            let kept: String = text.lines().filter(|line| !sealed(line)).map(|line| format!("{line}\n")).collect();
            tree.file(&show(&path), 0o644, kept, &Arc::from("assemble settle"))?;
        }
    }
    Ok(())
}

/// No file gives whoever runs it more rights than they have, and none can be written by everybody.
fn harmless(tree: &mut Tree) {
    let paths: Vec<Vec<u8>> = tree.iter().map(|(path, _)| path.to_vec()).collect();
    for path in paths {
        if let Some(node) = tree.get_mut(&path) {
            if !matches!(node.what, What::Symlink(_)) {
                node.mode &= !0o6002;
            }
            node.xattrs.remove(b"security.capability".as_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_the_sealed_root_are_taken_out() {
        let mut tree = Tree::new();
        let text = "# /etc/x\nd /run/x 0755 - - -\nL+ /etc/mtab - - - - x\nd- /root/.ssh :0700 - - -\n";
        tree.file("usr/lib/tmpfiles.d/x.conf", 0o644, text, &Arc::from("test")).unwrap();
        settle(&mut tree, "ID=debian\n").unwrap();
        let kept = tree.content("usr/lib/tmpfiles.d/x.conf").unwrap().read().unwrap();
        assert_eq!(String::from_utf8(kept).unwrap(), "# /etc/x\nd /run/x 0755 - - -\n");
    }

    #[test]
    fn nothing_is_setuid_world_writable_or_in_var() {
        let origin: Arc<str> = Arc::from("test");
        let mut tree = Tree::new();
        tree.file("usr/bin/su", 0o4755, "x", &origin).unwrap();
        tree.file("var/lib/x/state", 0o666, "x", &origin).unwrap();
        tree.directory("var/run", 0o755, &origin).unwrap();
        tree.get_mut("usr/bin/su").unwrap().xattrs.insert(b"security.capability".to_vec(), vec![1]);
        settle(&mut tree, "ID=debian\n").unwrap();
        assert_eq!(tree.get("usr/bin/su").unwrap().mode, 0o755);
        assert!(tree.get("usr/bin/su").unwrap().xattrs.is_empty());
        assert_eq!(tree.below(b"var").count(), 0);
        let lines = tree.content("usr/lib/tmpfiles.d/00-nodelith-var.conf").unwrap().read().unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.contains("d /var/lib/x 0755 0 0 -\n"), "{lines}");
        assert!(!lines.contains("/var/run"), "systemd's own line makes the link: {lines}");
        assert!(lines.contains("C /var/lib/x/state 0666 0 0 - /usr/share/factory/var/lib/x/state\n"), "{lines}");
        assert_eq!(tree.get("usr/share/factory/var/lib/x/state").unwrap().mode, 0o664);
    }

    /// The lines that make `/var`.
    fn lines(tree: &mut Tree) -> String {
        settle(tree, "ID=debian\n").unwrap();
        let lines = tree.content("usr/lib/tmpfiles.d/00-nodelith-var.conf").unwrap().read().unwrap();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn hard_links_to_files_in_var_get_lines_or_follow_their_file() {
        let origin: Arc<str> = Arc::from("test");
        let mut tree = Tree::new();
        tree.file("var/lib/file", 0o640, "x", &origin).unwrap();
        tree.get_mut("var/lib/file").unwrap().uid = 7;
        tree.file("usr/file", 0o600, "y", &origin).unwrap();
        for (link, file) in [("usr/out", "var/lib/file"), ("var/lib/in", "usr/file"), ("var/lib/too", "var/lib/file")] {
            tree.put(link, Node::new(What::HardLink(file.into()), 0o777, &origin)).unwrap();
        }
        let lines = lines(&mut tree);
        for line in ["file 0640 7 0", "in 0600 0 0", "too 0640 7 0"] {
            let name = line.split(' ').next().unwrap();
            let line = format!("C /var/lib/{line} - /usr/share/factory/var/lib/{name}\n");
            assert!(lines.contains(&line), "{line}{lines}");
        }
        let copied = [("usr/out", "x"), ("usr/share/factory/var/lib/in", "y"), ("usr/share/factory/var/lib/too", "x")];
        for (path, text) in copied {
            assert_eq!(tree.content(path).unwrap().read().unwrap(), text.as_bytes(), "{path}");
        }
    }

    #[test]
    fn odd_names_are_escaped() {
        let origin: Arc<str> = Arc::from("test");
        let mut tree = Tree::new();
        tree.file("var/a b/50%\"\\'", 0o644, "", &origin).unwrap();
        tree.symlink("var/l", "t o\\%", &origin).unwrap();
        let lines = lines(&mut tree);
        let file = r#"C "/var/a b/50%%\"\\'" 0644 0 0 - /usr/share/factory/var/a\x20b/50%%\"\\'"#;
        for line in ["d \"/var/a b\" 0755 0 0 -", file, r"L /var/l - - - - t\x20o\\%%"] {
            assert!(lines.lines().any(|found| found == line), "{line}\n{lines}");
        }
    }
}
