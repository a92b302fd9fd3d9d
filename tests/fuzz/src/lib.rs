//! What reads bytes from outside, each as a function of any bytes: it panics if something comes out
//! that is not allowed, and returns whether the input was accepted.
//!
//! `cargo test` runs every target on its corpus, on the inputs that once crashed it
//! (`regressions/TARGET/`), and on random changes of both. `./run.sh fuzz` runs them under
//! libFuzzer, which looks for inputs that reach new code.

#![forbid(unsafe_code)]

mod abi;
mod boot;
mod corpus;
mod image;
mod plan;

use std::path::PathBuf;

/// A fuzz target.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Runs it; whether the input was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted.
    pub corpus: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 6] = [
    target("call", abi::call, corpus::calls),
    target("message", abi::message, corpus::messages),
    target("manifest", plan::manifest, corpus::manifests),
    target("plan", plan::plan, corpus::plans),
    target("image", image::image, corpus::images),
    target("boot", boot::boot, corpus::boots),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]) -> bool,
    corpus: fn() -> Vec<Vec<u8>>,
) -> Target {
    Target { name, run, corpus }
}

/// The inputs that once crashed a target.
pub fn regressions(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("regressions")
        .join(name);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| std::fs::read(file.path()).ok())
        .collect()
}

/// Changes an input a little, at random: flips, numbers that parsers stumble over, and pieces that
/// are left out, repeated or taken from another input.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    const EDGES: [u64; 8] = [0, 1, 0x7F, 0x80, 0xFFFF, 1 << 31, u64::MAX >> 1, u64::MAX];
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=input.len());
        let end = at + random.usize(0..=(input.len() - at).min(32));
        match random.u8(0..7) {
            0 | 1 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            2 if at < input.len() => input[at] = random.u8(..),
            3 => {
                let edge = EDGES[random.usize(0..EDGES.len())].to_le_bytes();
                for (byte, edge) in input.iter_mut().skip(at).zip(&edge[..1 << random.u8(0..4)]) {
                    *byte = *edge;
                }
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let from = random.usize(0..=other.len());
                let to = from + random.usize(0..=(other.len() - from).min(32));
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    input.truncate(1 << 16);
}
