//! One libFuzzer target for each reader: `NODELITH_TARGET` names it.
//!
//!     NODELITH_TARGET=erofs cargo +nightly fuzz run reader fuzz/corpus/erofs -- -max_len=65536 -timeout=2
#![no_main]

#[path = "../targets.rs"]
mod targets;

use std::sync::LazyLock;

static READER: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("NODELITH_TARGET").expect("NODELITH_TARGET names a reader of fuzz/targets.rs");
    let found = targets::TARGETS.iter().find(|target| target.0 == name);
    found.unwrap_or_else(|| panic!("there is no reader `{name}`")).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (*READER)(bytes));
