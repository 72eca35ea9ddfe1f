//! Packages, roles and programs → the root and the initrd: what maintainer scripts would do, done once and by
//! declaration. Reads the store only: no network, no clock, no root, and no script of anybody runs.

mod accounts;
mod container;
mod initrd;
mod kernel;
mod merge;
mod roles;
mod settle;
mod taking;
mod trim;
mod trust;
mod units;

pub use container::container;

use crate::digest::Sha256;
use crate::error::{Fault, Kind, Result};
use crate::fetch::Fetched;
use crate::format::elf;
use crate::lock::Locked;
use crate::report::{Report, Stage};
use crate::spec::requests::Use;
use crate::store::Store;
use crate::tree::{Content, Node as Inode, Tree, What};
use accounts::Accounts;
use kernel::{CMDLINE, Kernel, Kmod};
use merge::Part;
use std::sync::Arc;

/// A node's parts, ready to be sealed.
#[derive(Debug)]
pub struct Node {
    /// The root file system.
    pub root: Tree,
    /// The initrd's file system.
    pub initrd: Tree,
    /// The kernel, bootable as an EFI program.
    pub kernel: Vec<u8>,
    /// The kernel's release.
    pub release: String,
    /// systemd's UEFI stub.
    pub stub: Vec<u8>,
    /// Text of `os-release`.
    pub os_release: String,
    /// The kernel's command line behind `roothash=`.
    pub cmdline: Vec<String>,
}

/// A container that a machine imports when it boots.
#[derive(Debug, Clone)]
pub struct Preload {
    /// Its name.
    pub name: String,
    /// `nodelith.dev/pause:1`.
    pub reference: String,
    /// Of its OCI manifest.
    pub digest: Sha256,
    /// The OCI archive.
    pub archive: Content,
}

/// Where a machine's root holds the containers that it imports.
const CONTAINERS: &str = "usr/share/nodelith/containers";

/// Modules of the root that every image needs; the initrd's are in it too, for what mounts later. Without `button` and
/// `evdev` nobody hears the power button, and a cloud's "stop" ends in a power cut.
const MODULES: &[&str] = &["button", "dmi_sysfs", "evdev", "virtio_console", "virtio_rng"];

/// What packages and roles alone make of a node: all but the containers that it imports, and what depends on the whole.
pub struct Parts {
    root: Tree,
    initrd: Tree,
    kernel: Kernel,
    os_release: String,
}

/// Puts packages and roles together.
///
/// # Errors
/// [`Kind::Spec`] when a role is wrong, [`Kind::Build`] when the inputs do not fit together, [`Kind::Integrity`] when
/// content was damaged in the store.
pub fn parts(inputs: &Fetched, store: &Store, report: &dyn Report) -> Result<Parts> {
    let spec = inputs.locked().spec();
    let stage = Stage::start(report, "assemble", None, "");
    let mut root = packages(inputs, Use::Image)?;
    let os_release = os_release(&root, inputs.locked())?;

    let kmod = Kmod { root: inputs.kmod()?, store };
    let kernel = Kernel::take(&mut root)?;
    let index = kernel.index(&kmod)?;
    let initrd_modules = kernel.select(&index, &index.initrd_modules(), &kmod)?;
    let mut in_root = index.initrd_modules();
    in_root.extend(MODULES.iter().map(ToString::to_string));
    in_root.extend(spec.roles.iter().flat_map(|role| role.modules.iter().cloned()));
    kernel::put_all(&kernel.select(&index, &in_root, &kmod)?, &mut root)?;

    trim::trim(&mut root);
    units::unlink(&mut root);
    roles::install_all(&mut root, inputs)?;
    let needs = |content: &Content| needs(content, store);
    let initrd = initrd::initrd(&packages(inputs, Use::Initrd)?, &initrd_modules, &os_release, &needs)?;
    stage.finish(format!("{} paths, {} in the initrd, kernel {}", root.len(), initrd.len(), kernel.release));
    Ok(Parts { root, initrd, kernel, os_release })
}

