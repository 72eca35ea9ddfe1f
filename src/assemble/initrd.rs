//! The initrd's tree: what runs between the kernel's start and the switch to the verified root.
//!
//! It is systemd from the locked packages, and nothing that reads commands: no shell, no login, no unit that starts
//! one. Files are taken by name from the package tree, libraries by what the programs say they need, so a package
//! that grows does not grow the initrd. In order:
//!
//! 1. udev finds the disk; the verity generator opens the root by the hash on the kernel's command line;
//! 2. `systemd-repart` makes the partition of `/var` behind the image, once, and grows it with the disk;
//! 3. `/var` is checked, mounted and grown, and the machine's identity, which lives there, is bound over
//!    `/etc/machine-id`;
//! 4. PID 1 switches to the root. Whatever fails on the way ends in [`FAILED`] and a power-off.
//!
//! The root must have the directories `/var`, `/proc`, `/sys`, `/dev`, `/run` and an empty file `/etc/machine-id`.

use super::kernel::{FAST_HASH, put_all};
use super::taking::{Needs, Taking};
use crate::error::Result;
use crate::tree::{Tree, show};
use std::sync::Arc;

/// What the console says when the root could not be reached. `docs` explains the code.
pub(super) const FAILED: &str = "NL-BOOT-001 the system could not be started; see the lines above";

/// Programs, each with the libraries it needs. No `modprobe`: before it starts the first process the kernel would run it
/// two dozen times, for parts of ciphers that it then makes itself. Modules are loaded by name, or by udev.
const PROGRAMS: &[&str] = &[
    "usr/bin/mount",
    "usr/bin/systemctl",
    "usr/bin/systemd-machine-id-setup",
    "usr/bin/systemd-repart",
    "usr/bin/systemd-tmpfiles",
    "usr/bin/udevadm",
    "usr/bin/umount",
    "usr/lib/systemd/system-generators/systemd-fstab-generator",
    "usr/lib/systemd/system-generators/systemd-veritysetup-generator",
    "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd-executor",
    "usr/lib/systemd/systemd-growfs",
    "usr/lib/systemd/systemd-modules-load",
    "usr/lib/systemd/systemd-shutdown",
    "usr/lib/systemd/systemd-udevd",
    "usr/lib/systemd/systemd-veritysetup",
    "usr/sbin/dmsetup",
    "usr/sbin/e2fsck",
    "usr/sbin/mke2fs",
    "usr/sbin/mkfs.ext4",
];

/// Libraries that programs open while running and call a mere suggestion, though nothing works here without them.
const OPENED: &[&str] = &["libblkid.so.1", "libcryptsetup.so.12", "libfdisk.so.1", "libkmod.so.2", "libmount.so.1"];

/// Units, with the links in `*.wants` between them. Not `systemd-gpt-auto-generator` nor `systemd-debug-generator`:
/// the first takes what it finds for what is meant, the other runs units from credentials, which are for the root. Nor
/// what makes static device nodes: the modules whose nodes are needed are loaded by name, and devtmpfs has their nodes. Nor
/// a journal: here nobody can read one, and what units say goes to the kernel's log, from which the root's journal has it.
/// Nor `initrd-parse-etc.service`, which reads an fstab that no root has.
const UNITS: &[&str] = &[
    "basic.target",
    "emergency.target",
    "final.target",
    "initrd-cleanup.service",
    "initrd-fs.target",
    "initrd-root-device.target",
    "initrd-root-fs.target",
    "initrd-switch-root.service",
    "initrd-switch-root.target",
    "initrd-udevadm-cleanup-db.service",
    "initrd-usr-fs.target",
    "initrd.target",
    "local-fs-pre.target",
    "local-fs.target",
    "paths.target",
    "remote-fs-pre.target",
    "remote-veritysetup.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "system-systemd\\x2dveritysetup.slice",
    "systemd-modules-load.service",
    "systemd-repart.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "timers.target",
    "umount.target",
    "veritysetup-pre.target",
    "veritysetup.target",
];

