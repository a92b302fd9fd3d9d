//! `program=registers`: no register of ours is seen by another domain, nor changed by one.
//!
//! First looks whether the vector registers held something when the domain was started. Then fills
//! them, the general and the debug registers with a pattern, spins long enough to be preempted or
//! sleeps, and looks again. Two domains with different seeds run side by side.
//! Command line: `seed=N rounds=N spins=N`. The exit code is the number of failures.
// UNSAFETY: debug registers.
#![allow(unsafe_code)]

use core::arch::asm;

use nuncio_abi::{Verb, VERSION};

use crate::hv::Machine;
use crate::machine::Native;
use crate::println;
use crate::programs::{probe, Context, ExitCode};

const SLEEP_NS: u64 = 1_000_000;

/// Runs the program.
pub(super) fn run(context: &mut Context<'_, Native>) -> ExitCode {
    // Nothing in this kernel has touched a vector register yet.
    let fresh = probe::vectors();
    let words = ["seed", "rounds", "spins"].into_iter().zip([1, 40, 20_000]);
    let mut numbers = [0; 3];
    for (place, (name, default)) in numbers.iter_mut().zip(words) {
        match context.number(name, default) {
            Ok(number) => *place = number,
            Err(code) => return code,
        }
    }
    let [seed, rounds, spins] = numbers;
    let mut failures = 0;
    if fresh.iter().flatten().any(|word| *word != 0) {
        println!("registers FAILED: the domain was started with {fresh:x?}");
        failures += 1;
    }
    let has_avx = probe::enable_avx();
    for round in 0..rounds {
        let round_seed = seed.wrapping_mul(0x1_0001).wrapping_add(round << 32);
        let why = if round % 2 == 0 {
            one_round(context.machine, round_seed, spins, has_avx)
        } else {
            one_round(context.machine, round_seed, 1, has_avx)
        };
        if let Some(why) = why {
            println!("registers FAILED: in round {round} {why} changed");
            failures += 1;
        }
    }
    let avx = if has_avx { "with" } else { "without" };
    println!("registers: {rounds} rounds {avx} AVX, {failures} failures");
    failures.min(255)
}

/// Spins and says hello, or sleeps for a while.
fn one_round(machine: &Native, seed: u64, spins: u64, has_avx: bool) -> Option<&'static str> {
    let (verb, argument) = if spins > 1 {
        (Verb::Hello, VERSION.to_raw().into())
    } else {
        (Verb::Wait, machine.now_ns() + SLEEP_NS)
    };
    let addresses = [1, 2, 3, 4].map(|number| seed.wrapping_mul(number) & 0x7FFF_FFFF_FFFF);
    set_debug_addresses(addresses);
    let verb = verb.number();
    let (before, after) = probe::over_call(machine, seed, spins, verb, argument, has_avx);
    if debug_addresses() != addresses {
        return Some("a debug register");
    }
    probe::first_difference(&before, &after)
}

/// DR0 to DR3; DR7 stays as it is, so no breakpoint is armed.
fn set_debug_addresses([first, second, third, fourth]: [u64; 4]) {
    // SAFETY: addresses of breakpoints that are not enabled have no effect.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) first, in(reg) second, in(reg) third, in(reg) fourth, options(nostack));
    }
}

fn debug_addresses() -> [u64; 4] {
    let (first, second, third, fourth);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) first, out(reg) second, out(reg) third, out(reg) fourth, options(nostack));
    }
    [first, second, third, fourth]
}
