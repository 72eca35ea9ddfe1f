//! The kernel of an image: its program, its command line, and those of its modules that the image wants.
//!
//! Modules are stored unpacked (`.ko`, not `.ko.xz`): the root file system and the initrd compress as a whole, and the
//! loader then needs no decompressor. The locked `depmod` works out how modules depend on each other; which of them
//! are kept is decided here. Formats: `modules.dep(5)`, `modprobe.d(5)`.

use crate::digest::Hashing;
use crate::error::{Blame, Fault, Kind, Result};
use crate::format::xz;
use crate::store::{Store, verify_tool};
use crate::sys::{cmd, fs};
use crate::tree::{Content, Node, Tree, What, show};
use bytes::Bytes;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// Where a package's kernel modules are, and where an image has them.
const MODULES: &str = "usr/lib/modules";

/// The kernel's command line behind `roothash=`, which the image stage puts first.
pub(super) const CMDLINE: &[&str] = &[
    "root=/dev/mapper/root",
    "rootfstype=erofs",
    "ro",
    // The kernel waits ten ticks for the timer's first interrupts, and panics when an emulator on a busy host is late with
    // them. Under a hypervisor that it knows it skips this test by itself.
    "no_timer_check",
    // Without those that no policy here uses: BPF, for one, makes PID 1 compile and attach a program at every start.
    "lsm=landlock,lockdown,yama,apparmor",
    // A block that fails its check must end the machine, not become an I/O error that some program shrugs off.
    "systemd.verity_root_options=panic-on-corruption",
    "panic=10",
    "console=tty0",
    // The last one is /dev/console.
    "console=ttyS0,115200",
    // Units are in the image by choice; nothing is found on a disk or a terminal by itself.
    "systemd.gpt_auto=0",
    "systemd.getty_auto=0",
    "systemd.show_status=1",
    // A serial line has no size of its own; at 80 columns the middle of a unit's name would be cut out of the report.
    "systemd.tty.columns.console=160",
];

/// The modules of the initrd: what the root is read through, two that PID 1 looks for, and the card of a virtual machine:
/// the root's udev then finds the card where it is, before all others. One that comes up later it looks at behind a hundred
/// other devices, and a second time when it has a name; all that joins waits for that. Other modules come from the root,
/// once it is verified.
const INITRD_MODULES: &[&str] = &[
    "autofs4",
    "dm_mod",
    "dm_verity",
    "erofs",
    "ext4",
    "loop",
    "nvme",
    "qemu_fw_cfg",
    "sd_mod",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
];

/// Loaded before the root is opened, where the kernel has it as a module: dm-verity takes the best SHA-256 that is
/// there when it starts, and the one built in is the slowest, several times slower with SHA instructions.
pub(super) const FAST_HASH: &str = "sha256_ssse3";

/// A kernel as its package has it.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    /// The program that firmware starts.
    pub(super) image: Vec<u8>,
    /// All modules, at their paths in the root.
    pub(super) modules: Tree,
}

impl Kernel {
    /// Takes the kernel out of a root tree: `/boot` and all modules leave it. Chosen modules are put back by
    /// [`put_all`] of what [`Kernel::select`] returns.
    ///
    /// # Errors
    /// [`Kind::Spec`] when there is no kernel or more than one.
    pub(super) fn take(root: &mut Tree) -> Result<Self> {
        let names = root.below(b"boot").filter_map(|(path, _)| path.strip_prefix(b"boot/vmlinuz-"));
        let releases: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let [release] = releases.as_slice() else {
            let message = format!("an image needs exactly one kernel package, and {} are there", releases.len());
            let hint = "name one package `linux-image-…` in the spec's `packages`";
            return Err(Fault::new(Kind::Spec, message).hint(hint).into());
        };
        let image = root.content(format!("boot/vmlinuz-{release}"));
        let image = image.ok_or_else(|| Fault::new(Kind::Build, format!("vmlinuz-{release} is not a file")))?.read()?;
        let mut modules = Tree::new();
        for (path, node) in root.below(format!("{MODULES}/{release}").as_bytes()) {
            modules.put(path, node.clone())?;
        }
        for gone in ["boot", MODULES, "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
            root.remove(gone);
        }
        Ok(Self { release: release.clone(), image, modules })
    }

