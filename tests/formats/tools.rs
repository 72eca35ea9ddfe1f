//! The public tools, out of the store, by their own loader.

use nodelith::digest::Sha256;
use nodelith::fetch::fetch_tool;
use nodelith::pipeline;
use nodelith::remote::{Mirrors, Remote, Settings};
use nodelith::report::Silent;
use nodelith::spec;
use nodelith::spec::requests::Use;
use nodelith::store::Store;
use nodelith::sys;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The closure of `ci/tools/oracles.lock`, extracted.
pub struct Tools(PathBuf);

/// The tools; `None`, saying why, when they are not asked for.
pub fn tools() -> Option<&'static Tools> {
    static TOOLS: OnceLock<Option<Tools>> = OnceLock::new();
    let found = TOOLS.get_or_init(|| std::env::var_os("NODELITH_ORACLES").map(|_| Tools(fetched())));
    if found.is_none() {
        eprintln!("skipped: NODELITH_ORACLES is not set; ci/oracles fetches the public tools and sets it");
    }
    found.as_ref()
}

fn fetched() -> PathBuf {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/tools");
    let locked = pipeline::bind(spec::load(&ci.join("oracles.toml"), &ci.join("roles")).unwrap()).unwrap();
    let variable = |name: &str| std::env::var(name).ok();
    let (main, security) = (variable("NODELITH_MIRROR"), variable("NODELITH_SECURITY_MIRROR"));
    let mirrors = Mirrors::choose(main.as_deref(), security.as_deref(), Path::new("/etc/apt")).unwrap();
    let remote = Remote::new(Settings::new(mirrors, false)).unwrap();
    let store = Store::open(&sys::fs::cache_dir().unwrap()).unwrap();
    fetch_tool(&locked, Use::Image, &store, &remote, &Silent).unwrap()
}

impl Tools {
    fn command(&self, program: &str) -> Command {
        let lib = self.0.join("usr/lib/x86_64-linux-gnu");
        let found =
            ["usr/bin", "usr/sbin"].map(|dir| self.0.join(dir).join(program)).into_iter().find(|at| at.exists());
        let found = found.unwrap_or_else(|| panic!("{program} is not in {}", self.0.display()));
        let mut command = sys::cmd::command(lib.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&lib).args(["--argv0", program]).arg(found);
        // Character sets are modules of the C library; mtools needs one to read names.
        command.env("GCONV_PATH", lib.join("gconv")).env("LC_ALL", "C.UTF-8").env("MTOOLS_SKIP_CHECK", "1");
        command
    }

    /// Runs a tool, whatever comes of it.
    pub fn run(&self, program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Output {
        let mut command = self.command(program);
        for argument in arguments {
            command.arg(argument);
        }
        command.output().unwrap()
    }

    /// Runs a tool that must succeed; what it prints.
    pub fn must(&self, program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Vec<u8> {
        let output = self.run(program, arguments);
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(output.status.success(), "{program}: {}\n{}", output.status, String::from_utf8_lossy(&said));
        output.stdout
    }

    /// The same as text.
    pub fn text(&self, program: &str, arguments: &[&dyn AsRef<OsStr>]) -> String {
        String::from_utf8_lossy(&self.must(program, arguments)).into_owned()
    }
}

/// Whether this is root, who alone may make devices and give files away.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file's digest, without reading all of it at once.
pub fn digest(path: &Path) -> Sha256 {
    let mut hashing = nodelith::digest::Hashing::new(std::io::sink());
    std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut hashing).unwrap();
    hashing.finish().1
}
