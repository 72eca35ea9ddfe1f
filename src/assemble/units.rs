//! Enablement, done at build as `systemctl preset-all` would: what roles list is enabled, everything else is not, and of
//! what packages start without being asked, what a node has no use for is left alone or masked.

use crate::error::{Fault, Kind, Result, kind_of};
use crate::spec::Role;
use crate::tree::{Content, Tree, show};
use std::sync::Arc;

/// Where packages and roles bring unit files.
const PACKAGED: &str = "usr/lib/systemd/system";

/// Where unit files may be, the stronger first.
const PLACES: [&str; 2] = ["etc/systemd/system", PACKAGED];

/// Units that have no place on a sealed node, by what they would do. Each one that starts costs every boot its process
/// and its cgroup, which adds up to seconds under emulation.
const MASKED: &[&str] = &[
    // Write to /etc or to /usr's caches.
    "ldconfig.service",
    "systemd-boot-update.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-machine-id-commit.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    // Ask at a console, or open a shell.
    "console-getty.service",
    "container-getty@.service",
    "debug-shell.service",
    "getty-static.service",
    "getty.target",
    "getty@.service",
    "serial-getty@.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-user-sessions.service",
    // Change what the sealed root holds, or take device rules and links from a credential.
    "systemd-confext.service",
    "systemd-sysext.service",
    "systemd-sysext.socket",
    "systemd-network-generator.service",
    "systemd-udev-load-credentials.service",
    // Open the kernel's inner side: tracing and debugging files, file systems and formats from user space.
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    // Serve what no program of a node asks for.
    "systemd-creds.socket",
    "systemd-hostnamed.socket",
    "systemd-initctl.socket",
    "systemd-networkd-persistent-storage.service",
    // What the initrd has done: partitions are made, and there is no fstab to mount more by.
    "systemd-remount-fs.service",
    "systemd-repart.service",
];

/// Units that the packages start at every boot, and that stay for who starts them by name. Device nodes are made by the
/// kernel when it loads the modules, which are named in the image; the others look for hibernation, foreign formats of
/// programs, or a TPM.
const UNSTARTED: &[&str] = &[
    "kmod-static-nodes.service",
    "systemd-binfmt.service",
    "systemd-hibernate-clear.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
];

/// Takes away what the packages pull in by `.wants` though it must not or need not start: a masked unit that is pulled in
/// is one more that the first process looks at. Before roles bring their files: they may want one back.
pub(super) fn unlink(tree: &mut Tree) {
    let pulls = |path: &str| {
        let (dir, unit) = path.rsplit_once('/')?;
        let pulled = dir.ends_with(".wants") && (UNSTARTED.contains(&unit) || MASKED.contains(&unit));
        pulled.then(|| path.to_owned())
    };
    let links: Vec<String> = tree.below(PACKAGED.as_bytes()).filter_map(|(path, _)| pulls(&show(path))).collect();
    for link in links {
        tree.remove(link);
    }
}

/// Enables the roles' units, masks what must not run, and writes the preset that says so.
///
/// # Errors
/// [`Kind::Spec`] when a role lists a unit that is not in the image or cannot be enabled; [`Kind::Integrity`] when a
/// unit's file was damaged in the store; as [`Tree::put`].
pub(super) fn enable(tree: &mut Tree, roles: &[Role]) -> Result<()> {
    let origin: Arc<str> = Arc::from("assemble units");
    let mut preset = String::from("# Everything is off but what the image's roles list.\n");
    for role in roles {
        for unit in &role.units {
            preset += &format!("enable {unit}\n");
            enable_one(tree, unit, &Arc::from(format!("role {}", role.name)), 0).map_err(|error| {
                let what = format!("role {}: the unit {unit} cannot be enabled", role.name);
                match kind_of(&error) {
                    Kind::Spec => {
                        let hint = format!("see `units` in {}", role.dir.join("role.toml").display());
                        error.context(Fault::new(Kind::Spec, what).hint(hint))
                    }
                    // Damage must stay damage: whoever built has the store mended then.
                    _ => error.context(what),
                }
            })?;
        }
    }
    preset += "disable *\n";
    tree.file("usr/lib/systemd/system-preset/00-nodelith.preset", 0o644, preset, &origin)?;
    for unit in MASKED {
        tree.symlink(&format!("etc/systemd/system/{unit}"), "/dev/null", &origin)?;
    }
    tree.symlink("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target", &origin)
}

