//! A role as meant: what one folder under `overlays/` needs, brings and asks for.

use super::skew::Skew;
use super::switches::Switches;
use crate::text::Name;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A role, its folder read and checked.
#[derive(Debug, Clone)]
pub struct Role {
    /// The folder's name.
    pub name: Name,
    /// The folder: `role.toml`, `rootfs/`, `README.md`.
    pub dir: PathBuf,
    /// One line for people.
    pub summary: String,
    /// Roles that must stand before this one in the spec.
    pub needs: Vec<Name>,
    /// Debian packages for the image.
    pub packages: Vec<PackageRequest>,
    /// Kernel modules that must be in the image, by name, with what they depend on.
    pub modules: Vec<String>,
    /// Units that are enabled; the preset disables everything else.
    pub units: Vec<String>,
    /// Listeners beyond loopback that the role opens.
    pub listeners: Vec<Listener>,
    /// Files of `rootfs/` that only root may read, as they are called in the image.
    pub private: Vec<String>,
    /// Containers that are imported at boot: each a spec of its own, found beside the machine's.
    pub preload: Vec<super::Spec>,
    /// Variables by name.
    pub variables: BTreeMap<Name, Variable>,
    /// Binaries from other sources than Debian, by name.
    pub binaries: BTreeMap<Name, Binary>,
    /// Certificates that the role's programs need, by name.
    pub certificates: BTreeMap<Name, Certificate>,
}

/// A Debian package that is asked for, from a certain suite or from any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageRequest {
    /// The binary package's name.
    pub name: String,
    /// The suite it must come from, such as `trixie-backports`.
    pub suite: Option<String>,
}

/// One listening socket that a role declares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port.
    pub port: u16,
    /// The program that listens, `kernel` for the kernel itself.
    pub process: String,
}

/// When a variable gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAt {
    /// By the spec; rendered into the image.
    Build,
    /// By a credential when the machine boots; the image holds the default.
    Boot,
}

/// What values a variable takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueType {
    /// One line of text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An address with a prefix length: `10.200.0.0/16`.
    Cidr,
    /// An IPv4 or IPv6 address.
    Address,
    /// A TCP or UDP port.
    Port,
    /// A host name.
    Hostname,
    /// A network interface's name.
    Interface,
    /// An `http` or `https` URL.
    Url,
    /// A SHA-256 in hexadecimal.
    Digest,
    /// One of these words.
    Choice(Vec<String>),
    /// Texts separated by commas.
    List,
    /// A version of which major and minor count.
    Version,
    /// Names with `true` or `false`, out of a list.
    Switches(Switches),
}

/// A variable of a role.
#[derive(Debug, Clone)]
pub struct Variable {
    /// What values it takes.
    pub value_type: ValueType,
    /// The value when the spec (build) or the credential (boot) gives none; `None` makes it required.
    pub default: Option<Value>,
    /// When it is set.
    pub set: SetAt,
    /// One line for people.
    pub doc: String,
    /// Never shown in logs or reports.
    pub secret: bool,
    /// What must hold between its value and others'.
    pub relations: Vec<Relation>,
}

/// What must hold between the values of two variables, when both have one.
#[derive(Debug, Clone)]
pub struct Relation {
    /// What must hold.
    pub kind: RelationKind,
    /// The other variable's role; none for the same role. A spec without that role has nothing to relate to.
    pub role: Option<Name>,
    /// The other variable.
    pub variable: Name,
}

/// The kinds of relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Both are equal.
    Same,
    /// Two networks have no address in common.
    Apart,
    /// An address or a network lies in a network.
    Within,
}

/// A value of a variable, checked against its type.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Texts of every textual type, in their canonical form.
    Text(String),
    /// A whole number; ports too.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
        }
    }
}

/// A program that does not come from Debian.
#[derive(Debug, Clone)]
pub struct Binary {
    /// Where it comes from.
    pub source: BinarySource,
    /// Where it lands in the image, relative to the root, mode 0755.
    pub path: String,
    /// How far its version may be from other programs' versions.
    pub skew: Vec<Skew>,
}

/// Where a binary comes from.
#[derive(Debug, Clone)]
pub enum BinarySource {
    /// Built from Go modules with the locked toolchain.
    Go(GoModule),
    /// A release file of fixed digest.
    Url {
        /// `https://…`
        url: String,
        /// Of the file as downloaded.
        sha256: crate::digest::Sha256,
    },
}

/// A module directory that pins a Go program and all it is made of.
#[derive(Debug, Clone)]
pub struct GoModule {
    /// Folder with `go.mod` and `go.sum`.
    pub dir: PathBuf,
    /// Import path of the main package.
    pub package: String,
    /// Linker flags beyond `-s -w -buildid=`.
    pub ldflags: Vec<String>,
    /// Patch files in `dir`, applied in order to a copy of the module that holds `package`.
    pub patches: Vec<String>,
}

/// A certificate that a node fetches at first boot.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The step-ca provisioner, which fixes what kind of certificate it is.
    pub provisioner: String,
    /// `user` or `user:group` that may read the key.
    pub owner: String,
    /// Units to reload or restart after a renewal.
    pub reload: Vec<String>,
}