    /// How all modules depend on each other.
    ///
    /// # Errors
    /// [`Kind::Build`] when a module is damaged or `depmod` fails, [`Kind::Integrity`] when kmod was damaged in the
    /// store, [`Kind::Environment`] when writing fails.
    pub(super) fn index(&self, kmod: &Kmod<'_>) -> Result<Index> {
        let files = kmod.depmod(&self.release, self.modules.iter())?;
        let read = |name: &str| files.get(name).map_or_else(String::new, |b| String::from_utf8_lossy(b).into_owned());
        let builtin = self.modules.content(format!("{MODULES}/{}/modules.builtin", self.release));
        let builtin = builtin.map(Content::read).transpose()?.unwrap_or_default();
        Ok(Index {
            dep: read("modules.dep"),
            softdep: read("modules.softdep"),
            alias: exact_aliases(&read("modules.alias")),
            builtin: String::from_utf8_lossy(&builtin).into_owned(),
        })
    }

    /// The wanted modules, all that they depend on, and the loader's tables for just these.
    ///
    /// # Errors
    /// [`Kind::Spec`] for a name that is neither a module nor built into the kernel; else as [`Kernel::index`].
    pub(super) fn select(&self, index: &Index, wanted: &BTreeSet<String>, kmod: &Kmod<'_>) -> Result<Tree> {
        let kept = index.closure(wanted, &self.release)?;
        let chosen = self.modules.iter().filter(|(path, _)| module(path).is_none_or(|name| kept.contains(&name)));
        let unpacked = chosen.collect::<Vec<_>>().into_par_iter().with_max_len(1).map(|(path, node)| {
            let mut node = node.clone();
            if let What::File(content) = &node.what
                && module(path).is_some()
            {
                // xz costs more than all the rest of assembling.
                let bytes = kmod.store.memo_bytes("module-1", &content.digest, || decode(path, content))?;
                node.what = What::File(Content::from_bytes(bytes));
            }
            Ok((loaded(path), node))
        });
        let unpacked = unpacked.collect::<Result<Vec<_>>>()?;
        let tables = kmod.depmod(&self.release, unpacked.iter().map(|(path, node)| (*path, node)))?;
        let origin: Arc<str> = Arc::from("assemble modules");
        let base = format!("{MODULES}/{}", self.release);
        let builtin = ["modules.builtin", "modules.builtin.modinfo"].map(|name| format!("{base}/{name}").into_bytes());
        let mut out = Tree::new();
        for (path, node) in unpacked {
            if module(path).is_some() || builtin.iter().any(|name| name == path) {
                out.put(path, node)?;
            }
        }
        for (name, bytes) in tables {
            out.file(&format!("{base}/{name}"), 0o644, bytes, &origin)?;
        }
        Ok(out)
    }
}

/// Puts every path of a tree into another one; directories that are there stay as they are.
///
/// # Errors
/// [`Kind::Build`] when a path's parent is not a directory.
pub(super) fn put_all(from: &Tree, into: &mut Tree) -> Result<()> {
    for (path, node) in from.iter() {
        if node.what != What::Directory || into.get(path).is_none() {
            into.put(path, node.clone())?;
        }
    }
    Ok(())
}

/// How a kernel's modules depend on each other: the loader's own tables as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    dep: String,
    softdep: String,
    alias: String,
    builtin: String,
}

impl Index {
    /// The wanted modules of an initrd.
    #[must_use]
    pub(super) fn initrd_modules(&self) -> BTreeSet<String> {
        let fast = self.dep.lines().filter_map(|line| module(line.split(':').next()?)).find(|name| name == FAST_HASH);
        INITRD_MODULES.iter().map(ToString::to_string).chain(fast).collect()
    }

    /// Names of all modules to keep for the wanted ones.
    fn closure(&self, wanted: &BTreeSet<String>, release: &str) -> Result<BTreeSet<String>> {
        let deps: BTreeMap<String, Vec<String>> = self
            .dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter_map(|(path, deps)| Some((module(path)?, deps.split_whitespace().filter_map(module).collect())))
            .collect();
        let builtin: BTreeSet<String> = self.builtin.lines().filter_map(module).collect();
        let mut aliases: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (alias, name) in self.alias.lines().filter_map(|line| line.split_once(' ')) {
            aliases.entry(alias).or_default().push(normal(name));
        }
        let mut soft: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for mut words in self.softdep.lines().map(str::split_whitespace) {
            if words.next() == Some("softdep")
                && let Some(name) = words.next()
            {
                soft.entry(normal(name)).or_default().extend(words.filter(|word| !word.ends_with(':')));
            }
        }
        let mut kept = BTreeSet::new();
        let mut todo = Vec::new();
        for name in wanted.iter().map(|name| normal(name)) {
            if deps.contains_key(&name) {
                todo.push(name);
            } else if !builtin.contains(&name) {
                let message = format!("kernel {release} has no module `{name}`");
                let hint = "correct `modules` in the role that wants it, or choose another kernel package";
                return Err(Fault::new(Kind::Spec, message).hint(hint).into());
            }
        }
        while let Some(name) = todo.pop() {
            let Some(direct) = deps.get(&name).filter(|_| !kept.contains(&name)) else { continue };
            todo.extend(direct.iter().cloned());
            // A soft dependency names a module or, as with crypto algorithms, something that several modules offer.
            for want in soft.get(&name).into_iter().flatten() {
                todo.push(normal(want));
                todo.extend(aliases.get(want).into_iter().flatten().cloned());
            }
            kept.insert(name);
        }
        Ok(kept)
    }
}

