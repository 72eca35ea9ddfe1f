//! What a spec of `kind = "container"` says beyond packages and roles: the image reference, which files are taken, and
//! how the container is started (the OCI image configuration).

use super::diagnose::{Source, refuse};
use super::load::{each, load_if, name, one};
use super::raw::{RawContainer, RawSpec};
use super::{Kind, Role, SetAt, Spec};
use crate::error::Result;
use crate::text::{Refused, relative_path, single_line};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

/// Where our references point; no registry of that name has to exist, since archives are imported.
const REGISTRY: &str = "nodelith.dev";

/// How a container is named, filled and started.
#[derive(Debug, Clone)]
pub struct Container {
    /// `nodelith.dev/<name>:<tag>`.
    pub reference: String,
    /// The part of the reference behind the colon.
    pub tag: String,
    /// Paths of the packages' trees that are taken, with what they need; `None` for all of them.
    pub only: Option<Vec<String>>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments behind those, which whoever starts the container may replace.
    pub cmd: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// `uid:gid`, in numbers: Kubernetes can tell that these are not root's, and no passwd file is needed.
    pub user: String,
    /// An absolute path.
    pub workdir: Option<String>,
    /// Ports that it listens on, for people.
    pub ports: Vec<Port>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// `SIGQUIT` and the like; the runtime sends SIGTERM without it.
    pub stop_signal: Option<String>,
}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// What a spec is of; refuses keys that the kind has no use for.
pub(super) fn kind(source: Source<'_>, raw: &RawSpec) -> Result<Kind> {
    let word = raw.kind.as_ref().map_or("machine", |kind| kind.get_ref().as_str());
    let place = raw.kind.as_ref().map(Spanned::span);
    match (word, &raw.container) {
        ("machine", None) => Ok(Kind::Machine),
        ("machine", Some(table)) => {
            let hint = "write `kind = \"container\"` at the top, or remove the table";
            Err(refuse(source, Some(table.span()), "a machine has no table [container]", Some(hint)))
        }
        ("container", None) => {
            let hint = "add [container] with `tag`, `entrypoint` and `user`";
            Err(refuse(source, place, "a container needs the table [container]", Some(hint)))
        }
        ("container", Some(table)) => {
            if let Some(word) = raw.cmdline.first() {
                let why = "a container has no kernel, so no command line";
                return Err(refuse(source, Some(word.span()), why, Some("remove `cmdline`")));
            }
            container(source, raw, table.get_ref()).map(|container| Kind::Container(Box::new(container)))
        }
        (other, _) => {
            let why = format!("`{}` is not a kind of image", other.escape_debug());
            Err(refuse(source, place, &why, Some("write `kind = \"machine\"` or `kind = \"container\"`")))
        }
    }
}

fn container(source: Source<'_>, raw: &RawSpec, table: &RawContainer) -> Result<Container> {
    let name = name(source, &raw.name)?;
    let tag = one(source, &table.tag, tag)?;
    if table.entrypoint.get_ref().is_empty() {
        let hint = "write `entrypoint = [\"/usr/bin/…\"]`";
        return Err(refuse(source, Some(table.entrypoint.span()), "nothing to start", Some(hint)));
    }
    if let Some(only) = table.only.as_ref().filter(|only| only.get_ref().is_empty()) {
        let hint = "without `only` all files of the packages are taken; without packages there are none";
        return Err(refuse(source, Some(only.span()), "no path", Some(hint)));
    }
    let path = |text: &str| relative_path(text).map(str::to_owned);
    let only = table.only.as_ref().map(|only| each(source, only.get_ref(), path)).transpose()?;
    Ok(Container {
        reference: format!("{REGISTRY}/{name}:{tag}"),
        tag,
        only,
        entrypoint: each(source, table.entrypoint.get_ref(), argument)?,
        cmd: each(source, &table.cmd, argument)?,
        env: pairs(source, &table.env, variable)?,
        user: one(source, &table.user, user)?,
        workdir: table.workdir.as_ref().map(|text| one(source, text, absolute_path)).transpose()?,
        ports: each(source, &table.ports, port)?,
        labels: pairs(source, &table.labels, label)?,
        stop_signal: table.stop_signal.as_ref().map(|text| one(source, text, signal)).transpose()?,
    })
}

/// Why a role cannot be part of a container, if so.
pub(super) fn unfit(role: &Role) -> Option<String> {
    let boots = role.variables.iter().find(|(_, variable)| variable.set == SetAt::Boot);
    let what = [
        (!role.units.is_empty(), "enables units"),
        (!role.modules.is_empty(), "wants kernel modules"),
        (!role.certificates.is_empty(), "fetches certificates"),
        (!role.listeners.is_empty(), "declares listeners"),
        (boots.is_some(), "has variables that are set at boot"),
    ];
    let (_, what) = what.into_iter().find(|(is, _)| *is)?;
    Some(format!("the role {what}, which is for machines"))
}

