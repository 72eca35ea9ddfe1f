//! The reference of every key as data. `docs/spec.md` is made from it, and a test compares both with what the parser
//! takes, so a key cannot be added without its line.

use super::value::describe;
use super::{SetAt, Spec};
use std::fmt::Write as _;

/// One key of a file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes, in words.
    pub takes: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it does.
    pub doc: &'static str,
}

const fn key(name: &'static str, takes: &'static str, required: bool, doc: &'static str) -> Key {
    Key { name, takes, required, doc }
}

/// A table of a file: its header, what it is about, its keys.
pub type Table = (&'static str, &'static str, &'static [Key]);

/// `image-specs/<name>.toml`.
pub const SPEC: &[Table] = &[
    (
        "",
        "The top of a spec.",
        &[
            key("schema", "`1`", true, "The version of this format."),
            key(
                "kind",
                "`machine` or `container`",
                false,
                "What is made: a disk that boots (the default), or an OCI archive, for which the table `[container]` is required.",
            ),
            key("name", "a name", true, "The image's name, which is also the file's: `worker` in `worker.toml`."),
            key(
                "epoch",
                "a date and time in UTC",
                true,
                "Every time stamp inside the image, and the floor of its clock.",
            ),
            key(
                "roles",
                "a list of names",
                false,
                "Folders of `overlays/`, in order; a role stands after all that it needs. A machine has at least one. A container takes packages, programs, build variables and `rootfs/` of a role; one that has units, kernel modules, certificates or listeners is refused.",
            ),
            key(
                "packages",
                "a list of Debian packages",
                false,
                "Packages beyond the roles'. `name/suite` takes one from a certain suite.",
            ),
            key("cmdline", "a list of words", false, "Words of the kernel's command line beyond ours; machines only."),
            key("container", "a table", false, "How a container is named, filled and started, below."),
            key("debian", "a table", true, "Where packages come from, below."),
            key("values", "a table of tables", false, "Values of the roles' variables, `[values.<role>]`."),
        ],
    ),
    (
        "[debian]",
        "Where packages come from.",
        &[key(
            "suites",
            "a list of suites",
            true,
            "Such as `trixie`, `trixie-security`. The newest version wins, except that a `-backports` suite only gives what is asked of it by name.",
        )],
    ),
    (
        "[container]",
        "With `kind = \"container\"`: the image reference is `nodelith.dev/<name>:<tag>`; the rest is the OCI image configuration. There are no default arguments, variables or users.",
        &[
            key("tag", "a tag", true, "The version; the part of the reference behind the colon."),
            key(
                "only",
                "a list of relative paths",
                false,
                "Files and directories that are taken from the packages, with the libraries that their programs need and the packages' licences; without it everything. What roles bring is always taken.",
            ),
            key("entrypoint", "a list", true, "The program, by its absolute path, and its first arguments."),
            key("cmd", "a list", false, "Arguments behind those, which whoever starts the container may replace."),
            key("env", "a table", false, "Environment variables."),
            key("user", "`uid:gid`", true, "In numbers, so that Kubernetes can tell that it is not root."),
            key("workdir", "an absolute path", false, "The working directory; `/` without it."),
            key("ports", "a list such as `53/udp`", false, "Ports that it listens on, for people."),
            key(
                "labels",
                "a table",
                false,
                "Labels such as `org.opencontainers.image.description`; `title`, `version` and `created` are ours.",
            ),
            key("stop-signal", "a signal such as `SIGQUIT`", false, "What ends it; SIGTERM without it."),
        ],
    ),
];

/// `overlays/<role>/role.toml`.
pub const ROLE: &[Table] = &[
    (
        "",
        "The top of a role.",
        &[
            key("summary", "one line", true, "What the role makes of a node."),
            key("needs", "a list of roles", false, "Roles that must stand before this one in a spec."),
            key("packages", "a list of Debian packages", false, "As in a spec."),
            key(
                "modules",
                "a list of kernel modules",
                false,
                "Modules that must be in the image, with what they depend on.",
            ),
            key("units", "a list of units", false, "Units that are enabled; everything else is disabled."),
            key(
                "listeners",
                "a list such as `udp 8472 kernel`",
                false,
                "Every socket beyond loopback that the role opens: protocol, port, process. The claims `boot/clean`, `docker/flannel` and `kubernetes/ready` refuse any other.",
            ),
            key("private", "a list of paths", false, "Files of `rootfs/` that only root may read, mode 0600."),
            key(
                "preload",
                "a list of containers",
                false,
                "Specs of `kind = \"container\"` beside the machine's: built with it, put into its root, and imported into containerd, or loaded into Docker, when it boots.",
            ),
            key("variables", "a table", false, "`[variables.<name>]`, below."),
            key("binaries", "a table", false, "`[binaries.<name>]`, below."),
            key("certificates", "a table", false, "`[certificates.<name>]`, below."),
        ],
    ),
    (
        "[variables.<name>]",
        "A value that whoever writes a spec, or starts a machine, may set.",
        &[
            key(
                "type",
                "`string`, `integer`, `boolean`, `cidr`, `address`, `port`, `hostname`, `interface`, `url`, `digest`, `choice`, `list`, `version` or `switches`",
                true,
                "What values it takes.",
            ),
            key("choices", "a list of words", false, "For `type = \"choice\"`: the words."),
            key(
                "known",
                "a file of the role",
                false,
                "For `type = \"switches\"` (`A=true,B=false`): the names, one a line; `NAME=true` for one that takes no other value.",
            ),
            key(
                "default",
                "a value of the type",
                false,
                "Without one, a build variable must be set by the spec, and a boot variable by its credential. The empty text is none: boot variables take it, and build variables whose default it is.",
            ),
            key(
                "set",
                "`build` or `boot`",
                true,
                "`build`: rendered into the image. `boot`: the credential `nodelith.<role>.<name>` sets it when the machine starts.",
            ),
            key("doc", "one line", true, "What it does."),
            key("secret", "`true` or `false`", false, "Boot only: refused in a spec, never shown."),
            key(
                "same",
                "a list of variables",
                false,
                "`<variable>` of this role or `<role>.<variable>`: must have the same value, where a spec has both.",
            ),
            key("apart", "a list of variables", false, "Networks that this one must not overlap."),
            key("within", "a list of variables", false, "Networks that this address or network must lie in."),
        ],
    ),
    (
        "[binaries.<name>]",
        "A program that does not come from Debian: built from Go modules, or a release file of fixed digest.",
        &[
            key("path", "a relative path", true, "Where it lands in the image, mode 0755."),
            key(
                "go",
                "a folder of the role",
                false,
                "Holds `go.mod` and `go.sum`, which pin the program and all it is made of, and perhaps `ldflags`, one a line, for every program of it.",
            ),
            key("of", "a role that this one needs", false, "With `go`: whose folder it is, instead of this role's."),
            key("package", "an import path", false, "With `go`: the main package."),
            key("ldflags", "a list", false, "With `go`: linker flags beyond `-s -w -buildid=`."),
            key(
                "patches",
                "a list of files",
                false,
                "With `go`: unified diffs in that folder, applied to a copy of the module.",
            ),
            key(
                "skew",
                "a list such as `kube-apiserver/kube-apiserver -3..0`",
                false,
                "How many minor versions the program may be from another one, `<role>/<binary>`, or from what a variable says, `<role>.<variable>`. Held within a spec, and by `up` and `test` between the images that they boot together. Versions are those of Go modules, or stand in URLs.",
            ),
            key("url", "an https URL", false, "Instead of `go`: the release file."),
            key("sha256", "a SHA-256", false, "With `url`: of the file."),
        ],
    ),
    (
        "[certificates.<name>]",
        "A certificate that the node fetches at first boot and renews.",
        &[
            key("provisioner", "a name", true, "The CA's provisioner, which fixes the kind of certificate."),
            key("owner", "`user` or `user:group`", true, "Who may read the key."),
            key("reload", "a list of units", false, "Units that are told after a renewal."),
        ],
    ),
];

/// The reference as Markdown: the content of `docs/spec.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    for (title, intro, tables) in [
        ("The spec: `image-specs/<name>.toml`", SPEC_INTRO, SPEC),
        ("The role: `overlays/<role>/role.toml`", ROLE_INTRO, ROLE),
    ] {
        let _ = write!(text, "\n## {title}\n\n{intro}\n");
        for (header, about, keys) in tables {
            let header = if header.is_empty() { "Top level".to_owned() } else { format!("`{header}`") };
            let _ = write!(text, "\n### {header}\n\n{about}\n\n| key | takes | | what it does |\n|---|---|---|---|\n");
            for key in *keys {
                let required = if key.required { "required" } else { "" };
                let _ = writeln!(text, "| `{}` | {} | {required} | {} |", key.name, key.takes, key.doc);
            }
        }
    }
    text + TAIL
}

