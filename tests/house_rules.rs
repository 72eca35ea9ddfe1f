//! House rules as tests: imports go down only, files stay small, every module says what it is for, documents agree
//! with the code.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file that are not tests; more needs a line in [`LONG_FILES`].
const LIMIT: usize = 500;
/// Files over the limit, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path.as_ref()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    files.iter().map(|path| (path.strip_prefix(root()).unwrap().display().to_string(), read(path))).collect()
}

/// Source without comments and without what follows the first `#[cfg(test)]` module.
fn code(text: &str) -> String {
    let before_tests = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    before_tests.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules in `lib.rs`'s table, the topmost first.
fn order() -> Vec<String> {
    let rows = read("src/lib.rs");
    let modules: Vec<_> =
        rows.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next().map(str::to_owned)).collect();
    assert!(modules.len() > 10, "the table in src/lib.rs is gone");
    modules
}

#[test]
fn the_table_lists_every_module_and_no_other() {
    let text = read("src/lib.rs");
    let mut declared: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect();
    let mut listed = order();
    declared.sort();
    listed.sort();
    assert_eq!(declared, listed);
}

#[test]
fn imports_go_down_only() {
    let height: BTreeMap<String, usize> = order().into_iter().rev().enumerate().map(|(at, name)| (name, at)).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(own) = height.get(&module) else { continue };
        let code = code(&text);
        assert!(!code.contains("super::super::"), "{path}: `super::super::` hides an import from this test");
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(!used.is_empty(), "{path}: name the module at once, not `use crate::{{…}}`");
            if height.get(&used).is_some_and(|other| other > own) {
                wrong.push(format!("{path} uses {used}, which stands above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_under_500_lines() {
    let allowed: BTreeMap<_, _> = LONG_FILES.iter().copied().collect();
    for (path, text) in sources() {
        let lines = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().lines().count();
        assert!(lines <= LIMIT || allowed.contains_key(path.as_str()), "{path} has {lines} lines without its tests");
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path} does not begin with `//!`");
    }
}

/// A claim that is not valid is found by the hour-long run of all of them otherwise, or by nobody.
#[test]
fn every_claim_is_valid() {
    let claims = nodelith::trial::load(&root().join("vm-tests")).unwrap();
    assert!(claims.len() > 10, "only {} claims", claims.len());
}

#[test]
fn every_role_has_its_page_and_every_spec_its_lock() {
    for house in [root().to_owned(), root().join("ci/suite")] {
        for entry in fs::read_dir(house.join("overlays")).unwrap() {
            let dir = entry.unwrap().path();
            for file in ["role.toml", "README.md"] {
                assert!(dir.join(file).is_file(), "{} lacks {file}", dir.display());
            }
        }
        for entry in fs::read_dir(house.join("image-specs")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                assert!(path.with_extension("lock").is_file(), "{} is not locked", path.display());
                assert!(
                    fs::read_to_string(&path).unwrap().lines().count() <= 60,
                    "{} is over 60 lines",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_readme_lists_the_exit_codes_of_the_code() {
    let readme = read("README.md");
    for kind in nodelith::error::Kind::ALL {
        let row = format!("| {} | {} |", kind.exit_code(), kind.word());
        assert!(readme.contains(&row), "README.md lacks the row `{row}`");
    }
}
