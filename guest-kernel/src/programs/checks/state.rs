//! The state of the CPU around a call, and the clock.

use alloc::format;

use nuncio_abi::{Error, RawCall, Verb, VERSION};

use super::{ensure, Check, Subject, Verdict};
use crate::hv::Machine;
use crate::instructions::time_stamp_counter;
use crate::programs::probe;

pub(super) const CHECKS: &[(&str, Check)] = &[
    ("clock-is-monotonic", clock_is_monotonic),
    ("clock-moves-with-the-counter", clock_moves),
    ("registers-over-hello", registers_over_hello),
    ("registers-over-wait", registers_over_wait),
    ("registers-over-an-error", registers_over_an_error),
    ("an-error-returns-no-values", an_error_returns_no_values),
];

fn clock_is_monotonic(subject: &Subject<'_>) -> Verdict {
    let mut last_ns = subject.machine.now_ns();
    for _ in 0..10_000 {
        let now_ns = subject.machine.now_ns();
        ensure(now_ns >= last_ns, || {
            format!("{now_ns} comes after {last_ns}")
        })?;
        last_ns = now_ns;
    }
    Ok(())
}

fn clock_moves(subject: &Subject<'_>) -> Verdict {
    let (start_ns, start) = (subject.machine.now_ns(), time_stamp_counter());
    while time_stamp_counter() - start < 1_000_000 {
        core::hint::spin_loop();
    }
    let passed_ns = subject.machine.now_ns() - start_ns;
    // A million ticks at 100 MHz to 10 GHz, and room for being preempted.
    ensure((100_000..1_000_000_000).contains(&passed_ns), || {
        format!("a million ticks take {passed_ns} ns")
    })
}

fn registers_over_hello(subject: &Subject<'_>) -> Verdict {
    registers_over(subject, Verb::Hello, VERSION.to_raw().into())
}

fn registers_over_wait(subject: &Subject<'_>) -> Verdict {
    registers_over(subject, Verb::Wait, subject.machine.now_ns() + 1_000_000)
}

fn registers_over_an_error(subject: &Subject<'_>) -> Verdict {
    registers_over(subject, Verb::Close, u64::MAX)
}

/// An error is RAX and nothing else: the registers of the arguments come back as they were.
fn an_error_returns_no_values(subject: &Subject<'_>) -> Verdict {
    let raw = RawCall {
        verb: u64::MAX,
        arguments: [1, 2, 3, 4, 5],
    };
    let (status, values) = subject.machine.text().call_registers(raw);
    // Arguments are in RDI RSI RDX R10 R8, values in RDX R10 R8 RDI RSI.
    ensure(
        status == Error::UnknownVerb.number() && values == [3, 4, 5, 1, 2],
        || format!("status {status}, values {values:x?}"),
    )
}

fn registers_over(subject: &Subject<'_>, verb: Verb, argument: u64) -> Verdict {
    let has_avx = probe::enable_avx();
    for seed in 1..4 {
        let verb = verb.number();
        let (before, after) = probe::over_call(subject.machine, seed, 1, verb, argument, has_avx);
        let difference = probe::first_difference(&before, &after);
        ensure(difference.is_none(), || {
            format!("{} has changed", difference.unwrap_or_default())
        })?;
    }
    Ok(())
}
