//! An archive made on the fly for tests: packages, indexes by hash, releases signed by a key of its own.

#![expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]

use super::{Keyring, Options, Resolution, Upgrade, resolve};
use crate::digest::Sha256;
use crate::error::Result;
use crate::format::deb::tests::{Member, deb_of};
use crate::lock::{Lock, Locked};
use crate::remote::Remote;
use crate::remote::testing::{Server, remote};
use crate::report::Silent;
use crate::spec::Spec;
use crate::spec::requests::Use;
use crate::store::Store;
use pgp::composed::{ArmorOptions, KeyType};
use pgp::types::KeyVersion;
use rpgpie::tsk::Tsk;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const DAY: u64 = 86_400;

/// A test archive with its server, and a directory with a spec, a role and a store.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<Store>,
    key: Tsk,
    /// Suite → stanzas of its index.
    stanzas: BTreeMap<&'static str, Vec<(String, String)>>,
}

/// A release file's changeable parts.
pub(crate) struct Times {
    pub(crate) date: u64,
    pub(crate) until: u64,
}

impl Times {
    pub(crate) fn now() -> Self {
        let now = crate::sys::clock::now();
        Self { date: now - DAY, until: now + DAY }
    }
}

pub(crate) fn key() -> Tsk {
    Tsk::generate(KeyVersion::V4, KeyType::Ed25519Legacy, None, Some("Test <test@example.org>".into()), vec![], None)
        .unwrap()
}

