//! `mem`: how much memory is used.

use crate::println;
use crate::shell::Code;
use crate::system;

pub(super) fn run(_: &[&str]) -> Code {
    let usage = system::heap_usage();
    println!(
        "heap: {} KiB used of {} KiB",
        usage.used_bytes >> 10,
        usage.total_bytes >> 10
    );
    0
}
