//! Go programs, built with the locked toolchain: the same bytes whatever the directory, the cache or the host's own Go.
//!
//! `go.sum` is the authority over sources: the checksum database is off, and a `go.sum` that does not name every module
//! is refused. Sources are fetched first (`go list`, which may fail for the network's sake), then built with the module
//! proxy off (which may fail for the program's sake only).

use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::lock::Package;
use crate::remote::Remote;
use crate::report::{Report, Stage};
use crate::spec::GoModule;
use crate::store::{Check, Store, closure_digest};
use crate::sys;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Linker flags of every program: no symbol table, no debug information, no build id (which would hold a random part).
const LDFLAGS: &str = "-s -w -buildid=";

/// How often Go's own programs collect garbage. By default they do at twice what lives, which is a sixth of the processor
/// time of a build; the limit keeps what the large programs take from growing with it. Neither shows in the bytes.
const COLLECTOR: [(&str, &str); 2] = [("GOGC", "400"), ("GOMEMLIMIT", "1GiB")];

/// Variables of the host that say how to reach module proxies; nothing else of its environment is passed on.
const NETWORK_VARIABLES: [&str; 11] = [
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The locked Go toolchain, made ready when it is first needed.
pub struct Toolchain<'a> {
    packages: Vec<&'a Package>,
    store: &'a Store,
    remote: &'a Remote,
    report: &'a dyn Report,
}

/// A program to build.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// `role/name`.
    pub id: &'a str,
    /// What it is made from.
    pub module: &'a GoModule,
    /// The digest over all of that.
    pub recipe: &'a Sha256,
}

impl<'a> Toolchain<'a> {
    /// A toolchain of these packages.
    #[must_use]
    pub fn new(packages: Vec<&'a Package>, store: &'a Store, remote: &'a Remote, report: &'a dyn Report) -> Self {
        Self { packages, store, remote, report }
    }

    /// The program's bytes as an object of the store: digest and size. Built now unless they were built before.
    ///
    /// # Errors
    /// [`Kind::Network`] when sources cannot be fetched, [`Kind::Integrity`] when they differ from `go.sum`,
    /// [`Kind::Spec`] when `go.sum` or a patch does not fit, [`Kind::Build`] when the compiler fails.
    pub fn build(&self, program: Program<'_>) -> Result<(Sha256, u64)> {
        let debs: Vec<Sha256> = self.packages.iter().map(|package| package.sha256).collect();
        let key = format!("go program 1\nrecipe {}\ntoolchain {}\n", program.recipe, closure_digest(&debs));
        let key = Sha256::of(key.as_bytes());
        if let Some(done) = self.store.built(&key)? {
            return Ok(done);
        }
        if self.remote.offline() {
            let fault = Fault::new(
                Kind::Network,
                format!("{} is not in the store, and --offline forbids to fetch its sources", program.id),
            );
            return Err(fault.hint("run the command once without --offline").into());
        }
        // One build at a time: the compiler uses every core anyway, and a second process finds the first one's result.
        let _lock = self.store.lock("go")?;
        if let Some(done) = self.store.built(&key)? {
            return Ok(done);
        }
        let root = self.root(&debs)?;
        let stage = Stage::start(self.report, format!("building {}", program.id), None, "");
        let temp = sys::fs::temp_dir_in(&self.store.tmp(), "go-")?;
        let workshop = Workshop { root, dir: temp.path().to_owned(), store: self.store };
        let file = workshop.make(program.module).map_err(|error| error.context(format!("building {}", program.id)))?;
        let (sha256, size) = self.store.adopt(&file)?;
        self.store.remember_built(&key, &sha256)?;
        stage.finish(format!("{} MB", size / 1_000_000));
        Ok((sha256, size))
    }