impl Fixture {
    /// An archive that holds the packages every spec needs, published.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        let mut fixture = Self { server: Server::start(), dir, store, key: key(), stanzas: BTreeMap::new() };
        for suite in ["trixie", "trixie-security", "trixie-backports"] {
            fixture.stanzas.insert(suite, Vec::new());
        }
        for request in Use::ALL.iter().flat_map(|usage| usage.packages()) {
            let (name, suite) = request.split_once('/').unwrap_or((request, "trixie"));
            let suite = if suite == "trixie" { "trixie" } else { "trixie-backports" };
            fixture.drop_package(suite, name, "1");
            fixture.package(suite, name, "1", "");
        }
        fixture.publish();
        fixture
    }

    /// Adds a package with one file; `fields` are further lines of its stanza. Returns the path of the deb.
    pub(crate) fn package(&mut self, suite: &'static str, name: &str, version: &str, fields: &str) -> String {
        let file = format!("./usr/share/{name}");
        let content = format!("{name} {version}");
        self.package_of(suite, name, version, fields, &[(&file, tar::EntryType::Regular, content.as_bytes())])
    }

    pub(crate) fn package_of(
        &mut self,
        suite: &'static str,
        name: &str,
        version: &str,
        fields: &str,
        members: &[Member<'_>],
    ) -> String {
        let head = format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}");
        let deb = deb_of(&head, members);
        let path = format!("pool/main/{name}/{name}_{version}_amd64.deb");
        let stanza =
            format!("{head}Filename: {path}\nSize: {}\nSHA256: {}\nPriority: optional\n", deb.len(), Sha256::of(&deb));
        self.server.put(&Self::url(suite, &path), deb);
        self.stanzas.get_mut(suite).unwrap().push((format!("{name} {version}"), stanza));
        path
    }

    pub(crate) fn drop_package(&mut self, suite: &'static str, name: &str, version: &str) {
        self.stanzas.get_mut(suite).unwrap().retain(|(key, _)| *key != format!("{name} {version}"));
    }

    /// The path at the server.
    pub(crate) fn url(suite: &str, path: &str) -> String {
        let base = if suite.ends_with("-security") { "/debian-security" } else { "/debian" };
        format!("{base}/{path}")
    }

    pub(crate) fn publish(&self) {
        for suite in self.stanzas.keys() {
            self.publish_suite(suite, &Times::now());
        }
    }

    pub(crate) fn publish_suite(&self, suite: &str, times: &Times) {
        let release = self.release(suite, times);
        self.server.put(&Self::url(suite, &format!("dists/{suite}/InRelease")), sign(&self.key, &release));
    }

    /// A suite's Release text; its index is put on the server.
    pub(crate) fn release(&self, suite: &str, times: &Times) -> String {
        let index: String = self.stanzas[suite].iter().map(|(_, stanza)| format!("{stanza}\n")).collect();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        std::io::Write::write_all(&mut xz, index.as_bytes()).unwrap();
        let packed = xz.finish().unwrap();
        let plain = "main/binary-amd64/Packages";
        let lines = format!(
            " {} {} {plain}\n {} {} {plain}.xz\n",
            Sha256::of(index.as_bytes()),
            index.len(),
            Sha256::of(&packed),
            packed.len()
        );
        self.server.put(&self.index_url(suite, &packed), packed);
        let flags = if suite.ends_with("-backports") { "NotAutomatic: yes\n" } else { "" };
        format!(
            "Origin: Test\nSuite: test\nCodename: {suite}\nDate: {}\nValid-Until: {}\n{flags}SHA256:\n{lines}",
            rfc(times.date),
            rfc(times.until)
        )
    }

    pub(crate) fn index_url(&self, suite: &str, packed: &[u8]) -> String {
        Self::url(suite, &format!("dists/{suite}/main/binary-amd64/by-hash/SHA256/{}", Sha256::of(packed)))
    }

    /// A spec that asks for these packages, with this TOML after its role's list of them.
    pub(crate) fn spec_with(&self, packages: &[&str], role: &str) -> Spec {
        let overlays = self.dir.path().join("overlays");
        let base = overlays.join("base");
        std::fs::create_dir_all(base.join("rootfs")).unwrap();
        std::fs::write(base.join("README.md"), "test\n").unwrap();
        std::fs::write(base.join("role.toml"), format!("summary = \"test\"\npackages = {packages:?}\n{role}")).unwrap();
        let path = self.dir.path().join("worker.toml");
        let suites = "[\"trixie\", \"trixie-security\", \"trixie-backports\"]";
        let text = format!(
            "schema = 1\nname = \"worker\"\nepoch = 2026-11-01T00:00:00Z\nroles = [\"base\"]\n[debian]\nsuites = {suites}\n"
        );
        std::fs::write(&path, text).unwrap();
        crate::spec::load(&path, &overlays).unwrap()
    }

    pub(crate) fn spec(&self, packages: &[&str]) -> Spec {
        self.spec_with(packages, "")
    }

    pub(crate) fn remote(&self, offline: bool) -> Remote {
        remote(&[&self.server], offline)
    }

    pub(crate) fn options(&self, upgrade: Upgrade) -> Options {
        let path = self.dir.path().join("keyring.asc");
        let mut armoured = Vec::new();
        rpgpie::certificate::Certificate::from(self.key.clone()).save(true, &mut armoured).unwrap();
        std::fs::write(&path, armoured).unwrap();
        Options { upgrade, keyring: Keyring::load(&path).unwrap(), check: false }
    }

    pub(crate) fn resolve(&self, spec: &Spec, old: Option<&Lock>) -> Result<Resolution> {
        self.resolve_with(spec, old, Upgrade::Nothing)
    }

    pub(crate) fn resolve_with(&self, spec: &Spec, old: Option<&Lock>, upgrade: Upgrade) -> Result<Resolution> {
        resolve(spec, old, &self.options(upgrade), &self.store, &self.remote(false), &Silent)
    }

    /// The packages of the image that a spec's lock chooses, as `name version`.
    pub(crate) fn image(&self, packages: &[&str]) -> Result<Vec<String>> {
        Ok(image(&self.resolve(&self.spec(packages), None)?.lock))
    }

    pub(crate) fn locked(&self, packages: &[&str]) -> Locked {
        let spec = self.spec(packages);
        let lock = self.resolve(&spec, None).unwrap().lock;
        lock.bind(spec).unwrap()
    }
}

pub(crate) fn image(lock: &Lock) -> Vec<String> {
    let packages = lock.packages.iter().filter(|package| package.uses.contains(&Use::Image));
    packages.map(|package| format!("{} {}", package.name, package.version)).collect()
}

pub(crate) fn sign(key: &Tsk, text: &str) -> String {
    let message = rpgpie::csf::sign(text.as_bytes(), std::slice::from_ref(key), &[]).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}

/// A date as Release files write it. The day of the week is not looked at by anyone.
pub(crate) fn rfc(seconds: u64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut days, rest) = (seconds / DAY, seconds % DAY);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("Mon, {:02} {} {year} {hour:02}:{minute:02}:{second:02} UTC", days + 1, MONTHS[month])
}
