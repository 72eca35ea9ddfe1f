//! What a spec asks of the resolver, as a value with a digest: the lock records the digest, so a lock that no longer
//! fits its spec is found without any network. Files under `rootfs/` are not part of it: they need no lock.

use super::{Binary, BinarySource, GoModule, Kind, PackageRequest, Spec};
use crate::digest::Sha256;
use crate::error::Result;
use crate::sys;
use std::collections::BTreeMap;

/// What a set of packages is for. Each use is solved by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Unpacked into the image's root, or the container's.
    Image,
    /// Unpacked into the tree that the initrd takes its files from.
    Initrd,
    /// The UEFI stub that the kernel and initrd are joined to.
    Stub,
    /// `depmod`, run on the build host.
    Kmod,
    /// The Go toolchain, run on the build host.
    Go,
    /// QEMU and its firmware, run on the build host by `nodelith test`.
    Qemu,
}

impl Use {
    /// All uses, in the order of the lock.
    pub const ALL: [Self; 6] = [Self::Image, Self::Initrd, Self::Stub, Self::Kmod, Self::Go, Self::Qemu];

    /// The word in lock files and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Initrd => "initrd",
            Self::Stub => "stub",
            Self::Kmod => "kmod",
            Self::Go => "go",
            Self::Qemu => "qemu",
        }
    }

    /// Whether a spec has this use at all. A container holds no kernel and is not booted by us.
    #[must_use]
    pub fn belongs_to(self, spec: &Spec) -> bool {
        let go = || spec.roles.iter().flat_map(|role| role.binaries.values()).any(Self::is_go);
        match (&spec.kind, self) {
            (Kind::Machine, _) | (Kind::Container(_), Self::Image) => true,
            (Kind::Container(_), Self::Go) => go(),
            (Kind::Container(_), Self::Initrd | Self::Stub | Self::Kmod | Self::Qemu) => false,
        }
    }

    fn is_go(binary: &Binary) -> bool {
        matches!(binary.source, BinarySource::Go(_))
    }

    /// The packages that this use asks for whatever the spec says.
    #[must_use]
    pub const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Image => &[],
            // Everything that runs between the kernel's start and the switch to the verified root.
            Self::Initrd => {
                &["systemd", "udev", "systemd-cryptsetup", "systemd-repart", "dmsetup", "e2fsprogs", "kmod", "mount"]
            }
            Self::Stub => &["systemd-boot-efi"],
            Self::Kmod => &["kmod"],
            Self::Go => &["golang-1.26-go/trixie-backports", "golang-1.26-src/trixie-backports"],
            Self::Qemu => &["qemu-system-x86", "qemu-utils", "ovmf"],
        }
    }
}

/// A binary that is asked for, with the digest of everything that decides its bytes but the toolchain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryRequest {
    /// `role/name`.
    pub id: String,
    /// Over package, flags, go.mod, go.sum and patches; or over URL and digest.
    pub recipe: Sha256,
}

/// All that a spec asks of the resolver.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Suites, the most preferred last.
    pub suites: Vec<String>,
    /// Packages by use, sorted, each once.
    pub packages: BTreeMap<Use, Vec<PackageRequest>>,
    /// Binaries, sorted by id.
    pub binaries: Vec<BinaryRequest>,
}

impl Requests {
    /// Collects what a spec asks for. Reads the Go module files of its roles.
    ///
    /// # Errors
    /// [`crate::error::Kind::Environment`] when such a file cannot be read.
    pub fn of(spec: &Spec) -> Result<Self> {
        let mut packages = BTreeMap::new();
        for usage in Use::ALL.into_iter().filter(|usage| usage.belongs_to(spec)) {
            let mut requests: Vec<_> = usage.packages().iter().map(|text| PackageRequest::from_text(text)).collect();
            if usage == Use::Image {
                requests.extend(spec.packages.iter().cloned());
                requests.extend(spec.roles.iter().flat_map(|role| role.packages.iter().cloned()));
            }
            requests.sort();
            requests.dedup();
            packages.insert(usage, requests);
        }
        let mut binaries = Vec::new();
        for role in &spec.roles {
            for (name, binary) in &role.binaries {
                let recipe = Sha256::of(recipe_text(&binary.source)?.as_bytes());
                binaries.push(BinaryRequest { id: format!("{}/{name}", role.name), recipe });
            }
        }
        binaries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { suites: spec.suites.clone(), packages, binaries })
    }

    /// The digest that the lock records.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        let mut text = format!("requests 1\nsuites {}\n", self.suites.join(" "));
        for (usage, requests) in &self.packages {
            for request in requests {
                text += &format!("{} {} {}\n", usage.word(), request.name, request.suite.as_deref().unwrap_or("-"));
            }
        }
        for binary in &self.binaries {
            text += &format!("binary {} {}\n", binary.id, binary.recipe);
        }
        Sha256::of(text.as_bytes())
    }
}

impl PackageRequest {
    /// Reads `name` or `name/suite`.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        match text.split_once('/') {
            Some((name, suite)) => Self { name: name.into(), suite: Some(suite.into()) },
            None => Self { name: text.into(), suite: None },
        }
    }
}

impl GoModule {
    /// Module and version that hold the program, out of its `go.mod`: `github.com/flannel-io/flannel@v0.28.9`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Environment`] when `go.mod` cannot be read.
    pub fn origin(&self) -> Result<String> {
        let text = sys::fs::read_text(&self.dir.join("go.mod"))?;
        let requirements = text.lines().filter_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split_whitespace();
            Some((words.next()?, words.next().filter(|version| version.starts_with('v'))?))
        });
        let holds =
            |path: &str| self.package.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // Of nested modules the longest path holds the package.
        let found = requirements.filter(|(path, _)| holds(path)).max_by_key(|(path, _)| path.len());
        Ok(found.map_or_else(|| self.package.clone(), |(path, version)| format!("{path}@{version}")))
    }
}

impl BinarySource {
    /// What the program is made from, for people and for its version: a module with its version, or a URL.
    ///
    /// # Errors
    /// Those of [`GoModule::origin`].
    pub fn origin(&self) -> Result<String> {
        match self {
            Self::Go(module) => module.origin(),
            Self::Url { url, .. } => Ok(url.clone()),
        }
    }
}

fn recipe_text(source: &BinarySource) -> Result<String> {
    match source {
        BinarySource::Url { url, sha256 } => Ok(format!("url {url} {sha256}\n")),
        BinarySource::Go(module) => {
            let mut text = format!("go {} {:?}\n", module.package, module.ldflags);
            for file in ["go.mod", "go.sum"].into_iter().chain(module.patches.iter().map(String::as_str)) {
                text += &format!("{file} {}\n", Sha256::of(&sys::fs::read(&module.dir.join(file))?));
            }
            Ok(text)
        }
    }
}
