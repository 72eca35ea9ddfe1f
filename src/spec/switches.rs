//! Switches: names with `true` or `false`, such as Kubernetes' feature gates. A file of the role lists those that there are.

use super::diagnose::{Source, refuse};
use super::raw::RawVariable;
use crate::error::Result;
use crate::sys;
use crate::text::relative_path;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The switches that a variable may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switches {
    /// The list.
    file: PathBuf,
    /// By name; with the only value that one takes, if it is locked to that.
    known: BTreeMap<String, Option<bool>>,
}

impl Switches {
    /// Reads the list that a variable of `type = "switches"` names, a file of the role's folder `dir`.
    pub(super) fn read(source: Source<'_>, raw: &RawVariable, dir: &Path) -> Result<Self> {
        let Some(known) = &raw.known else {
            let hint = "add `known = \"…\"`, a file of the role with one name a line";
            return Err(refuse(source, Some(raw.value_type.span()), "switches of nothing", Some(hint)));
        };
        let at = |why: &str| refuse(source, Some(known.span()), why, None);
        let file = dir.join(relative_path(known.get_ref()).map_err(|refused| at(&refused.0))?);
        if !file.is_file() {
            return Err(at(&format!("{} is missing", file.display())));
        }
        let text = sys::fs::read_text(&file)?;
        let known = Self::parse(Source { path: &file, text: &text })?;
        Ok(Self { file, known })
    }

    /// One switch a line, `NAME`, or `NAME=value` for one that is locked.
    fn parse(source: Source<'_>) -> Result<BTreeMap<String, Option<bool>>> {
        let mut known = BTreeMap::new();
        let mut start = 0;
        for whole in source.text.split_inclusive('\n') {
            let line = whole.trim_end();
            let span = start..start + line.len();
            start += whole.len();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, locked) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
            let locked = locked.map(str::parse).transpose();
            let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
            match locked.ok().filter(|_| good) {
                Some(locked) if known.insert(name.to_owned(), locked).is_none() => {}
                _ => {
                    let hint = "write each switch once, `NAME` or `NAME=true`";
                    return Err(refuse(source, Some(span), "not a switch, or one that was listed before", Some(hint)));
                }
            }
        }
        Ok(known)
    }

    /// Checks `A=true,B=false`.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        let mut set = std::collections::BTreeSet::new();
        for part in text.split(',') {
            let value = part.split_once('=').and_then(|(name, value)| Some((name, value.parse::<bool>().ok()?)));
            let Some((name, value)) = value else {
                return Err(format!("`{part}` is not `NAME=true` or `NAME=false`"));
            };
            match self.known.get(name) {
                None => return Err(self.unknown(name)),
                Some(Some(only)) if *only != value => {
                    return Err(format!("`{name}` is locked to {only} in this version"));
                }
                Some(_) if !set.insert(name) => return Err(format!("`{name}` is set twice")),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
        let nearest = self.known.keys().map(|known| (distance(known), known)).min();
        match nearest.filter(|(distance, _)| *distance <= name.len() / 2) {
            Some((_, nearest)) => format!("there is no `{name}`: the nearest is `{nearest}`"),
            None => format!("there is no `{name}`: {} lists what there is", self.file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    #[test]
    fn switches_are_known_once_and_not_locked() {
        let parse = |text: &str| Switches::parse(Source { path: Path::new("list"), text });
        let known = parse("# of version 1\nNodeSwap\n\nGracefulNodeShutdown\nOld=true\n").unwrap();
        let switches = Switches { file: "list".into(), known };
        switches.check("NodeSwap=false").unwrap();
        switches.check("NodeSwap=true,Old=true").unwrap();
        for (text, why) in [
            ("NodeSwap", "is not `NAME=true`"),
            ("NodeSwap=yes", "is not `NAME=true`"),
            ("NodeSwap=true,", "`` is not"),
            ("NodeSwap=true,NodeSwap=true", "set twice"),
            ("Old=false", "locked to true"),
            ("gracefulnodeshutdwon=true", "the nearest is `GracefulNodeShutdown`"),
            ("Zzz=true", "list lists"),
        ] {
            let said = switches.check(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        for (text, line) in [
            ("A\nA\n", 2),
            ("# x\na b\n", 2),
            ("A=1\n", 1),
            ("=true\n", 1),
            ("A \t \nB\nA\n", 3),
            ("A\r\nB\r\nA\r\n", 3),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Spec);
            assert!(format!("{error:#}").contains(&format!("list:{line}:1")), "{error:#}");
        }
    }
}
