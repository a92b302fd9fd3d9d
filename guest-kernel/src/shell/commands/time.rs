//! `time`: how long the kernel runs.

use crate::println;
use crate::shell::Code;
use crate::system;

pub(super) fn run(_: &[&str]) -> Code {
    let ns = system::now_ns().saturating_sub(system::began_ns());
    println!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000);
    0
}
