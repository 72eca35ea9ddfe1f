//! From files to meaning: reads a spec, the roles it names, and refuses what does not fit, showing the place.

use super::diagnose::{Source, refuse};
use super::raw::{RawBinary, RawRole, RawSpec, RawVariable};
use super::role::{
    Binary, BinarySource, Certificate, GoModule, Listener, PackageRequest, Role, SetAt, Value, ValueType, Variable,
};
use super::{Kind as Made, Spec, Switches, container, relations, skew, value};
use crate::error::{Fault, Kind, Result};
use crate::sys;
use crate::text::{Name, Refused, debian_package, relative_path, single_line};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The schema that this program reads.
const SCHEMA: i64 = 1;

/// Reads a spec and its roles. Roles are folders of `overlays`.
///
/// # Errors
/// [`Kind::Spec`] with file, line and column when anything in them is wrong; [`Kind::Environment`] when a file cannot be read.
pub fn load(path: &Path, overlays: &Path) -> Result<Spec> {
    load_if(path, overlays, |_| true)?.ok_or_else(|| anyhow::anyhow!("a spec of any kind was refused for its kind"))
}

/// As [`load`], when the spec is of a kind that is `wanted`. The roles of others are not read: two machines that preload
/// each other would never end.
pub(super) fn load_if(path: &Path, overlays: &Path, wanted: fn(&Made) -> bool) -> Result<Option<Spec>> {
    let text = read_text(path, "pass the path of a spec such as image-specs/worker.toml")?;
    let source = Source { path, text: &text };
    let raw: RawSpec = parse(source)?;
    if *raw.schema.get_ref() != SCHEMA {
        let why = format!("schema {} is not known", raw.schema.get_ref());
        return Err(refuse(source, Some(raw.schema.span()), &why, Some("write `schema = 1`")));
    }
    let name = name(source, &raw.name)?;
    if path.file_stem().and_then(|stem| stem.to_str()) != Some(name.as_str()) {
        let hint = format!("rename the file to {name}.toml, or the image after the file");
        return Err(refuse(source, Some(raw.name.span()), "the image's name is not the file's", Some(&hint)));
    }
    let kind = container::kind(source, &raw)?;
    if !wanted(&kind) {
        return Ok(None);
    }
    let epoch = epoch(source, &raw.epoch)?;
    let suites = suites(source, &raw.debian.suites)?;
    let roles = roles(source, &raw.roles, &kind, overlays)?;
    let packages = packages(source, &raw.packages)?;
    let cmdline = each(source, &raw.cmdline, |word| {
        let word = single_line(word)?;
        if word.is_empty() || word.contains(' ') {
            return Err(Refused("one word of the kernel command line each, without spaces".into()));
        }
        Ok(word.to_owned())
    })?;
    let values = values(source, &raw, &roles)?;
    relations::check(source, &raw, &roles, &values)?;
    skew::check(source, &raw, &roles, &values)?;
    Ok(Some(Spec { name, kind, path: path.to_owned(), epoch, suites, roles, packages, cmdline, values }))
}

fn read_text(path: &Path, hint: &str) -> Result<String> {
    // A directory, a missing file and a file that is not text are all the user's slip, not the host's fault.
    sys::fs::read_text(path).map_err(|error| {
        let fault = Fault::new(Kind::Spec, format!("{} cannot be read", path.display()));
        error.context(fault.hint(hint))
    })
}

fn parse<T: serde::de::DeserializeOwned>(source: Source<'_>) -> Result<T> {
    toml::from_str(source.text).map_err(|error| {
        refuse(source, error.span(), error.message(), Some("docs/spec.md lists every key with an example"))
    })
}

/// Checks each text of a list, showing the place of the first that is refused.
pub(super) fn each<T>(
    source: Source<'_>,
    texts: &[Spanned<String>],
    take: impl Fn(&str) -> Result<T, Refused>,
) -> Result<Vec<T>> {
    texts.iter().map(|text| one(source, text, &take)).collect()
}

pub(super) fn one<T>(
    source: Source<'_>,
    text: &Spanned<String>,
    take: impl Fn(&str) -> Result<T, Refused>,
) -> Result<T> {
    take(text.get_ref()).map_err(|refused| refuse(source, Some(text.span()), &refused.0, None))
}

