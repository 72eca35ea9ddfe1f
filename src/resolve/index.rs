//! Packages indexes: fetched by hash, checked, and read without copying.

use super::relation;
use super::release::Release;
use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::format::xz;
use crate::lock;
use crate::remote::Remote;
use crate::store::Store;
use crate::sys;
use crate::text::single_line;
use std::collections::HashMap;
use std::io::Read;

/// The one architecture that images are built for.
const ARCHITECTURE: &str = "amd64";
/// The one component that packages come from: the others are not part of Debian.
const COMPONENT: &str = "main";

/// Fetches the text of a suite's Packages index, from the store when its bytes are known already.
///
/// # Errors
/// [`Kind::Network`] or [`Kind::Integrity`], with the suite.
pub(super) fn fetch(release: &Release, store: &Store, remote: &Remote) -> Result<String> {
    let suite = &release.recorded.suite;
    let plain = format!("{COMPONENT}/binary-{ARCHITECTURE}/Packages");
    let missing = || Fault::new(Kind::Integrity, format!("suite {suite} has no index {plain}"));
    let (sha256, size) = release.files.get(&plain).ok_or_else(missing)?;
    let path = match store.object(sha256)? {
        Some(path) => path,
        None => {
            let packed =
                [".xz", ".gz"].iter().find_map(|suffix| Some((suffix, release.files.get(&(plain.clone() + suffix))?)));
            let (suffix, (packed_sha256, packed_size)) = packed.ok_or_else(missing)?;
            let by_hash = format!("dists/{suite}/{COMPONENT}/binary-{ARCHITECTURE}/by-hash/SHA256/{packed_sha256}");
            let what = format!("the package index of {suite}");
            let packed =
                remote.object(store, &what, &remote.urls(suite, &by_hash), (packed_sha256, *packed_size), &|_| {})?;
            let file = sys::fs::open(&packed)?;
            let reader: Box<dyn Read> = match *suffix {
                ".xz" => Box::new(xz::reader(file)?),
                _ => Box::new(flate2::read::MultiGzDecoder::new(file)),
            };
            let doing = || format!("decompressing {what}");
            store.ensure(sha256, *size, |sink| crate::store::pour(reader, sink, Kind::Integrity, doing))?
        }
    };
    sys::fs::read_text(&path)
}

/// One package version, borrowed from the index's text.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) architecture: &'a str,
    /// Where it is taken from.
    suite: &'a str,
    /// Later suites that hold the very same package.
    also: Vec<&'a str>,
    pub(super) not_automatic: bool,
    pub(super) depends: [&'a str; 2],
    pub(super) breaks: [&'a str; 2],
    provides: &'a str,
    /// Lower is more important to Debian: decides between providers of the same thing.
    pub(super) rank: u8,
    filename: &'a str,
    size: &'a str,
    sha256: &'a str,
}

impl Candidate<'_> {
    /// The suites that hold it, in the spec's order.
    pub(super) fn suites(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.suite).chain(self.also.iter().copied())
    }

    /// Whether a suite holds it.
    pub(super) fn is_in(&self, suite: &str) -> bool {
        self.suites().any(|own| own == suite)
    }

    /// As the lock records it, for no use yet.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when the index says something that cannot be.
    pub(super) fn locked(&self) -> Result<lock::Package> {
        let doing =
            || format!("reading the index entry of {} {}", self.name.escape_debug(), self.version.escape_debug());
        crate::text::debian_package(self.name).blame(Kind::Integrity, doing)?;
        single_line(self.version).blame(Kind::Integrity, doing)?;
        let path = crate::text::relative_path(self.filename).blame(Kind::Integrity, doing)?;
        Ok(lock::Package {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            architecture: self.architecture.to_owned(),
            suite: self.suite.to_owned(),
            path: path.to_owned(),
            size: self.size.parse().blame(Kind::Integrity, doing)?,
            sha256: self.sha256.parse::<Sha256>().blame(Kind::Integrity, doing)?,
            uses: Vec::new(),
        })
    }
}

/// All packages of all suites.
#[derive(Debug, Default)]
pub(super) struct Universe<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    by_name: HashMap<&'a str, Vec<usize>>,
    /// Name → who provides it, in which version.
    providers: HashMap<&'a str, Vec<(usize, Option<&'a str>)>>,
}

impl<'a> Universe<'a> {
    /// Adds a suite's index.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when the text is not an index.
    pub(super) fn add(&mut self, release: &'a Release, text: &'a str) -> Result<()> {
        let suite = release.recorded.suite.as_str();
        let doing = || format!("reading the package index of {suite}");
        for paragraph in deb822_fast::borrowed::iter_paragraphs_borrowed(text) {
            let paragraph = paragraph.blame(Kind::Integrity, doing)?;
            let mut candidate = Candidate {
                name: "",
                version: "",
                architecture: "",
                suite,
                also: Vec::new(),
                not_automatic: release.not_automatic,
                depends: [""; 2],
                breaks: [""; 2],
                provides: "",
                rank: 4,
                filename: "",
                size: "",
                sha256: "",
            };
            for field in paragraph.iter() {
                let Some(value) = field.as_single_line() else { continue };
                match field.name() {
                    "Package" => candidate.name = value,
                    "Version" => candidate.version = value,
                    "Architecture" => candidate.architecture = value,
                    "Pre-Depends" => candidate.depends[0] = value,
                    "Depends" => candidate.depends[1] = value,
                    "Conflicts" => candidate.breaks[0] = value,
                    "Breaks" => candidate.breaks[1] = value,
                    "Provides" => candidate.provides = value,
                    "Filename" => candidate.filename = value,
                    "Size" => candidate.size = value,
                    "SHA256" => candidate.sha256 = value,
                    "Priority" => candidate.rank = rank(value),
                    _ => {}
                }
            }
            if candidate.name.is_empty() || candidate.version.is_empty() {
                let message = format!("the package index of {suite} has an entry without name or version");
                return Err(Fault::new(Kind::Integrity, message).into());
            }
            if matches!(candidate.architecture, ARCHITECTURE | "all") {
                self.insert(candidate)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, candidate: Candidate<'a>) -> Result<()> {
        let id = self.candidates.len();
        let known = self.by_name.entry(candidate.name).or_default();
        // The same package in a second suite: it is taken from the first of the spec's order, whichever is asked for.
        let same = known.iter().copied().find(|other| {
            let other = &self.candidates[*other];
            other.version == candidate.version
                && other.sha256 == candidate.sha256
                && other.not_automatic == candidate.not_automatic
        });
        if let Some(same) = same {
            self.candidates[same].also.push(candidate.suite);
            return Ok(());
        }
        known.push(id);
        let provided = relation::parse(candidate.provides).ok_or_else(|| {
            Fault::new(Kind::Integrity, format!("{} provides `{}`", candidate.name, candidate.provides.escape_debug()))
        })?;
        for atom in provided.into_iter().flatten() {
            self.providers.entry(atom.name).or_default().push((id, atom.version.map(|(_, version)| version)));
        }
        self.candidates.push(candidate);
        Ok(())
    }

    /// The real packages of a name.
    pub(super) fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that provide a name, with the provided version.
    pub(super) fn providing(&self, name: &str) -> &[(usize, Option<&'a str>)] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }
}

fn rank(priority: &str) -> u8 {
    match priority {
        "required" => 0,
        "important" => 1,
        "standard" => 2,
        "optional" => 3,
        _ => 4,
    }
}