/// Makes a node of its parts and of the containers that it imports when it boots.
///
/// # Errors
/// [`Kind::Spec`] and [`Kind::Build`] as [`parts`].
pub fn assemble(inputs: &Fetched, parts: Parts, preloads: &[Preload]) -> Result<Node> {
    let locked = inputs.locked();
    let spec = locked.spec();
    let Parts { mut root, initrd, kernel, os_release } = parts;
    for preload in preloads {
        put(&mut root, preload)?;
    }
    declare(&mut root, locked)?;
    Accounts::of(&root)?.write(&mut root)?;
    units::enable(&mut root, &spec.roles)?;
    settle::settle(&mut root, &os_release)?;

    let stub = packages(inputs, Use::Stub)?;
    let stub = stub
        .content("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
        .ok_or_else(|| Fault::new(Kind::Build, "systemd-boot-efi holds no linuxx64.efi.stub"))?;
    let cmdline = CMDLINE.iter().map(|word| (*word).to_owned()).chain(spec.cmdline.iter().cloned()).collect();
    let Kernel { image: kernel, release, .. } = kernel;
    Ok(Node { root, initrd, kernel, release, stub: stub.read()?, os_release, cmdline })
}

/// The archive, and beside it what it must be once it is imported: the reference and the digest, one a line.
fn put(root: &mut Tree, preload: &Preload) -> Result<()> {
    let Preload { name, reference, digest, archive } = preload;
    let origin: Arc<str> = Arc::from(format!("container {reference}"));
    let image = format!("{reference}\nsha256:{digest}\n");
    root.file(&format!("{CONTAINERS}/{name}.image"), 0o644, image, &origin)?;
    root.put(format!("{CONTAINERS}/{name}.oci.tar"), Inode::new(What::File(archive.clone()), 0o644, &origin))
}

fn packages(inputs: &Fetched, usage: Use) -> Result<Tree> {
    let parts = inputs.packages(usage).map(|(package, unpacked)| {
        let origin: Arc<str> = Arc::from(format!("deb {} {}", package.name, package.version));
        let nodes = unpacked.nodes(&origin).map(|(path, node)| (path.to_vec(), node)).collect();
        Part { name: &package.name, control: unpacked.control(), nodes, origin }
    });
    merge::merge(&parts.collect::<Vec<_>>())
}

/// Smaller files are read faster than what is known of them is looked up.
const KEPT_FROM: u64 = 16 << 10;

/// What a program needs, read out of it at most once.
fn needs(content: &Content, store: &Store) -> Result<Option<elf::Elf>> {
    let read = || elf::needs(&content.read()?);
    if content.size < KEPT_FROM {
        return read();
    }
    let text = store.memo_bytes("elf-1", &content.digest, || Ok(serde_json::to_vec(&read()?)?))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Debian's os-release with the image's own name and version: the first digits of the lock's digest.
fn os_release(root: &Tree, locked: &Locked) -> Result<String> {
    let content = root.content("usr/lib/os-release").ok_or_else(|| {
        Fault::new(Kind::Spec, "the image has no usr/lib/os-release")
            .hint("the package base-files belongs to every image")
    })?;
    let text = String::from_utf8_lossy(&content.read()?).into_owned();
    let version = crate::digest::Sha256::of(locked.lock().to_text()?.as_bytes()).short();
    Ok(format!("{}\nIMAGE_ID={}\nIMAGE_VERSION={version}\n", text.trim_end(), locked.spec().name))
}

/// What the node can say of itself: its packages, and the listeners that its roles declare.
fn declare(root: &mut Tree, locked: &Locked) -> Result<()> {
    let origin: Arc<str> = Arc::from("assemble declare");
    let packages = locked.packages(Use::Image).map(|package| format!("{} {}\n", package.name, package.version));
    root.file("usr/lib/nodelith/packages", 0o644, packages.collect::<String>(), &origin)?;
    root.file(
        "usr/lib/nodelith/listeners",
        0o644,
        listeners(locked).map(|line| line + "\n").collect::<String>(),
        &origin,
    )
}

/// Listeners beyond loopback that the roles declare, `udp 8472 kernel`.
pub fn listeners(locked: &Locked) -> impl Iterator<Item = String> {
    let all = locked.spec().roles.iter().flat_map(|role| &role.listeners);
    all.map(|listener| format!("{} {} {}", listener.protocol, listener.port, listener.process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preloaded_container_lies_beside_what_it_must_be() {
        let mut root = Tree::new();
        let archive = Content::from_bytes(b"archive".to_vec());
        let digest = Sha256::of(b"manifest");
        let (name, reference) = ("pause".into(), "nodelith.dev/pause:1".into());
        put(&mut root, &Preload { name, reference, digest, archive: archive.clone() }).unwrap();
        let image = root.content("usr/share/nodelith/containers/pause.image").unwrap().read().unwrap();
        assert_eq!(String::from_utf8(image).unwrap(), format!("nodelith.dev/pause:1\nsha256:{digest}\n"));
        assert_eq!(root.content("usr/share/nodelith/containers/pause.oci.tar"), Some(&archive));
    }
}