pub(super) fn name(source: Source<'_>, text: &Spanned<String>) -> Result<Name> {
    one(source, text, Name::new)
}

fn packages(source: Source<'_>, texts: &[Spanned<String>]) -> Result<Vec<PackageRequest>> {
    each(source, texts, |text| {
        let request = PackageRequest::from_text(text);
        debian_package(&request.name)?;
        if let Some(suite) = &request.suite {
            debian_package(suite).map_err(|_| Refused(format!("`{suite}` is not the name of a suite")))?;
        }
        Ok(request)
    })
}

fn suites(source: Source<'_>, list: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>> {
    let suites = each(source, list.get_ref(), |text| {
        debian_package(text).map(str::to_owned).map_err(|_| Refused(format!("`{text}` is not the name of a suite")))
    })?;
    if suites.is_empty() {
        return Err(refuse(
            source,
            Some(list.span()),
            "no suite",
            Some("write `suites = [\"trixie\", \"trixie-security\"]`"),
        ));
    }
    Ok(suites)
}

/// Seconds since 1970 of a UTC date and time, by the days-from-civil rule of the proleptic Gregorian calendar.
fn epoch(source: Source<'_>, when: &Spanned<toml::value::Datetime>) -> Result<u64> {
    let refused = |why: &str| refuse(source, Some(when.span()), why, Some("write `epoch = 2026-11-24T00:00:00Z`"));
    let value = when.get_ref();
    let (Some(date), Some(time), Some(toml::value::Offset::Z)) = (&value.date, &value.time, &value.offset) else {
        return Err(refused("not a date and time in UTC"));
    };
    let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let clock = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
    u64::try_from(days * 86_400 + clock).map_err(|_| refused("before 1970"))
}

fn roles(source: Source<'_>, list: &Spanned<Vec<Spanned<String>>>, kind: &Made, overlays: &Path) -> Result<Vec<Role>> {
    if list.get_ref().is_empty() && matches!(kind, Made::Machine) {
        return Err(refuse(
            source,
            Some(list.span()),
            "no role",
            Some("every image needs at least `roles = [\"base\"]`"),
        ));
    }
    let mut roles: Vec<Role> = Vec::new();
    for text in list.get_ref() {
        let name = name(source, text)?;
        if roles.iter().any(|role| role.name == name) {
            return Err(refuse(source, Some(text.span()), "the role is listed twice", Some("keep the first")));
        }
        let dir = overlays.join(name.as_str());
        if !dir.join("role.toml").is_file() {
            let known = known_roles(overlays);
            let why = format!("there is no role `{name}`: {} is missing", dir.join("role.toml").display());
            return Err(refuse(source, Some(text.span()), &why, Some(&format!("known roles: {}", known.join(", ")))));
        }
        let role = role(name, dir, matches!(kind, Made::Machine).then_some(source.path))?;
        if let (Made::Container(_), Some(why)) = (kind, container::unfit(&role)) {
            let hint = "a container takes packages, programs, build variables and rootfs/ of a role";
            return Err(refuse(source, Some(text.span()), &why, Some(hint)));
        }
        if let Some(missing) = role.needs.iter().find(|need| !roles.iter().any(|role| role.name == **need)) {
            let why = format!("the role needs `{missing}`, which does not stand before it");
            return Err(refuse(
                source,
                Some(text.span()),
                &why,
                Some(&format!("list \"{missing}\" before \"{}\"", role.name)),
            ));
        }
        roles.push(role);
    }
    clashes(source, list, &roles)?;
    Ok(roles)
}

/// Two roles that bring the same certificate, program or container would overwrite each other's files.
fn clashes(source: Source<'_>, list: &Spanned<Vec<Spanned<String>>>, roles: &[Role]) -> Result<()> {
    let mut owners: BTreeMap<String, &Name> = BTreeMap::new();
    for (role, place) in roles.iter().zip(list.get_ref()) {
        let certificates = role.certificates.keys().map(|name| format!("the certificate `{name}`"));
        let binaries = role.binaries.values().map(|binary| format!("the program `{}`", binary.path));
        let preloads = role.preload.iter().map(|spec| format!("the container `{}`", spec.name));
        for thing in certificates.chain(binaries).chain(preloads) {
            if let Some(first) = owners.insert(thing.clone(), &role.name) {
                let why = format!("the role brings {thing}, as `{first}` does");
                return Err(refuse(source, Some(place.span()), &why, Some("leave one of the two roles out")));
            }
        }
    }
    Ok(())
}

