//! Relations between packages: `a | b (>= 1)`, Debian Policy 7.1.

use debversion::Version;
use std::cmp::Ordering;
use std::fmt;

/// One package in a relation, with the versions that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Atom<'a> {
    pub(super) name: &'a str,
    /// Operator and version, such as `>=` and `1.2-3`.
    pub(super) version: Option<(Operator, &'a str)>,
}

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Operator {
    const fn word(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

impl fmt::Display for Atom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some((operator, version)) => write!(f, "{} ({} {version})", self.name, operator.word()),
            None => f.write_str(self.name),
        }
    }
}

impl Atom<'_> {
    /// Whether a package of this version will do.
    pub(super) fn admits(&self, version: &str) -> bool {
        let Some((operator, bound)) = self.version else { return true };
        let Some(ordering) = compare(version, bound) else { return false };
        match operator {
            Operator::Earlier => ordering.is_lt(),
            Operator::EarlierOrEqual => ordering.is_le(),
            Operator::Equal => ordering.is_eq(),
            Operator::LaterOrEqual => ordering.is_ge(),
            Operator::Later => ordering.is_gt(),
        }
    }

    /// Whether a `Provides` will do: one without version does only where no version is asked for (Policy 7.5).
    pub(super) fn admits_provided(&self, version: Option<&str>) -> bool {
        match version {
            Some(version) => self.admits(version),
            None => self.version.is_none(),
        }
    }
}

/// Compares Debian versions; `None` when one of them is none.
pub(super) fn compare(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    Some(a.parse::<Version>().ok()?.cmp(&b.parse::<Version>().ok()?))
}

/// Reads a relation field: every item must hold, any alternative of an item will do. An alternative for another
/// architecture is left out; so an item may end up without any. `None` when the text is not a relation.
pub(super) fn parse(field: &str) -> Option<Vec<Vec<Atom<'_>>>> {
    let items = field.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.split('|').map(|text| atom(text.trim())).collect::<Option<Vec<_>>>()).map(own).collect()
}

/// Leaves out alternatives for other architectures.
fn own<'a>(alternatives: Option<Vec<Option<Atom<'a>>>>) -> Option<Vec<Atom<'a>>> {
    Some(alternatives?.into_iter().flatten().collect())
}

/// `Some(None)`: for another architecture.
fn atom(text: &str) -> Option<Option<Atom<'_>>> {
    let end = text.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (name, foreign) = match name.split_once(':') {
        Some((name, "any" | "amd64" | "native")) => (name, false),
        Some((name, _)) => (name, true),
        None => (name, false),
    };
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim();
    let version = match rest.strip_prefix('(') {
        Some(inner) => {
            let inner = inner.split_once(')')?.0.trim();
            let at = inner.find(|c| !"<>=".contains(c))?;
            let operator = match &inner[..at] {
                "<<" => Operator::Earlier,
                // A lone `<` or `>` is obsolete and means "or equal" (Policy 7.1).
                "<=" | "<" => Operator::EarlierOrEqual,
                "=" => Operator::Equal,
                ">=" | ">" => Operator::LaterOrEqual,
                ">>" => Operator::Later,
                _ => return None,
            };
            Some((operator, inner[at..].trim()))
        }
        None => None,
    };
    Some((!foreign).then_some(Atom { name, version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_compared() {
        let read = parse("libc6 (>= 2.38), a:any | b(<<1:2~) , c:i386 | d").unwrap();
        let shown: Vec<Vec<String>> = read.iter().map(|item| item.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(shown, [vec!["libc6 (>= 2.38)"], vec!["a", "b (<< 1:2~)"], vec!["d"]]);
        assert!(read[0][0].admits("2.41-12") && !read[0][0].admits("2.38~rc1"));
        assert!(read[1][1].admits("9.0") && !read[1][1].admits("1:2"));
        assert!(!read[0][0].admits_provided(None) && read[1][0].admits_provided(None));
        assert_eq!(parse(""), Some(vec![]));
        for bad in ["(>= 1)", "a (>= 1", "a (~ 1)"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