/// Other files.
const FILES: &[&str] = &[
    "etc/mke2fs.conf",
    "usr/lib/modprobe.d/systemd.conf",
    "usr/lib/systemd/system/systemd-udevd.service.d",
    "usr/lib/udev/rules.d/50-udev-default.rules",
    "usr/lib/udev/rules.d/55-dm.rules",
    "usr/lib/udev/rules.d/60-block.rules",
    "usr/lib/udev/rules.d/60-persistent-storage-dm.rules",
    "usr/lib/udev/rules.d/60-persistent-storage.rules",
    "usr/lib/udev/rules.d/80-drivers.rules",
    "usr/lib/udev/rules.d/95-dm-notify.rules",
    "usr/lib/udev/rules.d/99-systemd.rules",
];

/// Units that no failure and no key press may start.
const MASKED: &[&str] = &[
    "ctrl-alt-del.target",
    "debug-shell.service",
    "rescue.service",
    "rescue.target",
    "systemd-ask-password-console.path",
];

/// Builds the initrd's tree from the merged packages of its use and the kernel's modules for it.
///
/// # Errors
/// [`Kind::Build`] when a package lacks a file that is taken by name, or no package has a needed library.
pub(super) fn initrd(packages: &Tree, modules: &Tree, os_release: &str, needs: Needs<'_>) -> Result<Tree> {
    let mut taking = Taking::new(packages, "the initrd", &origin(), needs)?;
    for path in PROGRAMS.iter().chain(FILES) {
        taking.take(path)?;
    }
    for name in OPENED {
        let path = taking.library(name, None)?;
        taking.take(&path)?;
    }
    taking.units()?;
    let mut tree = taking.into;
    put_all(modules, &mut tree)?;
    // The rest comes by hardware alias; these have no hardware to ask for them.
    let has_fast = modules.iter().any(|(path, _)| show(path).replace('-', "_").ends_with(&format!("/{FAST_HASH}.ko")));
    let fast = if has_fast { format!("{FAST_HASH}\n") } else { String::new() };
    let load = fast + "dm_mod\ndm_verity\nerofs\next4\nloop\n";
    tree.file("usr/lib/modules-load.d/nodelith.conf", 0o644, load, &origin())?;
    own(&mut tree, os_release)?;
    Ok(tree)
}

fn origin() -> Arc<str> {
    Arc::from("assemble initrd")
}

impl Taking<'_> {
    /// Takes the units, and of the packages' `*.wants` and `*.requires` links those that lead to one of them.
    fn units(&mut self) -> Result<()> {
        let base = "usr/lib/systemd/system";
        for unit in UNITS {
            self.take(&format!("{base}/{unit}"))?;
            for kind in ["wants", "requires"] {
                let dir = format!("{base}/{unit}.{kind}");
                let links: Vec<String> = self.from.below(dir.as_bytes()).map(|(path, _)| show(path)).collect();
                for link in links.iter().filter(|link| UNITS.iter().any(|unit| link.ends_with(&format!("/{unit}")))) {
                    self.take(link)?;
                }
            }
        }
        Ok(())
    }
}

/// What is ours: identity, our units, and directories.
fn own(tree: &mut Tree, os_release: &str) -> Result<()> {
    let origin = origin();
    let system = "usr/lib/systemd/system";
    for dir in ["dev", "proc", "sys", "run", "sysroot", "var", "root", "etc"] {
        tree.directory(dir, 0o755, &origin)?;
    }
    for dir in ["tmp", "var/tmp"] {
        tree.directory(dir, 0o1777, &origin)?;
    }
    tree.symlink("init", "usr/lib/systemd/systemd", &origin)?;
    // Its presence tells systemd that this is an initrd.
    tree.file("etc/initrd-release", 0o644, os_release, &origin)?;
    tree.symlink("etc/os-release", "initrd-release", &origin)?;
    // Empty: PID 1 makes an identity for the initrd's lifetime; the machine's own lies on a disk not yet found.
    tree.file("etc/machine-id", 0o444, "", &origin)?;
    tree.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/usr/sbin/nologin\n", &origin)?;
    tree.file("etc/group", 0o644, GROUPS, &origin)?;
    tree.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\n", &origin)?;
    for (path, text) in OWN {
        tree.file(path, 0o644, *text, &origin)?;
    }
    for (target, unit) in WANTS {
        tree.symlink(&format!("{system}/{target}/{unit}"), &format!("../{unit}"), &origin)?;
    }
    tree.symlink(&format!("{system}/default.target"), "initrd.target", &origin)?;
    for unit in MASKED {
        tree.symlink(&format!("{system}/{unit}"), "/dev/null", &origin)?;
    }
    emergency(tree, &origin)
}

