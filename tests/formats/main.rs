//! What nodelith writes is read by programs that it shares no code with.
//!
//! `trees` is hermetic: any tree through our EROFS writer and back through the crate `erofs-rs`. The others ask the
//! public tools of `ci/tools/oracles.lock` and are skipped, with the reason, unless `NODELITH_ORACLES` is set, as
//! `ci/oracles` does: they need the network once. `NODELITH_CASES` is the number of random trees.
#![expect(clippy::disallowed_methods, reason = "files of a test's own temporary directory")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; a skipped test says so")]
#![expect(unreachable_pub, reason = "modules of one test")]

mod archives;
mod disks;
mod erofs;
mod images;
mod random;
#[path = "../../src/format/pe/sample.rs"]
mod sample;
mod tools;
mod trees;
