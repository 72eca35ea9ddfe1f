//! What systemd and udev bring for machines of another kind, and do at every boot to find out that it is not theirs.
//! Under emulation each of these costs a boot a tenth of a second, in the first process or beside it. A role that wants
//! one back brings the file in its `rootfs`.

use crate::tree::Tree;

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

/// Takes both out of a root, before roles bring their files.
pub(super) fn trim(tree: &mut Tree) {
    for name in GENERATORS {
        tree.remove(format!("usr/lib/systemd/system-generators/{name}"));
    }
    for name in RULES {
        tree.remove(format!("usr/lib/udev/rules.d/{name}.rules"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_a_node_has_no_use_for_goes_and_its_neighbours_stay() {
        let mut tree = Tree::new();
        let gone = ["systemd/system-generators/systemd-run-generator", "udev/rules.d/70-memory.rules"];
        let stays = ["systemd/system-generators/systemd-fstab-generator", "udev/rules.d/60-persistent-storage.rules"];
        for path in gone.iter().chain(&stays) {
            tree.file(&format!("usr/lib/{path}"), 0o755, "", &Arc::from("test")).unwrap();
        }
        trim(&mut tree);
        for path in gone {
            assert!(tree.get(format!("usr/lib/{path}")).is_none(), "{path}");
        }
        for path in stays {
            assert!(tree.get(format!("usr/lib/{path}")).is_some(), "{path}");
        }
    }
}