/// Whatever fails leads to this unit by systemd's own `OnFailure=emergency.target`.
fn emergency(tree: &mut Tree, origin: &Arc<str>) -> Result<()> {
    // There is no program here that prints; systemd-tmpfiles writes a line into the kernel's log, which the console
    // shows: priority 2 is above every console's threshold.
    let line = format!("w /dev/kmsg - - - - <2>{FAILED}\\n\n");
    tree.file("usr/lib/nodelith/boot-failed.conf", 0o644, line, origin)?;
    let unit = "[Unit]\nDescription=Power Off Because the System Could Not Be Started\nDefaultDependencies=no\n\
                SuccessAction=poweroff-force\nFailureAction=poweroff-force\n\n\
                [Service]\nType=oneshot\nExecStart=systemd-tmpfiles --create /usr/lib/nodelith/boot-failed.conf\n";
    tree.file("usr/lib/systemd/system/emergency.service", 0o644, unit, origin)
}

/// The groups that udev's rules name: Debian's fixed numbers, and root's for those that each root numbers itself.
/// Nodes get their final group from the root's udev.
const GROUPS: &str = "root:x:0:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\n\
                      audio:x:29:\nvideo:x:44:\ninput:x:0:\nkvm:x:0:\nrender:x:0:\nsgx:x:0:\n";

/// Links between units: directory, unit.
const WANTS: &[(&str, &str)] = &[
    ("initrd-fs.target.requires", "sysroot-var.mount"),
    ("initrd-fs.target.requires", "nodelith-var.service"),
    ("initrd-root-fs.target.requires", "systemd-repart.service"),
    ("initrd.target.wants", "initrd-cleanup.service"),
];