fn known_roles(overlays: &Path) -> Vec<String> {
    let entries = sys::fs::list(overlays).unwrap_or_default();
    let roles = entries.into_iter().filter(|path| path.join("role.toml").is_file());
    roles.filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned())).collect()
}

fn values(source: Source<'_>, raw: &RawSpec, roles: &[Role]) -> Result<BTreeMap<Name, BTreeMap<Name, Value>>> {
    let mut values: BTreeMap<Name, BTreeMap<Name, Value>> = BTreeMap::new();
    for role in roles {
        let defaults =
            role.variables.iter().filter_map(|(name, variable)| Some((name.clone(), variable.default.clone()?)));
        values.insert(role.name.clone(), defaults.collect());
    }
    for (role_text, given) in &raw.values {
        let role_name = name(source, role_text)?;
        let Some(role) = roles.iter().find(|role| role.name == role_name) else {
            let why = format!("the spec has no role `{role_name}`");
            return Err(refuse(source, Some(role_text.span()), &why, Some("add the role, or remove its values")));
        };
        for (variable_text, value) in given {
            let variable_name = name(source, variable_text)?;
            let Some(variable) = role.variables.get(&variable_name) else {
                let known = role.variables.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
                let why = format!("the role `{role_name}` has no variable `{variable_name}`");
                return Err(refuse(source, Some(variable_text.span()), &why, Some(&format!("it has: {known}"))));
            };
            if variable.secret {
                let why = format!("`{role_name}.{variable_name}` is a secret, which no image may hold");
                let hint = format!("pass it at boot as the credential nodelith.{role_name}.{variable_name}");
                return Err(refuse(source, Some(value.span()), &why, Some(&hint)));
            }
            // A credential may be left out; what is rendered into the image must be there, unless its role can do without.
            let none = variable.set == SetAt::Boot || variable.default == Some(Value::Text(String::new()));
            let typed = value::typed(&variable.value_type, value.get_ref(), none).map_err(|why| {
                refuse(source, Some(value.span()), &why, Some(&format!("{}: {}", variable_name, variable.doc)))
            })?;
            values.entry(role_name.clone()).or_default().insert(variable_name, typed);
        }
    }
    for (role, place) in roles.iter().zip(raw.roles.get_ref()) {
        let given = |name: &Name| values.get(&role.name).is_some_and(|set| set.contains_key(name));
        let mut required = role.variables.iter().filter(|(_, variable)| variable.set == SetAt::Build);
        if let Some((variable, _)) = required.find(|(name, _)| !given(name)) {
            let why = format!("the role needs a value for `{variable}`");
            let hint = format!("add it under [values.{}]", role.name);
            return Err(refuse(source, Some(place.span()), &why, Some(&hint)));
        }
    }
    Ok(values)
}

/// Reads a role's folder. `machine` is the spec that lists it, if that is one of a machine.
fn role(name: Name, dir: PathBuf, machine: Option<&Path>) -> Result<Role> {
    let path = dir.join("role.toml");
    let text = read_text(&path, "a role is a folder with role.toml, README.md and rootfs/")?;
    let source = Source { path: &path, text: &text };
    let raw: RawRole = parse(source)?;
    let line = |text: &str| single_line(text).map(str::to_owned);
    let mut variables = BTreeMap::new();
    for (key, variable) in &raw.variables {
        variables.insert(self::name(source, key)?, self::variable(source, variable, &dir)?);
    }
    let needs = each(source, &raw.needs, Name::new)?;
    let mut binaries = BTreeMap::new();
    for (key, binary) in &raw.binaries {
        // Roles lie side by side; a module of another one is there for whoever needs that role.
        let home = match &binary.of {
            Some(of) => dir.with_file_name(owner(source, of, &needs)?.as_str()),
            None => dir.clone(),
        };
        binaries.insert(self::name(source, key)?, self::binary(source, key, binary, &home)?);
    }
    let mut certificates = BTreeMap::new();
    for (key, certificate) in &raw.certificates {
        let certificate = Certificate {
            provisioner: name_text(source, &certificate.provisioner)?,
            owner: one(source, &certificate.owner, line)?,
            reload: each(source, &certificate.reload, unit)?,
        };
        certificates.insert(self::name(source, key)?, certificate);
    }
    Ok(Role {
        summary: one(source, &raw.summary, line)?,
        needs,
        packages: packages(source, &raw.packages)?,
        modules: each(source, &raw.modules, module)?,
        units: each(source, &raw.units, unit)?,
        listeners: each(source, &raw.listeners, listener)?,
        private: each(source, &raw.private, |text| private(&dir.join("rootfs"), text))?,
        preload: container::preloads(source, &raw.preload, machine, dir.parent().unwrap_or(Path::new("")))?,
        name,
        dir,
        variables,
        binaries,
        certificates,
    })
}