const HEAD: &str = "\
# Specs and roles: every key

This page is made from the program (`src/spec/reference.rs`); a test fails when they differ. Both files are TOML. An
unknown key, a value of another type, or a name that leads nowhere is refused with file, line and column, the line
itself, the cause and what to write instead, and exit code 3.
";

const SPEC_INTRO: &str = "\
A spec names roles and gives them values. Beside it lies `<name>.lock`, which `nodelith lock` writes: the spec says what
is wanted, the lock says which bytes.";

const ROLE_INTRO: &str = "\
A role is a folder: `role.toml`, a `README.md`, and `rootfs/`, which mirrors the target. A file whose name ends in `.j2`
is rendered by minijinja (an undefined variable is an error) with every build variable as `<role>.<variable>`, `-`
written as `_`, and the filters `unit_quote`, `sh_quote`, `json`, `toml` and `first_address` (of a network); the suffix is
dropped. Other files are copied. A file that is executable in the checkout is executable in the image. Adding a role
touches its folder and no other.";

const TAIL: &str = "
## Credentials: what a machine is told when it boots

Every boot variable is the systemd credential `nodelith.<role>.<variable>`; nothing else is read. `nodelith inspect
credentials SPEC` lists them for one image, with their types and defaults. In QEMU a credential is
`-smbios type=11,path=FILE`, whose file holds `io.systemd.credential:NAME=VALUE`, or `io.systemd.credential.binary:NAME=`
and the value in base64, as one line; not `-fw_cfg`, whose names QEMU ends at 55 bytes. The one-time tokens of a certificate
are the credential `nodelith.certificates.<certificate>.tokens`, one token a line; `nodelith token` makes them.
";

/// The credentials that an image takes: name, what it takes, default (`None` when it must be given), what it does.
#[must_use]
pub fn credentials(spec: &Spec) -> Vec<(String, String, Option<String>, String)> {
    let mut rows = Vec::new();
    for role in &spec.roles {
        let values = spec.values.get(&role.name);
        for (name, variable) in role.variables.iter().filter(|(_, variable)| variable.set == SetAt::Boot) {
            let default = values.and_then(|values| values.get(name)).map(ToString::to_string);
            rows.push((
                format!("nodelith.{}.{name}", role.name),
                describe(&variable.value_type),
                default,
                variable.doc.clone(),
            ));
        }
        for (name, certificate) in &role.certificates {
            let doc = format!("One-time tokens of the provisioner {}, one a line", certificate.provisioner);
            rows.push((format!("nodelith.certificates.{name}.tokens"), "tokens".into(), None, doc));
        }
    }
    rows
}