fn enable_one(tree: &mut Tree, unit: &str, origin: &Arc<str>, depth: usize) -> Result<()> {
    let refuse = |why: String| Fault::new(Kind::Spec, why);
    // `foo@bar.service` is an instance of the template `foo@.service`.
    let (file, instance) = match unit.split_once('@') {
        Some((name, rest)) if !rest.starts_with('.') => {
            let (instance, suffix) = rest.rsplit_once('.').unwrap_or((rest, "service"));
            (format!("{name}@.{suffix}"), instance.to_owned())
        }
        _ => (unit.to_owned(), String::new()),
    };
    let path = PLACES.iter().map(|place| format!("{place}/{file}")).find(|path| tree.content(path).is_some());
    let path = path.ok_or_else(|| refuse(format!("{file} is in no package and no role")))?;
    let content = tree.content(&path).map(Content::read).transpose()?;
    let text = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
    let install = install_section(&text);
    if install.is_empty() {
        return Err(refuse("it has no [Install] section".into()).into());
    }
    let target = format!("/{path}");
    for (key, value) in install {
        for word in value.split_whitespace() {
            let word = word.replace("%i", &instance).replace("%n", unit);
            let link = match key.as_str() {
                "WantedBy" => format!("etc/systemd/system/{word}.wants/{unit}"),
                "RequiredBy" => format!("etc/systemd/system/{word}.requires/{unit}"),
                "UpheldBy" => format!("etc/systemd/system/{word}.upholds/{unit}"),
                "Alias" => format!("etc/systemd/system/{word}"),
                "Also" if depth < 4 => {
                    enable_one(tree, &word, origin, depth + 1)?;
                    continue;
                }
                _ => continue,
            };
            tree.symlink(&link, &target, origin)?;
        }
    }
    Ok(())
}

/// Keys and values of a unit's `[Install]` section; a line that ends in a backslash goes on in the next.
fn install_section(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let mut inside = false;
    let mut keys = Vec::new();
    for line in joined.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            keys.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Node, What};

    #[test]
    fn what_pulls_a_unit_in_goes_and_the_unit_stays() {
        let origin = Arc::from("test");
        let mut tree = Tree::new();
        for unit in ["kmod-static-nodes.service", "getty.target", "systemd-udevd.service"] {
            tree.file(&format!("{PACKAGED}/{unit}"), 0o644, "", &origin).unwrap();
            tree.symlink(&format!("{PACKAGED}/sysinit.target.wants/{unit}"), &format!("../{unit}"), &origin).unwrap();
        }
        unlink(&mut tree);
        let left: Vec<String> = tree.below(PACKAGED.as_bytes()).map(|(path, _)| show(path)).collect();
        let pulled = "sysinit.target.wants/systemd-udevd.service";
        let stay =
            ["getty.target", "kmod-static-nodes.service", "sysinit.target.wants", pulled, "systemd-udevd.service"];
        assert_eq!(left, stay.map(|name| format!("{PACKAGED}/{name}")));
    }

    fn tree(units: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (unit, text) in units {
            tree.file(&format!("{PACKAGED}/{unit}"), 0o644, *text, &Arc::from("test")).unwrap();
        }
        tree
    }

    #[test]
    fn instances_are_linked_to_their_template() {
        let mut tree = tree(&[("cert@.service", "[Unit]\n[Install]\nWantedBy=a.target \\\n b.target\n")]);
        enable_one(&mut tree, "cert@x.service", &Arc::from("test"), 0).unwrap();
        let link = tree.get("etc/systemd/system/b.target.wants/cert@x.service").unwrap();
        assert_eq!(link.what, What::Symlink(b"/usr/lib/systemd/system/cert@.service".to_vec()));
    }

    #[test]
    fn what_cannot_be_enabled_says_why() {
        let mut tree = tree(&[("static.service", "[Service]\n"), ("a.service", "[Install]\nAlso=b.service\n")]);
        for (unit, why) in
            [("static.service", "no [Install]"), ("none.service", "in no package"), ("a.service", "b.service is in no")]
        {
            let error = enable_one(&mut tree, unit, &Arc::from("test"), 0).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Spec);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_damaged_unit_is_no_fault_of_the_spec() {
        let mut tree = Tree::new();
        let damaged = Content::in_source(crate::digest::Sha256::of(b"b"), 1, Arc::new(b"a".to_vec()), 0);
        let node = Node::new(What::File(damaged), 0o644, &Arc::from("test"));
        tree.put(format!("{PACKAGED}/a.service"), node).unwrap();
        let error = enable_one(&mut tree, "a.service", &Arc::from("test"), 0).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Integrity, "{error:#}");
    }
}
