//! Documents that are made from the program say what the program does.
#![expect(clippy::disallowed_methods, reason = "files of a test's own temporary directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "shared/files.rs"]
mod shared;

use nodelith::spec::reference::{ROLE, SPEC, Table, markdown};
use shared::files;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The fields that the parser says it expects when it meets an unknown one.
fn expected_fields(spec: &str, role: &str) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let spec_path = dir.path().join("x.toml");
    fs::create_dir_all(dir.path().join("overlays/base")).unwrap();
    fs::write(&spec_path, spec).unwrap();
    fs::write(dir.path().join("overlays/base/role.toml"), role).unwrap();
    let error = nodelith::spec::load(&spec_path, &dir.path().join("overlays")).unwrap_err();
    let message = format!("{error:#}");
    let list = message.split("expected").nth(1).unwrap_or_else(|| panic!("{message}")).lines().next().unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn listed((_, _, keys): &Table) -> BTreeSet<String> {
    keys.iter().map(|key| key.name.to_owned()).collect()
}

#[test]
fn the_reference_lists_the_keys_that_the_parser_takes() {
    let spec = "schema = 1\nname = \"x\"\nepoch = 2026-01-01T00:00:00Z\nroles = [\"base\"]\n";
    let whole = format!("{spec}[debian]\nsuites = [\"trixie\"]\n");
    let role = "summary = \"s\"\n";
    let cases = [
        (&SPEC[0], expected_fields("zzz = 1\n", role)),
        (&SPEC[1], expected_fields(&format!("{spec}[debian]\nzzz = 1\n"), role)),
        (&SPEC[2], expected_fields(&format!("kind = \"container\"\n{spec}[container]\nzzz = 1\n"), role)),
        (&ROLE[0], expected_fields(&whole, "zzz = 1\n")),
        (&ROLE[1], expected_fields(&whole, &format!("{role}[variables.a]\nzzz = 1\n"))),
        (&ROLE[2], expected_fields(&whole, &format!("{role}[binaries.a]\nzzz = 1\n"))),
        (&ROLE[3], expected_fields(&whole, &format!("{role}[certificates.a]\nzzz = 1\nb = 2\n"))),
    ];
    assert_eq!(cases.len(), SPEC.len() + ROLE.len(), "a table that is compared with nothing");
    for (table, fields) in cases {
        assert_eq!(listed(table), fields, "{}", table.0);
    }
}

/// `NODELITH_BLESS=1 cargo test` writes the page anew.
#[test]
fn docs_spec_md_is_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spec.md");
    if std::env::var_os("NODELITH_BLESS").is_some() {
        fs::write(&path, markdown()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == markdown(),
        "docs/spec.md is stale: NODELITH_BLESS=1 cargo test --test documents"
    );
}

/// Every `NL-…-000` code in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("NL-").map(|(at, _)| &text[at..]);
    let code = |rest: &str| {
        let code: String =
            rest.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '-').collect();
        let number = code.rsplit('-').next().unwrap_or_default();
        (number.len() == 3 && number.bytes().all(|c| c.is_ascii_digit())).then_some(code)
    };
    starts.filter_map(code).collect()
}

#[test]
fn the_page_of_console_codes_lists_what_nodes_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    files(&root.join("overlays"), &mut texts);
    let initrd = fs::read_to_string(root.join("src/assemble/initrd.rs")).unwrap();
    let printed = texts.into_iter().map(|(_, text)| text).chain([initrd]).collect::<String>();
    let page = fs::read_to_string(root.join("docs/console-codes.md")).unwrap();
    assert_eq!(codes(&printed), codes(&page));
}

#[test]
fn the_links_of_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let roles = fs::read_dir(root.join("overlays")).unwrap().map(|entry| entry.unwrap().path().join("README.md"));
    let mut seen = 0;
    for page in pages.chain(roles).chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            if !target.is_empty() && !target.contains("://") {
                assert!(page.with_file_name(target).exists(), "{} links to {target}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} links found");
}