/// Reads the specs of the containers that a role preloads. They lie beside the spec of the machine; without one the
/// role is a container's, and two containers that preload each other would never end.
pub(super) fn preloads(
    source: Source<'_>,
    names: &[Spanned<String>],
    machine: Option<&Path>,
    overlays: &Path,
) -> Result<Vec<Spec>> {
    let mut specs: Vec<Spec> = Vec::new();
    for text in names {
        let name = name(source, text)?;
        let refused = |why: &str, hint: &str| Err(refuse(source, Some(text.span()), why, Some(hint)));
        let Some(machine) = machine else {
            return refused("a container preloads nothing", "leave this role out of the container's spec");
        };
        if specs.iter().any(|spec| spec.name == name) {
            return refused("the container is listed twice", "keep the first");
        }
        let path = machine.with_file_name(format!("{name}.toml"));
        if !path.is_file() {
            let why = format!("no spec builds the container `{name}`: {} is missing", path.display());
            return refused(&why, "write that spec, with `kind = \"container\"`");
        }
        let Some(spec) = load_if(&path, overlays, |kind| !matches!(kind, Kind::Machine))? else {
            let why = format!("{} is the spec of a machine", path.display());
            return refused(&why, "only a spec of `kind = \"container\"` can be preloaded");
        };
        specs.push(spec);
    }
    Ok(specs)
}

fn pairs(
    source: Source<'_>,
    raw: &BTreeMap<Spanned<String>, Spanned<String>>,
    key: fn(&str) -> Result<String, Refused>,
) -> Result<BTreeMap<String, String>> {
    let pair = |(name, value): (&Spanned<String>, &Spanned<String>)| {
        Ok((one(source, name, key)?, one(source, value, |text| single_line(text).map(str::to_owned))?))
    };
    raw.iter().map(pair).collect()
}

/// A tag by the grammar of the OCI distribution specification.
fn tag(text: &str) -> Result<String, Refused> {
    let good = (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if good { Ok(text.to_owned()) } else { Err(Refused(format!("`{}` is not a tag", text.escape_debug()))) }
}

fn argument(text: &str) -> Result<String, Refused> {
    match single_line(text)? {
        "" => Err(Refused("an empty argument".into())),
        text => Ok(text.to_owned()),
    }
}

fn user(text: &str) -> Result<String, Refused> {
    let number = |text: &str| {
        let canonical = text.parse::<u32>().is_ok_and(|id| id.to_string() == text);
        canonical && text != "4294967295"
    };
    match text.split_once(':') {
        Some((uid, gid)) if number(uid) && number(gid) => Ok(text.to_owned()),
        _ => Err(Refused(format!("`{}` is not `uid:gid` in numbers such as `65532:65532`", text.escape_debug()))),
    }
}

fn absolute_path(text: &str) -> Result<String, Refused> {
    let clean = text.strip_prefix('/').is_some_and(|rest| rest.is_empty() || relative_path(rest).is_ok());
    if clean { Ok(text.to_owned()) } else { Err(Refused(format!("`{}` is not an absolute path", text.escape_debug()))) }
}

fn port(text: &str) -> Result<Port, Refused> {
    let refused = || Refused(format!("`{}` is not a port such as `53/udp`", text.escape_debug()));
    let (port, protocol) = text.split_once('/').ok_or_else(refused)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(refused)?;
    match protocol {
        "tcp" | "udp" => Ok(Port { port, protocol: protocol.to_owned() }),
        _ => Err(refused()),
    }
}

fn variable(text: &str) -> Result<String, Refused> {
    let good = !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        Ok(text.to_owned())
    } else {
        Err(Refused(format!("`{}` is not the name of an environment variable", text.escape_debug())))
    }
}

/// A label by the rules of the OCI image specification's annotations: reverse domain notation.
fn label(text: &str) -> Result<String, Refused> {
    let good = text.contains('.')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/".contains(c));
    if good {
        Ok(text.to_owned())
    } else {
        Err(Refused(format!("`{}` is not a label such as `org.opencontainers.image.description`", text.escape_debug())))
    }
}

fn signal(text: &str) -> Result<String, Refused> {
    let rest = text.strip_prefix("SIG").unwrap_or_default();
    let good = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    if good { Ok(text.to_owned()) } else { Err(Refused(format!("`{}` is not a signal", text.escape_debug()))) }
}
