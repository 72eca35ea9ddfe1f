//! Where Debian's archives are: what the user says, else what the host's apt uses, and then Debian's own address.

use crate::error::{Fault, Kind, Result};
use crate::sys;
use std::path::Path;

/// One of the two archives that suites live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// Releases, their updates and backports.
    Main,
    /// Security updates.
    Security,
}

impl Archive {
    /// The archive that holds a suite.
    #[must_use]
    pub fn of_suite(suite: &str) -> Self {
        if suite.ends_with("-security") { Self::Security } else { Self::Main }
    }

    /// How the archive's addresses end, by convention of every mirror.
    const fn ending(self) -> &'static str {
        match self {
            Self::Main => "/debian",
            Self::Security => "/debian-security",
        }
    }

    const fn default(self) -> &'static str {
        match self {
            Self::Main => "http://deb.debian.org/debian",
            Self::Security => "http://deb.debian.org/debian-security",
        }
    }
}

/// The mirrors of both archives, the first asked first, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// Of the main archive.
    pub main: Vec<String>,
    /// Of the security archive.
    pub security: Vec<String>,
}

impl Mirrors {
    /// Chooses mirrors: `main` and `security` (comma separated, from a flag or the variables `NODELITH_MIRROR` and
    /// `NODELITH_SECURITY_MIRROR`; empty is as good as unset), else those of the host's apt, and then Debian's own.
    ///
    /// # Errors
    /// [`Kind::Usage`] when a given mirror is no http or https URL.
    pub fn choose(main: Option<&str>, security: Option<&str>, apt: &Path) -> Result<Self> {
        let found = apt_uris(apt);
        let pick = |given: Option<&str>, archive: Archive| match given.filter(|given| !given.is_empty()) {
            Some(given) => given.split(',').map(|url| checked(url.trim())).collect::<Result<Vec<_>>>(),
            None => {
                let mut urls: Vec<String> = Vec::new();
                for uri in found.iter().map(|uri| uri.trim_end_matches('/')) {
                    if uri.ends_with(archive.ending()) && checked(uri).is_ok() && !urls.iter().any(|url| url == uri) {
                        urls.push(uri.to_owned());
                    }
                }
                // Always, as the last: `https://…/virtualbox/debian` ends as a mirror does, and is none.
                if !urls.iter().any(|url| url == archive.default()) {
                    urls.push(archive.default().to_owned());
                }
                Ok(urls)
            }
        };
        Ok(Self { main: pick(main, Archive::Main)?, security: pick(security, Archive::Security)? })
    }

    /// As [`Mirrors::choose`], from this host's environment and `/etc/apt`. `flag` overrides the main mirror.
    ///
    /// # Errors
    /// As [`Mirrors::choose`].
    pub fn of_host(flag: Option<&str>) -> Result<Self> {
        let variable = |name| std::env::var(name).ok();
        let main = flag.map(str::to_owned).or_else(|| variable("NODELITH_MIRROR"));
        Self::choose(main.as_deref(), variable("NODELITH_SECURITY_MIRROR").as_deref(), Path::new("/etc/apt"))
    }

    /// The mirrors of an archive.
    #[must_use]
    pub fn of(&self, archive: Archive) -> &[String] {
        match archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        }
    }
}

fn checked(url: &str) -> Result<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
        let fault = Fault::new(Kind::Usage, format!("`{}` is not a mirror's address", url.escape_debug()));
        return Err(fault.hint("write it as https://host/debian").into());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// The addresses that the host's apt fetches packages from, sources.list(5), in its order. What cannot be read is
/// skipped: these files are a convenience, and the archive is trusted by its signature only.
fn apt_uris(apt: &Path) -> Vec<String> {
    let mut files = vec![apt.join("sources.list")];
    files.extend(sys::fs::list(&apt.join("sources.list.d")).unwrap_or_default());
    let mut uris = Vec::new();
    for file in files {
        let Ok(text) = sys::fs::read_text(&file) else { continue };
        match file.extension().and_then(std::ffi::OsStr::to_str) {
            Some("list") => uris.extend(text.lines().filter_map(one_line)),
            Some("sources") => uris.extend(stanzas(&text)),
            _ => {}
        }
    }
    uris
}

/// `deb [options] URI suite component…`
fn one_line(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    rest.split_whitespace().next().map(str::to_owned)
}

fn stanzas(text: &str) -> Vec<String> {
    // The parser refuses comments inside a paragraph, apt takes them.
    let text: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut uris = Vec::new();
    for paragraph in deb822_fast::borrowed::iter_paragraphs_borrowed(&text).flatten() {
        let field = |name| paragraph.get(name).map(|lines| lines.join(" ")).unwrap_or_default();
        let off = field("Enabled").trim().eq_ignore_ascii_case("no");
        if !off && field("Types").split_whitespace().any(|word| word == "deb") {
            uris.extend(field("URIs").split_whitespace().map(str::to_owned));
        }
    }
    uris
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_given_or_apt_and_debian() {
        let apt = tempfile::tempdir().unwrap();
        let none = Mirrors::choose(None, None, apt.path()).unwrap();
        assert_eq!(none.main, ["http://deb.debian.org/debian"]);

        std::fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        let list =
            "# deb http://no/debian x\ndeb-src http://src/debian x\ndeb [arch=amd64] http://one/debian/ trixie main\n";
        std::fs::write(apt.path().join("sources.list"), list).unwrap();
        let sources = "Types: deb\n# a comment\nURIs: http://two/debian http://three/debian\nSuites: trixie\n\n\
            Types: deb\nURIs: http://off/debian\nEnabled: no\n\nTypes: deb\nURIs: http://s/debian-security\n\n\
            Types: deb\nURIs: http://other/stuff mirror+file:/etc/apt/m/debian\n";
        std::fs::write(apt.path().join("sources.list.d/a.sources"), sources).unwrap();
        let found = Mirrors::choose(None, None, apt.path()).unwrap();
        let debian = none.main[0].as_str();
        assert_eq!(found.main, ["http://one/debian", "http://two/debian", "http://three/debian", debian]);
        assert_eq!(found.security, ["http://s/debian-security", none.security[0].as_str()]);

        assert_eq!(Mirrors::choose(Some(""), Some(""), apt.path()).unwrap(), found, "a variable set to nothing");
        let given = Mirrors::choose(Some("https://a/debian/, http://b/d"), None, apt.path()).unwrap();
        assert_eq!(given.main, ["https://a/debian", "http://b/d"]);
        assert_eq!(given.security, found.security);
        std::fs::write(apt.path().join("sources.list"), format!("deb {debian}/ trixie main\n")).unwrap();
        assert_eq!(
            Mirrors::choose(None, None, apt.path()).unwrap().main.iter().filter(|url| *url == debian).count(),
            1
        );
        let wrong = Mirrors::choose(Some("ftp://a"), None, apt.path()).unwrap_err();
        assert_eq!(crate::error::kind_of(&wrong), Kind::Usage);
    }
}
