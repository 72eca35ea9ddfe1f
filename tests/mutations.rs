//! Every reader on damaged input: the corpus of `fuzz/corpus`, changed at random but the same each time. A reader that
//! panics, or takes over two seconds, is a failure that names its round.
//!
//!     NODELITH_MUTATIONS=300 cargo test --release --test mutations -- --nocapture     300 seconds a reader
#![expect(clippy::disallowed_methods, reason = "files of the corpus")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]
#![expect(clippy::print_stderr, reason = "a long run says how far it is")]
#![expect(unreachable_pub, reason = "modules of one test")]

#[path = "mutations/corpus.rs"]
mod corpus;
#[expect(dead_code, reason = "its trees are for another test")]
#[path = "formats/random.rs"]
mod random;
#[path = "../src/format/pe/sample.rs"]
mod sample;
#[path = "../fuzz/targets.rs"]
mod targets;

use random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// Rounds of each reader when nothing else is asked for.
const ROUNDS: u64 = 400;
/// Longer inputs are cut.
const MAX: usize = 1 << 16;

fn corpus_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The corpus of a reader, sorted; `NODELITH_BLESS=1` writes it anew.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = corpus_dir(name);
    if std::env::var_os("NODELITH_BLESS").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        for (number, seed) in corpus::seeds(name).iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), seed).unwrap();
        }
    }
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn no_reader_panics_or_hangs() {
    let seconds = std::env::var("NODELITH_MUTATIONS").ok().map(|text| Duration::from_secs(text.parse().unwrap()));
    let only = std::env::var("NODELITH_TARGET").ok();
    let chosen = TARGETS.iter().filter(|target| only.as_deref().is_none_or(|only| only == target.0));
    let failed: Vec<String> = chosen.filter_map(|target| run(target, seconds).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn run((name, read): &Target, seconds: Option<Duration>) -> Result<(), String> {
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "{name} has no corpus");
    for seed in &seeds {
        once(name, *read, seed, "the corpus itself")?;
    }
    let started = Instant::now();
    let mut round = 0;
    while seconds.map_or(round < ROUNDS, |seconds| started.elapsed() < seconds) {
        let mut random = Random::new(round);
        let mut input = random.pick(&seeds);
        for _ in 0..1 + random.below(6) {
            mutate(&mut random, &mut input, &seeds);
        }
        input.truncate(MAX);
        once(name, *read, &input, &format!("round {round}"))?;
        round += 1;
    }
    if seconds.is_some() {
        eprintln!("{name}: {round} rounds");
    }
    Ok(())
}

fn once(name: &str, read: fn(&[u8]), input: &[u8], what: &str) -> Result<(), String> {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| read(input)));
    let kept = || {
        let path = std::env::temp_dir().join(format!("nodelith-crash-{name}"));
        std::fs::write(&path, input).unwrap();
        path.display().to_string()
    };
    match outcome {
        Err(_) => Err(format!("{name} panics in {what}: {}", kept())),
        // A machine that is busy is not a reader that hangs: once more, and then it counts.
        Ok(()) if started.elapsed() > Duration::from_secs(2) => {
            let again = Instant::now();
            read(input);
            let slow = again.elapsed() > Duration::from_secs(2);
            if slow { Err(format!("{name} takes {:?} in {what}: {}", again.elapsed(), kept())) } else { Ok(()) }
        }
        Ok(()) => Ok(()),
    }
}

const EDGES: [u64; 13] =
    [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX];
const WORDS: [&str; 12] =
    ["\n", "\n\n", " ", "\"", "[", "]", "= ", "99999999999999999999", "-1", "..", "/", "\u{feff}"];

fn mutate(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    let len = [1, 2, 4, 8, 100][random.below(5)].min(input.len() - at);
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 | 3 => {
            let value = random.pick(&EDGES).wrapping_add(random.below(3) as u64).wrapping_sub(1);
            let bytes = if random.one_in(2) { value.to_le_bytes().to_vec() } else { value.to_be_bytes().to_vec() };
            let width = [2, 4, 8][random.below(3)].min(input.len() - at);
            let from = if bytes[0] == 0 { 8 - width } else { 0 };
            input[at..at + width].copy_from_slice(&bytes[from..from + width]);
        }
        4 => drop(input.drain(at..at + len)),
        5 => {
            let piece = input[at..at + len].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        6 => drop(input.splice(at..at + len, random.pick(&WORDS).bytes())),
        7 => {
            let other = random.pick(seeds);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend(&other[from..]);
        }
        _ => input.truncate(at),
    }
}

#[test]
fn the_corpus_is_what_the_readers_take() {
    for (name, _) in TARGETS {
        let total: usize = corpus(name).iter().map(Vec::len).sum();
        assert!((1..=100 << 10).contains(&total), "{name}: {total} bytes of corpus");
    }
    for known in std::fs::read_dir(corpus_dir("")).unwrap() {
        let name = known.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.0 == name), "fuzz/corpus/{name} is of no reader");
    }
}
