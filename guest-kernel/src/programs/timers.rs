//! `program=timers`: what it costs that a timer is due, while many others are armed.
//!
//! Every domain makes `timers=N` timers and arms them for times far away. One with `ready` on its command
//! line only says so, by that bit of the event `armed`, and sleeps. The one without waits for the bits
//! `others=MASK`, arms a timer for soon again and again, and prints `timers late N`: how many nanoseconds
//! after its time it saw the bit, at best, which is the whole way from the interrupt to the guest; and
//! `timers arm N`: what it costs, in ticks, to arm a timer that is due at once.
//!
//! `program=quiet` computes and sleeps while nothing is due.

use nuncio_abi::{Deadline, Error, EventWord, Rights};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{rest_until, Client, Machine, Timer};
use crate::instructions::{disable_interrupts, enable_interrupts, time_stamp_counter};
use crate::machine::Native;
use crate::println;

/// A slot of the vcpu page that manifests do not use.
const SLOT: usize = 62;
const BIT: u64 = 1;
const ROUNDS: u64 = 64;
/// Long enough for the guest to look at the word again, and short beside a slice.
const SOON_NS: u64 = 50_000;
/// Before these times no run of this program goes on.
const FAR_NS: u64 = 3_600_000_000_000;

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let numbers = ["timers", "ready", "others"].map(|name| context.number(name, 0));
    let [Ok(timers), Ok(ready), Ok(others)] = numbers else {
        return super::BAD_COMMAND_LINE;
    };
    match try_run(&context.client(), timers, ready, others) {
        Ok(()) => GOOD,
        Err(error) => {
            println!("timers: {error}");
            FAILED
        }
    }
}

fn try_run(client: &Client<'_, Native>, timers: u64, ready: u64, others: u64) -> Result<(), Error> {
    let event = client.create_event(SLOT)?;
    let timer = client.create_timer(&event.far, BIT)?;
    // They stay until the domain ends.
    for number in 1..timers {
        client
            .create_timer(&event.far, BIT)?
            .arm(far_away(number))?;
    }
    if ready != 0 {
        client.event("armed", Rights::NOTIFY)?.notify(ready)?;
        rest_until(client.machine(), u64::MAX);
        return Ok(());
    }
    let mut missing = others;
    while missing != 0 {
        let armed = client.event("armed", Rights::WAIT)?;
        missing &= !armed.wait(missing, Deadline::NEVER)?;
    }
    let word = event.near.word()?;
    let machine = client.machine();
    println!("timers late {}", best_lateness(machine, &timer, word)?);
    println!("timers arm {}", best_arm(&timer, word)?);
    Ok(())
}

/// In no order, so that the queue is no sorted list.
const fn far_away(number: u64) -> Deadline {
    let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
    Deadline(FAR_NS + scattered)
}

/// The guest looks all the time, with interrupts on: no test bed keeps the timer from it then.
fn best_lateness(
    machine: &Native,
    timer: &Timer<'_, Native>,
    word: EventWord<'_>,
) -> Result<u64, Error> {
    let mut best = u64::MAX;
    enable_interrupts();
    for _ in 0..ROUNDS {
        let due_ns = machine.now_ns() + SOON_NS;
        timer.arm(Deadline(due_ns))?;
        // Nobody enables the bit: that it is set is all that happens.
        while word.pending() & BIT == 0 {}
        best = best.min(machine.now_ns().saturating_sub(due_ns));
        clear(word);
    }
    disable_interrupts();
    Ok(best)
}

fn best_arm(timer: &Timer<'_, Native>, word: EventWord<'_>) -> Result<u64, Error> {
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        let start = time_stamp_counter();
        timer.arm(Deadline(1))?;
        best = best.min(time_stamp_counter() - start);
        clear(word);
    }
    Ok(best)
}

fn clear(word: EventWord<'_>) {
    word.enable(BIT);
    word.take();
    word.enable(0);
}

/// Computes for 100 ms and sleeps for a second.
pub fn quiet(context: &mut Context<'_, Native>) -> ExitCode {
    let machine = context.machine;
    let end_ns = machine.now_ns() + 100_000_000;
    enable_interrupts();
    while machine.now_ns() < end_ns {
        core::hint::spin_loop();
    }
    disable_interrupts();
    rest_until(machine, machine.now_ns() + 1_000_000_000);
    GOOD
}