    /// Removes Go's caches: gigabytes that nobody needs once the programs are in the store.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn clean(&self) -> Result<()> {
        let _lock = self.store.lock("go")?;
        sys::fs::remove(&self.store.work("go")?)
    }

    /// GOROOT.
    fn root(&self, debs: &[Sha256]) -> Result<PathBuf> {
        let tool = match self.store.extracted(debs, Check::Now) {
            Some(tool) => tool,
            None => {
                self.remote.packages(self.store, &self.packages, self.report)?;
                let stage = Stage::start(self.report, "unpacking the Go toolchain", None, "");
                let tool = self.store.extract(debs)?;
                stage.finish("");
                tool
            }
        };
        let candidates = sys::fs::list(&tool.join("usr/lib"))?;
        let root = candidates.into_iter().find(|dir| dir.join("bin/go").is_file());
        root.ok_or_else(|| Fault::new(Kind::Spec, "the locked packages for `go` hold no usr/lib/go-*/bin/go").into())
    }
}

/// A directory in which one program is built.
struct Workshop<'a> {
    root: PathBuf,
    dir: PathBuf,
    store: &'a Store,
}

impl Workshop<'_> {
    fn make(&self, module: &GoModule) -> Result<PathBuf> {
        let sum = sys::fs::read(&module.dir.join("go.sum"))?;
        sys::fs::write_atomic(&self.dir.join("go.mod"), &sys::fs::read(&module.dir.join("go.mod"))?)?;
        sys::fs::write_atomic(&self.dir.join("go.sum"), &sum)?;
        // Before anything else looks at imports: a patch may drop some that cannot be had.
        if !module.patches.is_empty() {
            self.patch(module)?;
        }
        self.fetch(&["list", "-mod=readonly", "-deps", "-f", "{{.ImportPath}}", &module.package])?;
        let ldflags = std::iter::once(LDFLAGS).chain(module.ldflags.iter().map(String::as_str)).collect::<Vec<_>>();
        let out = self.dir.join("program");
        let mut command = self.go(&["build", "-mod=readonly", "-trimpath", "-buildvcs=false"])?;
        command.env("GOPROXY", "off").arg(format!("-ldflags={}", ldflags.join(" "))).arg("-o").arg(&out);
        sys::cmd::output(command.arg(&module.package), Kind::Build)?;
        if sys::fs::read(&self.dir.join("go.sum"))? != sum {
            let path = module.dir.join("go.sum");
            let fault = Fault::new(Kind::Spec, format!("{} does not name every module that is needed", path.display()));
            return Err(fault.hint("run `go mod tidy` in that directory").into());
        }
        Ok(out)
    }

    /// Runs a command of Go's that may need the network, and tells apart why it failed.
    fn fetch(&self, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = self.go(args)?;
        for name in NETWORK_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        sys::cmd::output(&mut command, Kind::Network).map_err(|error| {
            let said = format!("{error:#}");
            if said.contains("checksum mismatch") {
                let fault = Fault::new(Kind::Integrity, "a Go module differs from what go.sum says");
                return error
                    .context(fault.hint("the proxy is forged or the go.sum is wrong: do not update it blindly"));
            }
            if ["missing go.sum entry", "updates to go.mod needed", "no required module provides"]
                .iter()
                .any(|sign| said.contains(sign))
            {
                let fault = Fault::new(Kind::Spec, "go.mod and go.sum do not pin every module that is needed");
                return error.context(fault.hint("run `go mod tidy` in the role's module directory"));
            }
            error.context(Fault::new(Kind::Network, "fetching Go modules").hint("check the network, or set GOPROXY"))
        })
    }

    /// Copies the module that holds the package, patches the copy, and has the build take it instead.
    fn patch(&self, module: &GoModule) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Downloaded {
            #[serde(rename = "Dir")]
            dir: PathBuf,
        }
        let origin = module.origin()?;
        let said = self.fetch(&["mod", "download", "-json", &origin])?;
        let downloaded: Downloaded =
            serde_json::from_slice(&said).blame(Kind::Build, || format!("reading what Go says of {origin}"))?;
        let copy = self.dir.join("patched");
        copy_dir(&downloaded.dir, &copy)?;
        for name in &module.patches {
            let file = module.dir.join(name);
            apply(&copy, &file, &sys::fs::read_text(&file)?)?;
        }
        let replace = format!("-replace={origin}=./patched");
        sys::cmd::output(&mut self.go(&["mod", "edit", &replace])?, Kind::Spec)?;
        Ok(())
    }

    fn go(&self, args: &[&str]) -> Result<Command> {
        let work = self.store.work("go")?;
        // Go ignores a go.mod that lies in the temporary directory itself.
        let scratch = self.dir.join("scratch");
        sys::fs::make_dir(&scratch)?;
        let mut command = sys::cmd::command(self.root.join("bin/go"));
        command
            .current_dir(&self.dir)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("TMPDIR", &scratch)
            .env("GOROOT", &self.root)
            .env("GOPATH", work.join("path"))
            .env("GOMODCACHE", work.join("modules"))
            .env("GOCACHE", work.join("cache"))
            .env("GOENV", "off")
            .env("GOWORK", "off")
            .env("GOSUMDB", "off")
            .env("GOTOOLCHAIN", "local")
            .envs(COLLECTOR)
            .envs([("GOOS", "linux"), ("GOARCH", "amd64"), ("GOAMD64", "v1"), ("CGO_ENABLED", "0")])
            .args(args);
        Ok(command)
    }
}

