//! Versions of programs that talk to each other: how far apart their minor versions may be.

use super::diagnose::{Source, refuse};
use super::raw::RawSpec;
use super::relations::{listed, place, value};
use super::role::{Binary, Role, Value};
use crate::error::Result;
use crate::text::{Name, Refused};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The part of a version that skews are told of; what stands behind it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Reads `1.37`, `v1.37.2`, `1.37.2-rc.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?;
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts = text.splitn(3, '.');
        let version = Self { major: number(parts.next()?)?, minor: number(parts.next()?)? };
        let rest = parts.next().is_none_or(|patch| patch.starts_with(|c: char| c.is_ascii_digit()));
        rest.then_some(version)
    }

    /// The version in what a program was made from: `k8s.io/kubernetes@v1.37.2`, or a URL with `/v1.37.2/` in it.
    #[must_use]
    pub fn of_origin(from: &str) -> Option<Self> {
        match from.split_once("://") {
            Some((_, url)) => url.split('/').skip(1).find_map(Self::parse),
            None => Self::parse(from.rsplit_once('@')?.1),
        }
    }
}

/// How far a program's minor version may be from another's: `kube-apiserver/kube-apiserver -3..0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Skew {
    /// The other program, `<role>/<binary>`, or the variable that tells its version, `<role>.<variable>`.
    pub of: String,
    /// So many minor versions less than the other, as a negative number, or more.
    low: i64,
    /// At most.
    high: i64,
}

impl FromStr for Skew {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let refused = || {
            Refused(format!("`{}` is not a skew such as `kube-apiserver/kube-apiserver -3..0`", text.escape_debug()))
        };
        let (of, range) = text.split_once(' ').ok_or_else(refused)?;
        let (low, high) = range.split_once("..").ok_or_else(refused)?;
        let (low, high) = (low.parse().map_err(|_| refused())?, high.parse().map_err(|_| refused())?);
        let (role, name) = of.split_once(['/', '.']).ok_or_else(refused)?;
        if low > high || [role, name].into_iter().any(|name| Name::new(name).is_err()) {
            return Err(refused());
        }
        Ok(Self { of: of.to_owned(), low, high })
    }
}

impl TryFrom<String> for Skew {
    type Error = Refused;

    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<Skew> for String {
    fn from(skew: Skew) -> Self {
        format!("{} {}..{}", skew.of, skew.low, skew.high)
    }
}

impl fmt::Display for Skew {
    /// What may be, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions =
            |count: i64| if count == 1 { "1 minor version".into() } else { format!("{count} minor versions") };
        match (-self.low, self.high) {
            (0, 0) => f.write_str("it must be the same minor version"),
            (older @ 1.., 0) => write!(f, "it may be {} older, and not newer", versions(older)),
            (0, newer @ 1..) => write!(f, "it may be {} newer, and not older", versions(newer)),
            (older, newer) if older == newer => write!(f, "it may be {} older or newer", versions(older)),
            _ => write!(f, "it may be {} to {} away from that", self.low, versions(self.high)),
        }
    }
}

impl Skew {
    /// Whether two versions may meet.
    #[must_use]
    pub fn allows(&self, mine: Version, theirs: Version) -> bool {
        let apart = i64::from(mine.minor) - i64::from(theirs.minor);
        mine.major == theirs.major && (self.low..=self.high).contains(&apart)
    }

    /// Why two versions must not meet, if so; none is a version that nobody tells.
    #[must_use]
    pub fn unfit(&self, mine: Option<Version>, theirs: Option<Version>) -> Option<String> {
        match (mine, theirs) {
            (Some(mine), Some(theirs)) if self.allows(mine, theirs) => None,
            (Some(_), Some(_)) => Some(self.to_string()),
            _ => Some("one of them tells no version".into()),
        }
    }
}