fn name_text(source: Source<'_>, text: &Spanned<String>) -> Result<String> {
    Ok(name(source, text)?.as_str().to_owned())
}

fn unit(text: &str) -> Result<String, Refused> {
    let kinds = [".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice"];
    let good = kinds.iter().any(|kind| text.len() > kind.len() && text.ends_with(kind))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
    if good {
        Ok(text.to_owned())
    } else {
        Err(Refused(format!("`{}` is not the name of a unit", text.escape_debug())))
    }
}

fn module(text: &str) -> Result<String, Refused> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if good {
        Ok(text.replace('-', "_"))
    } else {
        Err(Refused(format!("`{}` is not the name of a kernel module", text.escape_debug())))
    }
}

/// A file of a role, which a template may be.
fn private(rootfs: &Path, text: &str) -> Result<String, Refused> {
    let file = rootfs.join(relative_path(text)?);
    if file.is_file() || file.with_file_name(format!("{}.j2", file.file_name().unwrap_or_default().display())).is_file()
    {
        return Ok(text.to_owned());
    }
    Err(Refused(format!("the role has no file rootfs/{text}")))
}

fn listener(text: &str) -> Result<Listener, Refused> {
    let refused = || Refused(format!("`{}` is not a listener such as `udp 8472 kernel`", text.escape_debug()));
    let mut words = text.split(' ');
    let (Some(protocol @ ("tcp" | "udp")), Some(port), Some(process), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(refused());
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(refused)?;
    Ok(Listener { protocol: protocol.into(), port, process: single_line(process)?.into() })
}

fn variable(source: Source<'_>, raw: &RawVariable, dir: &Path) -> Result<Variable> {
    let choices = each(source, &raw.choices, |text| single_line(text).map(str::to_owned))?;
    let kinds = "string, integer, boolean, cidr, address, port, hostname, interface, url, digest, choice, list, version, switches";
    let value_type = match raw.value_type.get_ref().as_str() {
        "string" => ValueType::String,
        "integer" => ValueType::Integer,
        "boolean" => ValueType::Boolean,
        "cidr" => ValueType::Cidr,
        "address" => ValueType::Address,
        "port" => ValueType::Port,
        "hostname" => ValueType::Hostname,
        "interface" => ValueType::Interface,
        "url" => ValueType::Url,
        "digest" => ValueType::Digest,
        "list" => ValueType::List,
        "version" => ValueType::Version,
        "switches" => ValueType::Switches(Switches::read(source, raw, dir)?),
        "choice" if choices.is_empty() => {
            return Err(refuse(
                source,
                Some(raw.value_type.span()),
                "a choice of nothing",
                Some("add `choices = [\"…\"]`"),
            ));
        }
        "choice" => ValueType::Choice(choices.clone()),
        other => {
            let why = format!("`{}` is not a type", other.escape_debug());
            return Err(refuse(source, Some(raw.value_type.span()), &why, Some(&format!("write one of {kinds}"))));
        }
    };
    if let Some(first) = raw.choices.first().filter(|_| !matches!(value_type, ValueType::Choice(_))) {
        return Err(refuse(source, Some(first.span()), "choices without `type = \"choice\"`", None));
    }
    if let Some(known) = raw.known.as_ref().filter(|_| !matches!(value_type, ValueType::Switches(_))) {
        return Err(refuse(source, Some(known.span()), "a list of switches without `type = \"switches\"`", None));
    }
    let set = match raw.set.get_ref().as_str() {
        "build" => SetAt::Build,
        "boot" => SetAt::Boot,
        _ => {
            return Err(refuse(
                source,
                Some(raw.set.span()),
                "set when?",
                Some("write `set = \"build\"` or `set = \"boot\"`"),
            ));
        }
    };
    if raw.secret && set == SetAt::Build {
        return Err(refuse(
            source,
            Some(raw.set.span()),
            "a secret set at build would be in the image",
            Some("write `set = \"boot\"`"),
        ));
    }
    let default = raw.default.as_ref().map(|value| {
        value::typed(&value_type, value.get_ref(), true).map_err(|why| refuse(source, Some(value.span()), &why, None))
    });
    let doc = one(source, &raw.doc, |text| single_line(text).map(str::to_owned))?;
    let relations = relations::read(source, raw)?;
    Ok(Variable { default: default.transpose()?, value_type, set, doc, secret: raw.secret, relations })
}

/// The role that a binary's module belongs to, which must be one that this role needs.
fn owner(source: Source<'_>, of: &Spanned<String>, needs: &[Name]) -> Result<Name> {
    let name = name(source, of)?;
    if needs.contains(&name) {
        return Ok(name);
    }
    let why = format!("the role does not need `{name}`, so a spec may lack it");
    Err(refuse(source, Some(of.span()), &why, Some(&format!("add \"{name}\" to `needs`"))))
}

fn binary(source: Source<'_>, key: &Spanned<String>, raw: &RawBinary, dir: &Path) -> Result<Binary> {
    let path = one(source, &raw.path, |text| relative_path(text).map(str::to_owned))?;
    let line = |text: &str| single_line(text).map(str::to_owned);
    let origin = match (&raw.go, &raw.package, &raw.url, &raw.sha256) {
        (Some(go), Some(package), None, None) => {
            let module = dir.join(one(source, go, |text| relative_path(text).map(str::to_owned))?);
            let patches = each(source, &raw.patches, |text| relative_path(text).map(str::to_owned))?;
            for file in ["go.mod", "go.sum"].into_iter().chain(patches.iter().map(String::as_str)) {
                if !module.join(file).is_file() {
                    let why = format!("{} is missing", module.join(file).display());
                    return Err(refuse(
                        source,
                        Some(go.span()),
                        &why,
                        Some("a module directory holds go.mod, go.sum and its patches"),
                    ));
                }
            }
            let package = one(source, package, line)?;
            let mut ldflags = module_ldflags(&module)?;
            ldflags.extend(each(source, &raw.ldflags, line)?);
            BinarySource::Go(GoModule { dir: module, package, ldflags, patches })
        }
        (None, None, Some(url), Some(sha256)) => {
            if let Some(first) = raw.of.iter().chain(&raw.ldflags).chain(&raw.patches).next() {
                let hint = "remove it: a file from a `url` is taken as it is";
                return Err(refuse(source, Some(first.span()), "this goes with `go` only", Some(hint)));
            }
            let sha256 = one(source, sha256, |text| {
                text.parse().map_err(|error: crate::digest::NotADigest| Refused(error.to_string()))
            })?;
            let url = one(source, url, |text| match single_line(text)?.starts_with("https://") {
                true => Ok(text.to_owned()),
                false => Err(Refused("a release file comes by https".into())),
            })?;
            BinarySource::Url { url, sha256 }
        }
        _ => {
            let hint = "write `go` and `package`, or `url` and `sha256`";
            return Err(refuse(source, Some(key.span()), "the binary has no source, or two", Some(hint)));
        }
    };
    let skew = each(source, &raw.skew, str::parse)?;
    Ok(Binary { source: origin, path, skew })
}

/// Flags that hold for every program of a module directory, such as its version: the lines of its file `ldflags`.
fn module_ldflags(module: &Path) -> Result<Vec<String>> {
    let path = module.join("ldflags");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = sys::fs::read_text(&path)?;
    Ok(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}
