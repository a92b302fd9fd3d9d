//! `program=worker work_us=N`: answers every call on the port `service` after it has computed for so long, with
//! the words that came in it.
//!
//! `program=caller turns=N interval_us=I patience_ms=P`: calls the port `service` that many times, with pauses
//! between, and prints how long the longest call took. It gives a call up after P ms, if that is not 0. 0 turns are
//! calls for ever, whatever becomes of them. With others beside them, the two show who gets the CPU while somebody
//! waits for an answer.

use nuncio_abi::{Call, Deadline, Error, Message, Rights, MESSAGE_WORDS};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Gate, Machine, Port, Received};
use crate::instructions::enable_interrupts;
use crate::machine::Native;
use crate::println;

/// Runs the program that answers.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let work_ns = match context.number("work_us", 0) {
        Ok(work_us) => work_us.saturating_mul(1_000),
        Err(code) => return code,
    };
    let machine = context.machine;
    let port = match context.client().port("service", Rights::RECEIVE) {
        Ok(port) => port,
        Err(error) => {
            println!("worker: no port `service`: {error}");
            return FAILED;
        }
    };
    // On some test bed nothing stops a guest that takes no interrupts.
    enable_interrupts();
    match serve(machine, &port, work_ns) {
        Error::PeerGone => GOOD,
        error => {
            println!("worker: {error}");
            FAILED
        }
    }
}

/// Serves until nobody is left who could call.
fn serve(machine: &Native, port: &Port<'_, Native>, work_ns: u64) -> Error {
    let mut next = port.receive(Deadline::NEVER);
    loop {
        next = match next {
            Ok(Received {
                token: Some(token),
                message,
                ..
            }) => {
                let end_ns = machine.now_ns().saturating_add(work_ns);
                while machine.now_ns() < end_ns {
                    core::hint::spin_loop();
                }
                match port.reply_and_receive(token, &message) {
                    // The caller has given up.
                    Err(Error::PeerGone) => port.receive(Deadline::NEVER),
                    next => next,
                }
            }
            Ok(_) => port.receive(Deadline::NEVER),
            Err(error) => return error,
        };
    }
}

/// Runs the program that calls.
pub fn call(context: &mut Context<'_, Native>) -> ExitCode {
    let numbers = [("turns", 20), ("interval_us", 3_000), ("patience_ms", 0)];
    let numbers = numbers.map(|(name, number)| context.number(name, number));
    let [Ok(turns), Ok(interval_us), Ok(patience_ms)] = numbers else {
        return FAILED;
    };
    let machine = context.machine;
    let port = match context.client().port("service", Rights::SEND) {
        Ok(port) => port,
        Err(error) => {
            println!("caller: no port `service`: {error}");
            return FAILED;
        }
    };
    let message = Message {
        length: 8,
        words: [0; MESSAGE_WORDS],
    };
    let mut longest_ns = 0;
    let mut turn = 0;
    while turns == 0 || turn < turns {
        turn += 1;
        pause(machine, interval_us);
        let began_ns = machine.now_ns();
        let deadline = match patience_ms {
            0 => Deadline::NEVER,
            ms => Deadline(began_ns.saturating_add(ms.saturating_mul(1_000_000))),
        };
        match port.call(&message, deadline) {
            Ok(_) => {}
            // Who calls for ever does not mind.
            Err(Error::TimedOut) if turns == 0 => {}
            Err(error) => {
                println!("caller: call {turn} fails: {error}");
                return FAILED;
            }
        }
        longest_ns = longest_ns.max(machine.now_ns().saturating_sub(began_ns));
    }
    println!("caller: {turns} calls, of {longest_ns} ns at most");
    GOOD
}

fn pause(machine: &Native, interval_us: u64) {
    if interval_us > 0 {
        let due_ns = machine
            .now_ns()
            .saturating_add(interval_us.saturating_mul(1_000));
        let deadline = Deadline(due_ns);
        // It ends by the deadline, whatever that is called.
        let _ = machine.invoke(Call::Wait { deadline });
    }
}