/// Our files: path, text.
const OWN: &[(&str, &str)] = &[
    (
        "usr/lib/systemd/system/systemd-veritysetup@root.service.d/nodelith.conf",
        "[Unit]\nAfter=systemd-modules-load.service\n",
    ),
    // Only what leads to a disk. Coldplugging every terminal, memory block and module costs each boot seconds under
    // emulation, and the root's udev does it again.
    (
        "usr/lib/systemd/system/systemd-udev-trigger.service.d/nodelith.conf",
        "[Service]\nExecStart=\nExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=pci \
         --subsystem-match=virtio --subsystem-match=scsi --subsystem-match=nvme --subsystem-match=block\n",
    ),
    // What goes wrong has to be on the console: what PID 1 says by way of the kernel's log, what programs say directly. To
    // them `kmsg` is a way through the journal, and there is none here: their words would be lost.
    (
        "usr/lib/systemd/system.conf.d/nodelith.conf",
        "[Manager]\nLogTarget=kmsg\nLogLevel=notice\nDefaultStandardOutput=null\nDefaultStandardError=tty\n",
    ),
    // Eight devices that nobody opens, and udev and PID 1 would look at each, here and in the root; repart gets the one
    // that it needs by asking for it.
    ("usr/lib/modprobe.d/nodelith.conf", "options loop max_loop=0\n"),
    // No minimum for what is there: repart leaves alone every partition that no file here describes.
    ("usr/lib/repart.d/50-var.conf", "[Partition]\nType=var\nLabel=nodelith-var\nFormat=ext4\nSizeMinBytes=512M\n"),
    // The definitions are the initrd's; without a device, repart works on the disk behind /sysroot, through verity.
    (
        "usr/lib/systemd/system/systemd-repart.service.d/nodelith.conf",
        "[Unit]\nRequires=sysroot.mount\nAfter=sysroot.mount\nOnFailure=emergency.target\n\
         OnFailureJobMode=replace-irreversibly\n\n\
         [Service]\nExecStart=\nExecStart=systemd-repart --dry-run=no --definitions=/usr/lib/repart.d\n\
         SuccessExitStatus=\n",
    ),
    // Without util-linux's `fsck` there is no systemd-fsck. -y: nobody is there to answer; 1 is "errors corrected". What it
    // repairs, and what it cannot, it says on stdout.
    (
        "usr/lib/systemd/system/nodelith-var-check.service",
        "[Unit]\nDescription=Check the File System of /var\nDefaultDependencies=no\n\
         Requires=systemd-repart.service\nBindsTo=dev-disk-by\\x2dpartlabel-nodelith\\x2dvar.device\n\
         After=systemd-repart.service dev-disk-by\\x2dpartlabel-nodelith\\x2dvar.device\n\
         Conflicts=shutdown.target\nBefore=shutdown.target\nIgnoreOnIsolate=yes\n\
         OnFailure=emergency.target\nOnFailureJobMode=replace-irreversibly\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/usr/sbin/e2fsck -y /dev/disk/by-partlabel/nodelith-var\nSuccessExitStatus=1\n\
         StandardOutput=tty\n",
    ),
    // Wants, not Requires: the switch to the root stops repart, with it the check, and would then unmount /var.
    (
        "usr/lib/systemd/system/sysroot-var.mount",
        "[Unit]\nDescription=Mount /var of the Node\nDefaultDependencies=no\n\
         Requires=sysroot.mount\nWants=nodelith-var-check.service\nAfter=sysroot.mount nodelith-var-check.service\n\
         Before=initrd-fs.target\nConflicts=umount.target\nBefore=umount.target\n\
         OnFailure=emergency.target\nOnFailureJobMode=replace-irreversibly\n\n\
         [Mount]\nWhat=/dev/disk/by-partlabel/nodelith-var\nWhere=/sysroot/var\nType=ext4\nOptions=nosuid,nodev\n",
    ),
    ("usr/lib/nodelith/machine-id.conf", "d /sysroot/var/lib/nodelith/identity/etc 0755 root root -\n"),
    // Repart has grown the partition when the disk has grown; growfs makes the file system follow. Setup fills a file
    // that is missing, empty or torn, and syncs it, so a power cut at any moment leaves what the next boot repairs. It
    // gets a root of its own in /var: it also syncs the directory, which EROFS refuses. Not a mount unit: those try to
    // make their mount point, and warn that the root is read-only.
    (
        "usr/lib/systemd/system/nodelith-var.service",
        "[Unit]\nDescription=Grow /var and Give the Machine Its Identity\nDefaultDependencies=no\n\
         Requires=sysroot-var.mount\nAfter=sysroot-var.mount\n\
         Before=initrd-fs.target\nConflicts=shutdown.target\nBefore=shutdown.target\n\
         OnFailure=emergency.target\nOnFailureJobMode=replace-irreversibly\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/usr/lib/systemd/systemd-growfs /sysroot/var\n\
         ExecStart=systemd-tmpfiles --create /usr/lib/nodelith/machine-id.conf\n\
         ExecStart=systemd-machine-id-setup --root=/sysroot/var/lib/nodelith/identity\n\
         ExecStart=mount --bind /sysroot/var/lib/nodelith/identity/etc/machine-id /sysroot/etc/machine-id\n",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::taking::LIBRARIES;
    use crate::error::Kind;
    use crate::format::elf;
    use crate::tree::Content;
    use crate::tree::What;

    /// Packages with every file that is taken by name; udevadm is a real program, this one.
    fn packages() -> Tree {
        let mut tree = Tree::new();
        let libraries = OPENED.iter().map(|name| format!("{LIBRARIES}/{name}"));
        let units = UNITS.iter().map(|unit| format!("usr/lib/systemd/system/{unit}"));
        let named = PROGRAMS.iter().chain(FILES).map(ToString::to_string);
        for path in libraries.chain(units).chain(named) {
            tree.file(&path, 0o755, "text", &origin()).unwrap();
        }
        for shell in ["usr/bin/sh", "usr/bin/bash", "usr/lib/systemd/systemd-sulogin-shell"] {
            tree.file(shell, 0o755, "", &origin()).unwrap();
        }
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = elf::needs(&program).unwrap().unwrap();
        tree.file("usr/bin/udevadm", 0o755, program, &origin()).unwrap();
        for name in &needs.needed {
            tree.symlink(&format!("{LIBRARIES}/{name}"), &format!("{name}.real"), &origin()).unwrap();
            tree.file(&format!("{LIBRARIES}/{name}.real"), 0o644, "", &origin()).unwrap();
        }
        let loader = format!("usr{}", needs.interpreter.unwrap());
        tree.file(&loader, 0o755, "", &origin()).unwrap();
        for (dir, unit) in [("sysinit.target.wants", "systemd-udevd.service"), ("sysinit.target.wants", "x.service")] {
            tree.symlink(&format!("usr/lib/systemd/system/{dir}/{unit}"), &format!("../{unit}"), &origin()).unwrap();
        }
        tree
    }

    fn needs(content: &Content) -> Result<Option<elf::Elf>> {
        elf::needs(&content.read()?)
    }

    fn build() -> Tree {
        initrd(&packages(), &Tree::new(), "ID=x\n", &needs).unwrap()
    }

    #[test]
    fn nothing_that_reads_commands_is_in_it() {
        let tree = build();
        let shells = ["sh", "bash", "dash", "busybox", "systemd-sulogin-shell", "sulogin", "login", "agetty"];
        let found: Vec<_> = tree
            .iter()
            .map(|(path, _)| show(path))
            .filter(|path| shells.contains(&path.rsplit('/').next().unwrap_or_default()))
            .collect();
        assert_eq!(found, Vec::<String>::new());
        for unit in MASKED {
            let node = tree.get(format!("usr/lib/systemd/system/{unit}")).unwrap();
            assert_eq!(node.what, What::Symlink(b"/dev/null".to_vec()), "{unit}");
        }
    }

    #[test]
    fn programs_bring_their_libraries_and_units_the_links_that_lead_somewhere() {
        let tree = build();
        let libc = tree.content(format!("{LIBRARIES}/libc.so.6"));
        assert!(libc.is_some(), "through its link");
        assert!(tree.get("usr/lib/systemd/system/sysinit.target.wants/systemd-udevd.service").is_some());
        assert!(tree.get("usr/lib/systemd/system/sysinit.target.wants/x.service").is_none());
        assert_eq!(tree, build(), "equal inputs, equal trees");
    }

    #[test]
    fn nothing_speaks_to_a_journal_that_is_not_there() {
        for (path, text) in OWN {
            let ways = text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.contains("Standard"));
            for (key, way) in ways {
                assert!(["null", "tty"].contains(&way), "{path}: {key}={way} is lost");
            }
        }
    }

    #[test]
    fn our_units_start_only_what_is_there() {
        let tree = build();
        for (path, text) in OWN {
            for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).filter(|line| !line.is_empty())
            {
                // `-`: a failure of this one is no failure of the unit.
                let program = line.split(' ').next().unwrap().trim_start_matches('-');
                let places = [program.trim_start_matches('/').to_owned(), format!("usr/bin/{program}")];
                assert!(places.iter().any(|place| tree.content(place).is_some()), "{path}: {line}");
            }
        }
        for (_, unit) in WANTS {
            assert!(tree.content(format!("usr/lib/systemd/system/{unit}")).is_some(), "{unit}");
        }
        assert!(OWN.iter().any(|(_, text)| text.contains("Label=nodelith-var\n")));
    }

    #[test]
    fn a_missing_program_and_a_missing_library_are_named() {
        for gone in ["usr/sbin/dmsetup", "usr/lib/x86_64-linux-gnu/libc.so.6"] {
            let mut packages = packages();
            packages.remove(gone);
            let error = initrd(&packages, &Tree::new(), "", &needs).unwrap_err();
            assert_eq!(crate::error::kind_of(&error), Kind::Build);
            assert!(error.to_string().contains(gone.rsplit('/').next().unwrap()), "{error}");
        }
    }
}
