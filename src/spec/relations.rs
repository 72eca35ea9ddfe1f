//! What must hold between values: two that are the same, networks that stay apart, an address that lies in a network.

use super::diagnose::{Source, refuse};
use super::raw::{RawSpec, RawVariable};
use super::role::{Relation, RelationKind, Role, Value};
use super::value::Network;
use crate::error::Result;
use crate::text::Name;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// Reads the relations of a variable, as its role has them.
pub(super) fn read(source: Source<'_>, raw: &RawVariable) -> Result<Vec<Relation>> {
    let kinds =
        [(RelationKind::Same, &raw.same), (RelationKind::Apart, &raw.apart), (RelationKind::Within, &raw.within)];
    let typed = kinds.into_iter().flat_map(|(kind, others)| others.iter().map(move |other| (kind, other)));
    typed.map(|(kind, other)| one(source, kind, other)).collect()
}

fn one(source: Source<'_>, kind: RelationKind, other: &Spanned<String>) -> Result<Relation> {
    let name = |text: &str| Name::new(text).map_err(|refused| refuse(source, Some(other.span()), &refused.0, None));
    let (role, variable) = match other.get_ref().split_once('.') {
        Some((role, variable)) => (Some(name(role)?), name(variable)?),
        None => (None, name(other.get_ref())?),
    };
    Ok(Relation { kind, role, variable })
}

/// Refuses values that do not fit each other, at the value that the spec gives, or at the role whose default it is.
pub(super) fn check(
    source: Source<'_>,
    raw: &RawSpec,
    roles: &[Role],
    values: &BTreeMap<Name, BTreeMap<Name, Value>>,
) -> Result<()> {
    for role in roles {
        for (name, variable) in &role.variables {
            for relation in &variable.relations {
                let other = relation.role.as_ref().unwrap_or(&role.name);
                let Some(owner) = roles.iter().find(|role| role.name == *other) else { continue };
                let places = [place(raw, &role.name, name), place(raw, other, &relation.variable)];
                let place = places.into_iter().flatten().next().or_else(|| listed(raw, &role.name));
                let title = relation.role.as_ref().map_or(String::new(), |role| format!("{role}."))
                    + relation.variable.as_str();
                if !owner.variables.contains_key(&relation.variable) {
                    let why = format!("`{}.{name}` is related to `{title}`, which there is not", role.name);
                    return Err(refuse(source, place, &why, Some("correct the role")));
                }
                let (mine, theirs) = (value(values, &role.name, name), value(values, other, &relation.variable));
                let (Some(mine), Some(theirs)) = (mine, theirs) else { continue };
                if let Some(wrong) = broken(relation.kind, &mine, &theirs) {
                    let why = format!("`{}.{name}` is {mine}, `{title}` is {theirs}: {wrong}", role.name);
                    return Err(refuse(source, place, &why, Some("change one of the two values")));
                }
            }
        }
    }
    Ok(())
}

/// Why a relation does not hold, if so. An empty value is none.
fn broken(kind: RelationKind, mine: &str, theirs: &str) -> Option<&'static str> {
    if mine.is_empty() || theirs.is_empty() {
        return None;
    }
    let networks = || Some((Network::parse(mine)?, Network::parse(theirs)?));
    match kind {
        RelationKind::Same => (mine != theirs).then_some("they must be the same"),
        RelationKind::Apart => networks().filter(|(a, b)| a.overlaps(b)).map(|_| "the networks overlap"),
        RelationKind::Within => networks().filter(|(a, b)| !b.contains(a)).map(|_| "the first must lie in the second"),
    }
}

/// A variable's value as text; none when nobody gives it one.
pub(super) fn value(values: &BTreeMap<Name, BTreeMap<Name, Value>>, role: &Name, variable: &Name) -> Option<String> {
    values.get(role)?.get(variable).map(ToString::to_string)
}

/// Where a spec gives a value.
pub(super) fn place(raw: &RawSpec, role: &Name, variable: &Name) -> Option<Range<usize>> {
    let (_, given) = raw.values.iter().find(|(name, _)| name.get_ref() == role.as_str())?;
    given.iter().find(|(name, _)| name.get_ref() == variable.as_str()).map(|(_, value)| value.span())
}

/// Where a spec lists a role.
pub(super) fn listed(raw: &RawSpec, role: &Name) -> Option<Range<usize>> {
    raw.roles.get_ref().iter().find(|name| name.get_ref() == role.as_str()).map(Spanned::span)
}