/// Refuses programs whose versions are too far apart, at the value that tells one of them or at the role that brings one.
pub(super) fn check(
    source: Source<'_>,
    raw: &RawSpec,
    roles: &[Role],
    values: &BTreeMap<Name, BTreeMap<Name, Value>>,
) -> Result<()> {
    let all = roles.iter().flat_map(|role| role.binaries.iter().map(move |(name, binary)| (role, name, binary)));
    for (role, name, binary) in all {
        for skew in &binary.skew {
            let Some((theirs, told)) = other(skew, roles, values) else { continue };
            let (theirs, version) = match theirs {
                Some(Other::Program(other)) => {
                    let from = other.source.origin()?;
                    let version = Version::of_origin(&from);
                    (from, version)
                }
                Some(Other::Told(version)) if version.is_empty() => continue,
                Some(Other::Told(text)) => {
                    let version = Version::parse(&text);
                    (text, version)
                }
                None => {
                    let why = format!("`{}/{name}` has a skew of `{}`, which there is not", role.name, skew.of);
                    return Err(refuse(source, listed(raw, &role.name), &why, Some("correct the role")));
                }
            };
            let mine = binary.source.origin()?;
            let Some(wrong) = skew.unfit(Version::of_origin(&mine), version) else { continue };
            let place = told.and_then(|(role, variable)| place(raw, &role, &variable));
            let why = format!("`{}/{name}` is {mine}, `{}` is {theirs}: {wrong}", role.name, skew.of);
            let hint =
                "a Go module's version is that of its go.mod, a release file's stands in its URL, as `/v1.37.2/`";
            return Err(refuse(source, place.or_else(|| listed(raw, &role.name)), &why, Some(hint)));
        }
    }
    Ok(())
}

enum Other<'a> {
    Program(&'a Binary),
    Told(String),
}

/// What a skew is of, and the variable that tells it; none for a role that the spec does not have.
type Found<'a> = (Option<Other<'a>>, Option<(Name, Name)>);

fn other<'a>(skew: &Skew, roles: &'a [Role], values: &BTreeMap<Name, BTreeMap<Name, Value>>) -> Option<Found<'a>> {
    let (role, name) = skew.of.split_once(['/', '.'])?;
    let owner = roles.iter().find(|owner| owner.name.as_str() == role)?;
    let name = Name::new(name).ok()?;
    if skew.of.contains('/') {
        return Some((owner.binaries.get(&name).map(Other::Program), None));
    }
    let known = owner.variables.contains_key(&name);
    let told = known.then(|| Other::Told(value(values, &owner.name, &name).unwrap_or_default()));
    Some((told, Some((owner.name.clone(), name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_out_of_what_a_program_was_made_from() {
        let version = |minor| Some(Version { major: 1, minor });
        for (text, wanted) in [("1.37", version(37)), ("v1.37.2", version(37)), ("v1.38.0-rc.1", version(38))] {
            assert_eq!(Version::parse(text), wanted, "{text}");
        }
        for text in ["", "1", "v1", "1.x", "1.37.", "1.+7", "-1.2", "v1.37-rc", "1.99999999999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        for (from, wanted) in [
            ("k8s.io/kubernetes@v1.37.2", version(37)),
            ("https://example.org/release/v1.36.1/bin/linux/amd64/kubelet", version(36)),
            ("https://1.2.3.4/kubelet", None),
            ("k8s.io/kubernetes", None),
        ] {
            assert_eq!(Version::of_origin(from), wanted, "{from}");
        }
    }

    #[test]
    fn a_skew_is_a_window_of_minor_versions() {
        let skew = |text: &str| text.parse::<Skew>();
        let allowed = |text: &str, mine: &str, theirs: &str| {
            skew(text).unwrap().allows(Version::parse(mine).unwrap(), Version::parse(theirs).unwrap())
        };
        let kubelet = "kube-apiserver/kube-apiserver -3..0";
        for (mine, good) in [("1.33", false), ("1.34", true), ("1.37", true), ("1.38", false), ("2.37", false)] {
            assert_eq!(allowed(kubelet, mine, "1.37"), good, "{mine}");
        }
        let kubectl = "a/b -1..1";
        for (mine, good) in [("1.35", false), ("1.36", true), ("1.38", true), ("1.39", false)] {
            assert_eq!(allowed(kubectl, mine, "1.37"), good, "{mine}");
        }
        assert_eq!(String::from(skew(kubelet).unwrap()), kubelet);
        assert!(skew(kubelet).unwrap().to_string().contains("3 minor versions older, and not newer"));
        assert!(skew(kubectl).unwrap().to_string().contains("1 minor version older or newer"));
        for bad in ["", "a/b", "a/b -3", "a/b 1..0", "ab -1..1", "a/b/c -1..1", "A/b 0..0", "a/b x..0"] {
            assert!(skew(bad).is_err(), "{bad}");
        }
        assert!(skew(kubelet).unwrap().unfit(Version::parse("1.2"), None).unwrap().contains("tells no version"));
    }
}
