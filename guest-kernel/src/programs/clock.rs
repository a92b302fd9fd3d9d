//! `program=clock-server` and `program=clock`: two domains tell each other the time, and neither must see it
//! go back.
//!
//! The client calls the port `service` with its time, `rounds=N` times; the server compares that with its own
//! and answers with it. Put on different CPUs they show that there is one clock for all.

use nuncio_abi::{Deadline, Error, Message, Rights};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Machine, Port, Received};

/// Runs the client.
pub fn run<M: Machine>(context: &mut Context<'_, M>) -> ExitCode {
    let rounds = match context.number("rounds", 2000) {
        Ok(rounds) => rounds,
        Err(code) => return code,
    };
    let port = context.client().port("service", Rights::SEND);
    let outcome = port
        .map_err(Miss::Refused)
        .and_then(|port| exchange(context.machine, &port, rounds));
    // The console cannot fail; what it loses it counts itself.
    let _ = match &outcome {
        Ok(()) => writeln!(
            context.out,
            "clock: {rounds} rounds, and it never went back"
        ),
        Err(miss) => writeln!(context.out, "clock FAILED: {miss:?}"),
    };
    outcome.map_or(FAILED, |()| GOOD)
}

/// Runs the server, until nobody is left who could call.
pub fn serve<M: Machine>(context: &mut Context<'_, M>) -> ExitCode {
    let port = match context.client().port("service", Rights::RECEIVE) {
        Ok(port) => port,
        Err(error) => {
            let _ = writeln!(context.out, "clock-server: no port `service`: {error}");
            return FAILED;
        }
    };
    match answer(context.machine, &port) {
        Miss::Refused(Error::PeerGone) => GOOD,
        miss => {
            let _ = writeln!(context.out, "clock-server FAILED: {miss:?}");
            FAILED
        }
    }
}

/// What went wrong.
#[derive(Debug, PartialEq, Eq)]
enum Miss {
    Refused(Error),
    WentBack { told_ns: u64, own_ns: u64 },
}

fn exchange<M: Machine>(machine: &M, port: &Port<'_, M>, rounds: u64) -> Result<(), Miss> {
    let mut last_ns = 0;
    for _ in 0..rounds {
        let own_ns = after(last_ns, machine.now_ns())?;
        let answer = port.call(&telling(own_ns), Deadline::NEVER);
        let told_ns = after(own_ns, told(&answer.map_err(Miss::Refused)?.message))?;
        last_ns = after(told_ns, machine.now_ns())?;
    }
    Ok(())
}

fn answer<M: Machine>(machine: &M, port: &Port<'_, M>) -> Miss {
    let mut next = port.receive(Deadline::NEVER);
    loop {
        let Received { token, message, .. } = match next {
            Ok(received) => received,
            Err(error) => return Miss::Refused(error),
        };
        let own_ns = match after(told(&message), machine.now_ns()) {
            Ok(own_ns) => own_ns,
            Err(miss) => return miss,
        };
        next = match token {
            Some(token) => port.reply_and_receive(token, &telling(own_ns)),
            None => port.receive(Deadline::NEVER),
        };
    }
}

/// The later of two readings, if it is.
fn after(told_ns: u64, own_ns: u64) -> Result<u64, Miss> {
    if own_ns < told_ns {
        return Err(Miss::WentBack { told_ns, own_ns });
    }
    Ok(own_ns)
}

fn telling(now_ns: u64) -> Message {
    Message {
        length: 8,
        words: core::array::from_fn(|word| if word == 0 { now_ns } else { 0 }),
    }
}

const fn told(message: &Message) -> u64 {
    let [now_ns, ..] = message.words;
    now_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_before_one_that_was_told_is_a_miss() {
        assert_eq!(after(5, 5), Ok(5));
        let miss = Miss::WentBack {
            told_ns: 5,
            own_ns: 4,
        };
        assert_eq!(after(5, 4), Err(miss));
        assert_eq!(told(&telling(77)), 77);
    }
}
