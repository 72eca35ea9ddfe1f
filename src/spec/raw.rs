//! Specs and roles exactly as typed, every value with its place in the file. No meaning here: see `load`.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// `image-specs/<name>.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpec {
    pub(super) schema: Spanned<i64>,
    pub(super) kind: Option<Spanned<String>>,
    pub(super) name: Spanned<String>,
    pub(super) epoch: Spanned<toml::value::Datetime>,
    #[serde(default = "nothing")]
    pub(super) roles: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) packages: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) cmdline: Vec<Spanned<String>>,
    pub(super) container: Option<Spanned<RawContainer>>,
    pub(super) debian: RawDebian,
    #[serde(default)]
    pub(super) values: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<toml::Value>>>,
}

fn nothing() -> Spanned<Vec<Spanned<String>>> {
    Spanned::new(0..0, Vec::new())
}

/// `[container]` of a spec of `kind = "container"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawContainer {
    pub(super) tag: Spanned<String>,
    pub(super) only: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) entrypoint: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) cmd: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) env: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) user: Spanned<String>,
    pub(super) workdir: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ports: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) labels: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) stop_signal: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDebian {
    pub(super) suites: Spanned<Vec<Spanned<String>>>,
}

/// `overlays/<role>/role.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRole {
    pub(super) summary: Spanned<String>,
    #[serde(default)]
    pub(super) needs: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) packages: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) modules: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) units: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) listeners: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) private: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) preload: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) variables: BTreeMap<Spanned<String>, RawVariable>,
    #[serde(default)]
    pub(super) binaries: BTreeMap<Spanned<String>, RawBinary>,
    #[serde(default)]
    pub(super) certificates: BTreeMap<Spanned<String>, RawCertificate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVariable {
    #[serde(rename = "type")]
    pub(super) value_type: Spanned<String>,
    #[serde(default)]
    pub(super) choices: Vec<Spanned<String>>,
    pub(super) known: Option<Spanned<String>>,
    pub(super) default: Option<Spanned<toml::Value>>,
    pub(super) set: Spanned<String>,
    pub(super) doc: Spanned<String>,
    #[serde(default)]
    pub(super) secret: bool,
    #[serde(default)]
    pub(super) same: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) apart: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) within: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBinary {
    pub(super) go: Option<Spanned<String>>,
    pub(super) of: Option<Spanned<String>>,
    pub(super) package: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ldflags: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) patches: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) skew: Vec<Spanned<String>>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) sha256: Option<Spanned<String>>,
    pub(super) path: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    pub(super) provisioner: Spanned<String>,
    pub(super) owner: Spanned<String>,
    #[serde(default)]
    pub(super) reload: Vec<Spanned<String>>,
}
