//! What systemd and udev bring for machines of another kind, and do at every boot to find out that it is not theirs.
//! Under emulation each of these costs a boot a tenth of a second, in the first process or beside it. A role that wants
//! one back brings the file in its `rootfs`.

use crate::tree::{Tree, show};

/// Generators of units: for logins, `/etc/rc.local` and SysV scripts, partitions found by their type, hibernation,
/// offline updates, a TPM, and programs named on the kernel's command line. That of fstab stays, and that of units which
/// come as credentials.
const GENERATORS: &[&str] = &[
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
];

/// Rules of udev for what a node has not: seats with sound, cameras, sensors and pointers, discs, tapes, flash chips, and
/// memory modules, each of which starts a program.
const RULES: &[&str] = &[
    "60-autosuspend",
    "60-cdrom_id",
    "60-drm",
    "60-evdev",
    "60-fido-id",
    "60-persistent-alsa",
    "60-persistent-input",
    "60-persistent-storage-mtd",
    "60-persistent-storage-tape",
    "60-persistent-v4l",
    "60-sensor",
    "64-btrfs",
    "70-camera",
    "70-joystick",
    "70-memory",
    "70-mouse",
    "70-touchpad",
    "70-uaccess",
    "71-seat",
    "73-seat-late",
    "75-probe_mtd",
    "78-sound-card",
    "96-e2scrub",
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

const UNITS: &str = "usr/lib/systemd/system";

/// Takes all that out of a root, before roles bring their files. `masked` units lose what pulls them in: it would only
/// make the first process look at them.
pub(super) fn trim(tree: &mut Tree, masked: &[&str]) {
    for name in GENERATORS {
        tree.remove(format!("usr/lib/systemd/system-generators/{name}"));
    }
    for name in RULES {
        tree.remove(format!("usr/lib/udev/rules.d/{name}.rules"));
    }
    let pulls = |path: &str| {
        let (dir, unit) = path.rsplit_once('/')?;
        let pulled = dir.ends_with(".wants") && (UNSTARTED.contains(&unit) || masked.contains(&unit));
        pulled.then(|| path.to_owned())
    };
    let links: Vec<String> = tree.below(UNITS.as_bytes()).filter_map(|(path, _)| pulls(&show(path))).collect();
    for link in links {
        tree.remove(link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_pulls_a_unit_in_goes_and_the_unit_stays() {
        let origin = Arc::from("test");
        let mut tree = Tree::new();
        for unit in ["kmod-static-nodes.service", "getty.target", "systemd-udevd.service"] {
            tree.file(&format!("{UNITS}/{unit}"), 0o644, "", &origin).unwrap();
            tree.symlink(&format!("{UNITS}/sysinit.target.wants/{unit}"), &format!("../{unit}"), &origin).unwrap();
        }
        tree.file("usr/lib/systemd/system-generators/systemd-fstab-generator", 0o755, "", &origin).unwrap();
        tree.file("usr/lib/systemd/system-generators/systemd-run-generator", 0o755, "", &origin).unwrap();
        tree.file("usr/lib/udev/rules.d/70-memory.rules", 0o644, "", &origin).unwrap();
        trim(&mut tree, &["getty.target"]);
        let left: Vec<String> = tree.below(UNITS.as_bytes()).map(|(path, _)| show(path)).collect();
        let rest = ["getty.target", "kmod-static-nodes.service", "sysinit.target.wants", "systemd-udevd.service"];
        let pulled = "sysinit.target.wants/systemd-udevd.service";
        let mut expected: Vec<String> = rest.iter().chain([&pulled]).map(|name| format!("{UNITS}/{name}")).collect();
        expected.sort();
        assert_eq!(left, expected);
        assert!(tree.get("usr/lib/udev/rules.d/70-memory.rules").is_none());
        assert!(tree.get("usr/lib/systemd/system-generators/systemd-fstab-generator").is_some());
        assert!(tree.get("usr/lib/systemd/system-generators/systemd-run-generator").is_none());
    }
}