/// Aliases without wildcards, as `alias module` lines: soft dependencies name no others, and there are far fewer.
fn exact_aliases(table: &str) -> String {
    let pairs =
        table.lines().filter_map(|line| line.strip_prefix("alias ")).filter(|pair| !pair.contains(['*', '?', '[']));
    pairs.fold(String::new(), |text, pair| text + pair + "\n")
}

/// One spelling of a module's name: the loader takes `-` and `_` for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Unpacks a module's file.
type Unpack = fn(&[u8]) -> io::Result<Vec<u8>>;

/// How modules' files may be packed.
const PACKED: [(&str, Unpack); 2] = [(".xz", xz::decode), (".zst", |file| zstd::decode_all(file))];

/// A path without the ending that says how the file is packed, and what unpacks it.
fn packing(path: &[u8]) -> (&[u8], Option<Unpack>) {
    let packed = PACKED.iter().find_map(|(end, unpack)| Some((path.strip_suffix(end.as_bytes())?, Some(*unpack))));
    packed.unwrap_or((path, None))
}

/// The module's name in a path that ends in `.ko`, perhaps packed.
fn module(path: impl AsRef<[u8]>) -> Option<String> {
    let file = std::str::from_utf8(packing(path.as_ref()).0).ok()?.rsplit('/').next()?;
    Some(normal(file.strip_suffix(".ko")?))
}

/// The path of a module as the kernel loads it, or of any other file as it is.
fn loaded(path: &[u8]) -> &[u8] {
    if module(path).is_some() { packing(path).0 } else { path }
}

/// A module as the kernel loads it, or any other file as it is.
fn decode(path: &[u8], content: &Content) -> Result<Vec<u8>> {
    let packed = content.read()?;
    let unpacked = match packing(path).1 {
        Some(unpack) => unpack(&packed),
        None => Ok(packed),
    };
    unpacked.blame(Kind::Build, || format!("unpacking the kernel module `{}`", show(path)))
}

/// The locked `kmod`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kmod<'a> {
    /// The root of its unpacked packages.
    pub(super) root: &'a Path,
    /// Keeps what was worked out.
    pub(super) store: &'a Store,
}

/// What `depmod` writes and the loader reads.
const TABLES: [&str; 12] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.weakdep",
    "modules.weakdep.bin",
];

