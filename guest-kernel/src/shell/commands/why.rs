//! `why`: who serves each interface.

use crate::interface::Verdict;
use crate::println;
use crate::shell::Code;
use crate::system::services;

pub(super) fn run(_: &[&str]) -> Code {
    for (kind, identity, candidates, uses) in services().all() {
        match identity {
            Some(identity) => println!("{kind}: {identity}, used {uses} times"),
            None => println!("{kind}: nothing serves"),
        }
        for candidate in candidates {
            if candidate.verdict != Verdict::Serves {
                println!("  {candidate}");
            }
        }
    }
    0
}
