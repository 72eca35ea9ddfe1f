//! Enablement, done at build as `systemctl preset-all` would: what roles list is enabled, everything else is not.

use crate::error::{Fault, Kind, Result};
use crate::spec::Role;
use crate::tree::Tree;
use std::sync::Arc;

/// Where unit files may be, the stronger first.
const PLACES: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Units that have no place on a sealed node, by what they would do. Each one that starts costs every boot its process
/// and its cgroup, which adds up to seconds under emulation.
pub(super) const MASKED: &[&str] = &[
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

/// Enables the roles' units, masks what must not run, and writes the preset that says so.
///
/// # Errors
/// [`Kind::Spec`] when a role lists a unit that is not in the image or cannot be enabled.
pub(super) fn enable(tree: &mut Tree, roles: &[Role]) -> Result<()> {
    let origin: Arc<str> = Arc::from("assemble units");
    let mut preset = String::from("# Everything is off but what the image's roles list.\n");
    for role in roles {
        for unit in &role.units {
            preset += &format!("enable {unit}\n");
            enable_one(tree, unit, &Arc::from(format!("role {}", role.name)), 0).map_err(|why| {
                let fault =
                    Fault::new(Kind::Spec, format!("role {}: the unit {unit} cannot be enabled: {why}", role.name));
                fault.hint(format!("see `units` in {}", role.dir.join("role.toml").display()))
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

fn enable_one(tree: &mut Tree, unit: &str, origin: &Arc<str>, depth: usize) -> Result<(), String> {
    // `foo@bar.service` is an instance of the template `foo@.service`.
    let (file, instance) = match unit.split_once('@') {
        Some((name, rest)) if !rest.starts_with('.') => {
            let (instance, suffix) = rest.rsplit_once('.').unwrap_or((rest, "service"));
            (format!("{name}@.{suffix}"), instance.to_owned())
        }
        _ => (unit.to_owned(), String::new()),
    };
    let path = PLACES.iter().map(|place| format!("{place}/{file}")).find(|path| tree.content(path).is_some());
    let path = path.ok_or_else(|| format!("{file} is in no package and no role"))?;
    let content = tree.content(&path).map(crate::tree::Content::read).transpose().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
    let install = install_section(&text);
    if install.is_empty() {
        return Err("it has no [Install] section".into());
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
            tree.symlink(&link, &target, origin).map_err(|error| error.to_string())?;
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
    use crate::tree::What;

    fn tree(units: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (unit, text) in units {
            tree.file(&format!("usr/lib/systemd/system/{unit}"), 0o644, *text, &Arc::from("test")).unwrap();
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
            assert!(error.contains(why), "{error}");
        }
    }
}
