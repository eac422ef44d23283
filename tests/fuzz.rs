//! The fuzz targets without a fuzzer: everything in the corpus, and a number of changed copies that are the same each
//! time. `MYDOCKER_FUZZ_RUNS=100000` asks for more copies of each, `MYDOCKER_FUZZ_SEED=…` for others; so does `make fuzz`.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A generator that gives the same changes every time (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }

    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 12] =
            [0, 1, 0x7f, 0x80, 0xff, b'/', b'.', b'0', b'7', b' ', b'-', b'"'];
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    /// Changes a few places, as a fuzzer does; `other` lends pieces.
    fn change(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(4) {
            let at = self.below(data.len());
            let end = (at + 1 + self.below(64)).min(data.len());
            match self.below(6) {
                0 | 1 if !data.is_empty() => data[at] = self.byte(),
                2 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                3 => drop(data.drain(at..end)),
                4 => {
                    let piece = data[at..end].to_vec();
                    data.splice(at..at, piece);
                }
                _ if !other.is_empty() => {
                    let from = self.below(other.len());
                    let until = (from + 1 + self.below(512)).min(other.len());
                    let over = (at + until - from).min(data.len());
                    data.splice(at..over, other[from..until].iter().copied());
                }
                _ => data.push(self.byte()),
            }
        }
    }
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Runs `target` on the corpus, and on `usual` changed copies altogether unless the caller wants more of each.
fn run(name: &str, target: fn(&[u8]), usual: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty());
    let copies = number("MYDOCKER_FUZZ_RUNS", usual.div_ceil(corpus.len()));
    let mut random = Random(number("MYDOCKER_FUZZ_SEED", 0) as u64);
    for (path, original) in paths.iter().zip(&corpus) {
        target(original);
        for copy in 0..copies {
            let mut data = original.clone();
            let other = &corpus[random.below(corpus.len())];
            random.change(&mut data, other);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&data))) {
                let kept = std::env::temp_dir().join(format!("mydocker-fuzz-{name}-{copy}"));
                fs::write(&kept, &data).unwrap();
                eprintln!("{}, copy {copy}: kept as {}", path.display(), kept.display());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn tar() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: this needs root: layers have owners and devices");
        return;
    }
    run("tar", targets::tar, 360);
}

#[test]
fn manifest() {
    run("manifest", targets::manifest, 6000);
}

#[test]
fn index() {
    run("index", targets::index, 6000);
}

#[test]
fn config() {
    run("config", targets::config, 6000);
}

#[test]
fn decompress() {
    run("decompress", targets::decompress, 4000);
}

#[test]
fn tree_list() {
    run("tree_list", targets::tree_list, 6000);
}