impl Kmod<'_> {
    /// What `depmod` says of some modules: its tables by name, worked out at most once for the same modules.
    fn depmod<'t>(
        &self,
        release: &str,
        modules: impl Iterator<Item = (&'t [u8], &'t Node)>,
    ) -> Result<BTreeMap<&'static str, Vec<u8>>> {
        let mut files = Vec::new();
        let mut hashing = Hashing::new(std::io::sink());
        let doing = || "naming modules".to_owned();
        // The last part of its path is the digest of kmod's packages.
        writeln!(hashing, "{:?} {release}", self.root.file_name()).blame(Kind::Internal, doing)?;
        for (path, node) in modules {
            if let What::File(content) = &node.what {
                writeln!(hashing, "{} {}", content.digest, show(path)).blame(Kind::Internal, doing)?;
                files.push((path, content));
            }
        }
        // First the names of the tables, a line each; then the tables.
        let run = || {
            let tables = self.run_depmod(release, &files)?;
            let names: String = tables.keys().map(|name| format!("{name}\n")).collect();
            Ok(std::iter::once(names.into_bytes()).chain(tables.into_values()).map(Bytes::from).collect())
        };
        let mut parts = self.store.memo("depmod-1", &hashing.finish().1, run)?.into_iter();
        let names = parts.next().unwrap_or_default();
        let names = String::from_utf8_lossy(&names);
        let known = names.lines().filter_map(|name| TABLES.iter().find(|table| **table == name));
        Ok(known.copied().zip(parts.map(Vec::from)).collect())
    }

    fn run_depmod(&self, release: &str, files: &[(&[u8], &Content)]) -> Result<BTreeMap<&'static str, Vec<u8>>> {
        verify_tool(self.root)?;
        let dir = fs::scratch()?;
        // kmod looks below lib/modules or usr/lib/modules, by how it was built.
        fs::make_dir(&dir.path().join(MODULES))?;
        fs::symlink("usr/lib", &dir.path().join("lib"))?;
        files.par_iter().try_for_each(|(path, content)| {
            fs::write_scratch(&dir.path().join(OsStr::from_bytes(loaded(path))), &decode(path, content)?)
        })?;
        let lib = self.root.join("usr/lib/x86_64-linux-gnu");
        // By its own loader and libraries: those of the host may be older or missing.
        let mut command = cmd::command(lib.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&lib).args(["--argv0", "depmod"]).arg(self.root.join("usr/bin/kmod"));
        command.arg("-b").arg(dir.path()).arg(release);
        cmd::output(&mut command, Kind::Build)?;
        let base = dir.path().join(MODULES).join(release);
        let mut tables = BTreeMap::new();
        for name in TABLES {
            let path = base.join(name);
            if path.exists() {
                tables.insert(name, fs::read(&path)?);
            }
        }
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index {
            dep: "kernel/fs/erofs.ko: kernel/lib/libcrc32c.ko\nkernel/lib/libcrc32c.ko:\nkernel/a/crc32c-intel.ko:\n\
                  kernel/drivers/nvme-core.ko:\n"
                .into(),
            softdep: "# comment\nsoftdep libcrc32c pre: crc32c\n".into(),
            alias: exact_aliases("alias pci:v0*d* x\nalias crc32c crc32c_intel\n"),
            builtin: "kernel/fs/ext4/ext4.ko\n".into(),
        }
    }

    #[test]
    fn hard_and_soft_dependencies_are_kept_and_nothing_else() {
        let wanted = ["erofs", "ext4"].map(String::from).into();
        let kept: Vec<_> = index().closure(&wanted, "6").unwrap().into_iter().collect();
        assert_eq!(kept, ["crc32c_intel", "erofs", "libcrc32c"]);
        assert!(!index().initrd_modules().contains(FAST_HASH), "this kernel has none");
        let dashed = ["nvme-core"].map(String::from).into();
        assert_eq!(index().closure(&dashed, "6").unwrap().len(), 1);
    }

    #[test]
    fn a_module_is_known_by_its_ending_and_loaded_unpacked() {
        for path in ["k/virtio-net.ko", "k/virtio-net.ko.xz", "k/virtio-net.ko.zst"] {
            assert_eq!(module(path).as_deref(), Some("virtio_net"));
            assert_eq!(loaded(path.as_bytes()), b"k/virtio-net.ko");
        }
        // Nobody here unpacks gzip: better missing by name than in the image as it is.
        assert_eq!(module("k/virtio-net.ko.gz"), None);
        assert_eq!(loaded(b"modules.order.xz"), b"modules.order.xz");
    }

    #[test]
    fn a_module_that_is_not_there_is_the_specs_fault() {
        let error = index().closure(&["br_netfilter".to_owned()].into(), "6.12").unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Spec);
        assert!(error.to_string().contains("br_netfilter"), "{error}");
    }

    #[test]
    fn a_damaged_kmod_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let kmod = Kmod { root: &dir.path().join("tools/x"), store: &store };
        let error = kmod.depmod("6.1", std::iter::empty()).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Integrity, "{error:#}");
    }

    #[test]
    fn the_kernel_leaves_the_root() {
        let origin: Arc<str> = Arc::from("test");
        let mut root = Tree::new();
        assert_eq!(crate::error::kind_of(&Kernel::take(&mut root).unwrap_err()), Kind::Spec);
        root.file("boot/vmlinuz-6.1", 0o644, b"MZ", &origin).unwrap();
        root.file("usr/lib/modules/6.1/kernel/a.ko.xz", 0o644, b"", &origin).unwrap();
        let kernel = Kernel::take(&mut root).unwrap();
        assert_eq!((kernel.release.as_str(), kernel.image.as_slice()), ("6.1", b"MZ".as_slice()));
        assert!(root.get("boot").is_none() && root.get("usr/lib/modules").is_none());
        assert_eq!(kernel.modules.below(b"usr/lib/modules/6.1").count(), 2);
    }
}
