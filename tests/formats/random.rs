//! Random trees that lean towards edges: a seed is a tree, the same one everywhere.

use nodelith::format::erofs::EXTENT;
use nodelith::tree::{Content, Node, Tree, What};
use std::sync::Arc;

/// A small generator (xorshift64*): tests need equal numbers everywhere, not good ones.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// Bytes that zstd cannot shorten.
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Bytes that shrink to about half.
    pub fn prose(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| b"abcdefghijklmnop"[self.below(16)]).collect()
    }
}

const SIZES: [usize; 26] = [
    0,
    1,
    2,
    31,
    32,
    33,
    4000,
    4031,
    4032,
    4033,
    4063,
    4064,
    4065,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    12_288,
    EXTENT - 1,
    EXTENT,
    EXTENT + 1,
    EXTENT + 4096,
    2 * EXTENT,
    2 * EXTENT + 4097,
];

fn content(random: &mut Random) -> Vec<u8> {
    let len = if random.one_in(3) { random.below(60_000) } else { random.pick(&SIZES) };
    match random.below(6) {
        0 => vec![0; len],
        1 => vec![b'x'; len],
        2 => random.prose(len),
        3 | 4 => random.noise(len),
        // Extents that shrink beside extents that do not.
        _ => {
            let mut bytes = Vec::new();
            while bytes.len() < len {
                let piece = EXTENT.min(len - bytes.len());
                bytes.extend(if random.one_in(2) { random.noise(piece) } else { random.prose(piece) });
            }
            bytes
        }
    }
}

fn name(random: &mut Random) -> Vec<u8> {
    let mut name = match random.below(9) {
        0 => vec![b'n'; 255],
        1 => {
            let len = 200 + random.below(56);
            random.prose(len)
        }
        // Not UTF-8, control characters, spaces: whatever the kernel takes.
        2 => {
            let len = 1 + random.below(255);
            random.noise(len)
        }
        // Around `.` and `..` in byte order.
        3 => random.pick(&["-", "...", "..a", ".a", "/", " ", "\n", "\u{7f}", "é"]).into(),
        _ => {
            let len = 1 + random.below(12);
            random.prose(len)
        }
    };
    name.iter_mut().filter(|byte| **byte == 0 || **byte == b'/').for_each(|byte| *byte = b'_');
    if name == b"." || name == b".." { b"dots".to_vec() } else { name }
}

fn attributes(random: &mut Random, node: &mut Node) {
    if !random.one_in(5) {
        return;
    }
    for _ in 0..1 + random.below(4) {
        let class = random.pick(&["user.", "user.", "trusted.", "security."]);
        let len = random.pick(&[1, 3, 20, 100, 255 - class.len()]);
        let name = [class.as_bytes(), &random.prose(len)].concat();
        let len = random.pick(&[0, 1, 3, 4, 20, 255, 256, 1000, 3900, 4096]);
        let value = random.noise(len);
        node.xattrs.insert(name, value);
    }
}

/// What may be in a tree.
#[derive(Clone, Copy)]
pub struct Scope {
    /// Devices, owners and attributes that only root can extract.
    pub privileged: bool,
}

fn node(random: &mut Random, scope: Scope, seen: &mut Vec<Vec<u8>>) -> Node {
    let origin: Arc<str> = Arc::from("test");
    let what = match random.below(if scope.privileged { 20 } else { 16 }) {
        0..=8 => {
            // Equal contents are stored once.
            let bytes = if !seen.is_empty() && random.one_in(5) { random.pick(seen) } else { content(random) };
            seen.push(bytes.clone());
            What::File(Content::from_bytes(bytes))
        }
        9..=12 => What::Directory,
        13..=15 => {
            let len = random.pick(&[1, 10, 100, 4000, 4031, 4032, 4064, 4090, 4095]);
            What::Symlink(random.prose(len))
        }
        16 => What::CharDevice(random.below(4096) as u32, random.below(1 << 20) as u32),
        17 => What::BlockDevice(random.pick(&[0, 7, 8, 254, 4095]), random.pick(&[0, 1, 255, 256, 0xf_ffff])),
        18 => What::Fifo,
        _ => What::Socket,
    };
    let mut node = Node::new(what, (random.next() & 0o7777) as u16, &origin);
    if scope.privileged {
        (node.uid, node.gid) = (random.pick(&[0, 1, 65_535, 65_536, u32::MAX - 1]), random.pick(&[0, 42, 65_536]));
        attributes(random, &mut node);
    } else {
        // What its mode closes to its owner, an ordinary user can neither compare nor link.
        node.mode |= 0o700;
    }
    node
}

/// The tree of a seed.
pub fn tree(seed: u64, scope: Scope) -> Tree {
    let mut random = Random::new(seed);
    let mut tree = Tree::new();
    let mut dirs: Vec<Vec<u8>> = vec![Vec::new()];
    let (mut files, mut seen) = (Vec::new(), Vec::new());
    // Some trees are one big directory, some one deep chain, most neither.
    let shape = random.below(12);
    let count = match shape {
        0 => 400 + random.below(2500),
        1 => 20 + random.below(100),
        _ => random.below(45),
    };
    for number in 0..count {
        let dir = if shape == 1 { dirs.last().unwrap().clone() } else { random.pick(&dirs) };
        let mut path = if shape == 0 && number > 5 { dirs[number % 2 % dirs.len()].clone() } else { dir };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name(&mut random));
        // A path longer than PATH_MAX cannot be extracted in one step.
        if tree.get(&path).is_some() || path.len() > 3500 {
            continue;
        }
        if !files.is_empty() && random.one_in(10) {
            let target: Vec<u8> = random.pick(&files);
            tree.put(&path, Node::new(What::HardLink(target), 0, &Arc::from("test"))).unwrap();
            continue;
        }
        let mut node = if shape == 0 && number > 20 {
            Node::new(What::File(Content::from_bytes(vec![b'x'; number % 9])), 0o644, &Arc::from("test"))
        } else {
            node(&mut random, scope, &mut seen)
        };
        if shape == 1 && random.one_in(2) {
            node.what = What::Directory;
        }
        match node.what {
            What::Directory => dirs.push(path.clone()),
            What::File(_) => files.push(path.clone()),
            _ => {}
        }
        tree.put(&path, node).unwrap();
    }
    tree
}

/// How many random trees to try: `NODELITH_CASES`, else the default.
pub fn cases(default: u64) -> u64 {
    std::env::var("NODELITH_CASES").map_or(default, |cases| cases.parse().unwrap())
}
