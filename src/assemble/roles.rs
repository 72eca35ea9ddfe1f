//! Roles → tree: their files, rendered where they are templates, their programs, and what their boot-time steps read.

use crate::error::{Fault, Kind, Result};
use crate::fetch::Fetched;
use crate::spec::{Role, SetAt, Spec, Value};
use crate::sys;
use crate::tree::{Content, Node, Tree, What};
use minijinja::{Environment, UndefinedBehavior};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Puts every role of a spec into the tree, with its programs.
///
/// # Errors
/// As [`install`].
pub(super) fn install_all(tree: &mut Tree, inputs: &Fetched) -> Result<()> {
    let locked = inputs.locked();
    for role in &locked.spec().roles {
        install(tree, locked.spec(), role)?;
        for (name, binary) in &role.binaries {
            let id = format!("{}/{name}", role.name);
            let from = locked.lock().binaries.iter().find(|binary| binary.id == id).map_or("", |binary| &binary.from);
            program(tree, &binary.path, &id, from, inputs.binary(&id)?)?;
        }
    }
    Ok(())
}

/// Puts a role's `rootfs/`, its boot variables' defaults and its certificates' declarations into the tree.
///
/// # Errors
/// [`Kind::Spec`] with file and line when a template is wrong; [`Kind::Build`] when a path cannot be there.
fn install(tree: &mut Tree, spec: &Spec, role: &Role) -> Result<()> {
    let origin: Arc<str> = Arc::from(format!("role {}", role.name));
    let rootfs = role.dir.join("rootfs");
    if rootfs.is_dir() {
        let renderer = Renderer::new(spec);
        copy(tree, &rootfs, "", &renderer, &origin)?;
    }
    for path in &role.private {
        if let Some(node) = tree.get_mut(path) {
            node.mode = 0o600;
        }
    }
    for (name, variable) in role.variables.iter().filter(|(_, variable)| variable.set == SetAt::Boot) {
        let Some(value) = spec.values.get(&role.name).and_then(|values| values.get(name)) else { continue };
        if !variable.secret {
            let path = format!("usr/lib/nodelith/defaults/nodelith.{}.{name}", role.name);
            tree.file(&path, 0o644, value.to_string(), &origin)?;
        }
    }
    for (name, certificate) in &role.certificates {
        let dir = format!("usr/lib/nodelith/certificates/{name}");
        tree.file(&format!("{dir}/provisioner"), 0o644, format!("{}\n", certificate.provisioner), &origin)?;
        let owner = match certificate.owner.split_once(':') {
            Some(_) => certificate.owner.clone(),
            // chown's `user:` takes the user's own group.
            None => format!("{}:", certificate.owner),
        };
        tree.file(&format!("{dir}/owner"), 0o644, format!("{owner}\n"), &origin)?;
        let reload = certificate.reload.iter().map(|unit| format!("{unit}\n")).collect::<String>();
        tree.file(&format!("{dir}/reload"), 0o644, reload, &origin)?;
    }
    Ok(())
}

/// Puts a program where its role wants it.
///
/// # Errors
/// As [`Tree::put`].
fn program(tree: &mut Tree, path: &str, id: &str, from: &str, content: &Content) -> Result<()> {
    let origin: Arc<str> = Arc::from(format!("binary {id} {from}"));
    tree.put(path, Node::new(What::File(content.clone()), 0o755, &origin))
}

fn copy(tree: &mut Tree, dir: &Path, at: &str, renderer: &Renderer, origin: &Arc<str>) -> Result<()> {
    for path in sys::fs::list(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let target = if at.is_empty() { name } else { format!("{at}/{name}") };
        match sys::fs::kind(&path)? {
            sys::fs::FileKind::Symlink(link) => tree.symlink(&target, &link, origin)?,
            sys::fs::FileKind::Directory => {
                if tree.get(&target).is_none() {
                    tree.directory(&target, 0o755, origin)?;
                }
                copy(tree, &path, &target, renderer, origin)?;
            }
            sys::fs::FileKind::File { executable } => {
                let mode = if executable { 0o755 } else { 0o644 };
                match target.strip_suffix(".j2") {
                    Some(target) => tree.file(target, mode, renderer.render(&path)?, origin)?,
                    None => tree.file(&target, mode, sys::fs::read(&path)?, origin)?,
                }
            }
            sys::fs::FileKind::Other => {
                let fault = Fault::new(Kind::Spec, format!("{} is neither file, directory nor link", path.display()));
                return Err(fault.hint("a role's rootfs/ holds nothing else").into());
            }
        }
    }
    Ok(())
}

/// Renders templates with every build variable of every role; an undefined one is an error.
struct Renderer {
    environment: Environment<'static>,
    context: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Renderer {
    fn new(spec: &Spec) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Files are not web pages: nothing is escaped unless a template asks for it.
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_filter("unit_quote", |text: String| {
            text.replace('\\', "\\\\").replace('%', "%%").replace('"', "\\\"")
        });
        environment.add_filter("sh_quote", |text: String| format!("'{}'", text.replace('\'', r"'\''")));
        environment.add_filter("json", |text: minijinja::Value| serde_json::to_string(&text).map_err(in_filter));
        environment.add_filter("toml", |text: String| toml::Value::String(text).to_string());
        environment.add_filter("first_address", |network: String| {
            let wrong = |why| minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, why);
            crate::spec::value::first_address(&network).map_err(wrong)
        });
        let mut context: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for role in &spec.roles {
            let build = role.variables.iter().filter(|(_, variable)| variable.set == SetAt::Build);
            let values = build.filter_map(|(name, _)| {
                let value = spec.values.get(&role.name)?.get(name)?;
                Some((name.identifier(), value.clone()))
            });
            context.insert(role.name.identifier(), values.collect());
        }
        Self { environment, context }
    }

    fn render(&self, path: &Path) -> Result<String> {
        let text = sys::fs::read_text(path)?;
        let rendered = self.environment.render_named_str(
            &path.display().to_string(),
            &text,
            minijinja::value::Serde(&self.context),
        );
        // The engine takes one newline off the end, as Jinja does; a text file ends with one.
        rendered.map(|rendered| rendered + "\n").map_err(|error| {
            let span = error.line().map(|line| line_span(&text, line));
            let why =
                error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
            let source = crate::spec::Source { path, text: &text };
            let hint =
                "a template sees the build variables of the spec's roles as <role>.<variable>, `-` written as `_`";
            crate::spec::refuse(source, span, &why, Some(hint))
        })
    }
}

fn in_filter(error: serde_json::Error) -> minijinja::Error {
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, error.to_string())
}

/// The bytes of a line, counted from 1.
fn line_span(text: &str, line: usize) -> std::ops::Range<usize> {
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let len = text[start..].lines().next().map_or(0, str::len);
    start..start + len
}
