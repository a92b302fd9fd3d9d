//! `program=punctual turns=N interval_us=I`: sleeps until a point in time, that many times, and prints by
//! how much it was told too late at most.

use nuncio_abi::{Call, Deadline, Error};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Gate, Machine};
use crate::machine::Native;
use crate::println;

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let numbers = [("turns", 50), ("interval_us", 3_000)];
    let [turns, interval_us] = match numbers.map(|(name, number)| context.number(name, number)) {
        [Ok(turns), Ok(interval_us)] => [turns, interval_us],
        [Err(code), _] | [_, Err(code)] => return code,
    };
    let machine = context.machine;
    let mut latest_ns = 0;
    let mut due_ns = machine.now_ns();
    for _ in 0..turns {
        due_ns += interval_us * 1_000;
        let deadline = Deadline(due_ns);
        match machine.invoke(Call::Wait { deadline }) {
            Err(Error::TimedOut) => {}
            other => {
                println!("punctual: a wait for a deadline gives {other:?}");
                return FAILED;
            }
        }
        latest_ns = latest_ns.max(machine.now_ns().saturating_sub(due_ns));
    }
    println!("punctual: {turns} turns, late by {latest_ns} ns at most");
    GOOD
}