/// Copies files and directories; Go modules hold nothing else. The copies are writable.
fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    sys::fs::make_dir(to)?;
    for entry in sys::fs::list(from)? {
        let name = entry.file_name().unwrap_or_default();
        if entry.is_dir() {
            copy_dir(&entry, &to.join(name))?;
        } else {
            let target = to.join(name);
            std::io::copy(&mut sys::fs::open(&entry)?, &mut sys::fs::create(&target)?)
                .blame(Kind::Environment, || format!("copying to {}", target.display()))?;
        }
    }
    Ok(())
}

/// Applies a patch file (unified diff, `a/` and `b/` before paths) below a directory.
fn apply(dir: &Path, file: &Path, text: &str) -> Result<()> {
    use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
    let refuse = |why: String| {
        let fault = Fault::new(Kind::Spec, format!("{}: {why}", file.display()));
        anyhow::Error::from(fault.hint("make the patch anew for the version in go.mod"))
    };
    for patch in PatchSet::parse(text, ParseOptions::unidiff()) {
        let patch = patch.map_err(|error| refuse(format!("this is no unified diff: {error}")))?;
        let operation = patch.operation().strip_prefix(1);
        let (old, new) = match &operation {
            FileOperation::Modify { original, modified } => (Some(original), Some(modified)),
            FileOperation::Create(path) => (None, Some(path)),
            FileOperation::Delete(path) => (Some(path), None),
            _ => return Err(refuse("renames and copies are not supported".into())),
        };
        let inside = |path: &str| {
            crate::text::relative_path(path).map(|path| dir.join(path)).map_err(|refused| refuse(refused.0))
        };
        let base = old.map(|path| sys::fs::read_text(&inside(path)?)).transpose();
        let base = base.map_err(|error| refuse(format!("{error:#}")))?.unwrap_or_default();
        let Some(change) = patch.patch().as_text() else {
            return Err(refuse("binary changes are not supported".into()));
        };
        let result = diffy::apply(&base, change).map_err(|error| {
            refuse(format!("{} does not apply: {error}", new.or(old).map_or("", |path| path.as_ref())))
        })?;
        match new {
            Some(path) => sys::fs::write_atomic(&inside(path)?, result.as_bytes())?,
            None => sys::fs::remove(&inside(old.map_or("", |path| path.as_ref()))?)?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests prepare files as they need them")]
mod tests {
    use super::*;
    use crate::error::kind_of;

    #[test]
    fn patches_change_only_what_is_below() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.go"), "one\ntwo\nthree\n").unwrap();
        let file = Path::new("x.patch");
        let good = "--- a/a.go\n+++ b/a.go\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n--- /dev/null\n+++ b/n/b.go\n@@ -0,0 +1 @@\n+new\n";
        apply(dir.path(), file, good).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("a.go")).unwrap(), "one\n2\nthree\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("n/b.go")).unwrap(), "new\n");
        let away = "--- a/../../a.go\n+++ b/../../a.go\n@@ -1 +1 @@\n-one\n+2\n";
        for bad in [good, away, "nonsense\n--- a/x\n"] {
            let error = apply(dir.path(), file, bad).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Spec);
            assert!(format!("{error:#}").contains("x.patch"), "{error:#}");
        }
    }
}
