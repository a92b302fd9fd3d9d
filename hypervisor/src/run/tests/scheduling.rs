//! Time slices, deadlines, sleeping, and the end of a run.

use alloc::vec;

use nuncio_abi::{Call, Deadline, Error, StopReason};

use super::machine::script;
use super::talking::{receive, send, PAIR};
use super::{run, stop};
use crate::vt::Exit;

const BACKGROUND: &str = "nuncio-plan 1\n\
    limit-ms 1000\n\
    domain worker image=image memory=4194304 vcpus=1 background=no\n\
    domain other image=image memory=4194304 vcpus=1 background=yes\n";

#[test]
fn a_spinning_neighbour_takes_no_more_than_its_slices() {
    let outcome = run(
        BACKGROUND,
        vec![
            script(|guest| {
                guest.compute(50_000_000)?;
                stop(guest, 0)
            }),
            script(|guest| loop {
                guest.compute(1 << 40)?;
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert_eq!(outcome.ending(1), (StopReason::RunEnded, 0));
    assert!(outcome.now_ns < 120_000_000, "{} ns", outcome.now_ns);
}

#[test]
fn who_floods_the_console_pays_for_it_with_turns() {
    let outcome = run(
        BACKGROUND,
        vec![
            script(|guest| {
                guest.compute(200_000_000)?;
                stop(guest, 0)
            }),
            script(|guest| loop {
                send(
                    guest,
                    "console",
                    b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
                )?
                .unwrap();
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert!(outcome.now_ns < 500_000_000, "{} ns", outcome.now_ns);
}

#[test]
fn alone_a_vcpu_is_not_interrupted() {
    let outcome = run(
        "nuncio-plan 1\ndomain a image=image memory=4194304 vcpus=1 background=no\n",
        vec![script(|guest| {
            guest.compute(10_000_000_000)?;
            stop(guest, 0)
        })],
    );
    assert_eq!(
        outcome.reports[0].counters.exits_by_kind()[crate::vt::ExitKind::Interrupt as usize],
        0
    );
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let outcome = run(
        "nuncio-plan 1\ndomain a image=image memory=4194304 vcpus=1 background=no\n",
        vec![script(|guest| {
            let call = Call::Wait {
                deadline: Deadline(3_000_000),
            };
            assert_eq!(guest.call(call)?, Err(Error::TimedOut));
            assert_eq!(guest.call(call)?, Err(Error::TimedOut), "it has passed");
            stop(guest, 0)
        })],
    );
    assert!((3_000_000..3_100_000).contains(&outcome.now_ns));
}

#[test]
fn a_deadline_is_kept_while_another_vcpu_computes() {
    let outcome = run(
        BACKGROUND,
        vec![
            script(|guest| {
                let call = Call::Wait {
                    deadline: Deadline(3_000_000),
                };
                assert_eq!(guest.call(call)?, Err(Error::TimedOut));
                stop(guest, 0)
            }),
            script(|guest| loop {
                guest.compute(1 << 40)?;
            }),
        ],
    );
    assert!(outcome.now_ns < 10_000_000, "{} ns", outcome.now_ns);
}

#[test]
fn those_that_nothing_can_wake_are_ended() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                guest
                    .call(Call::Wait {
                        deadline: Deadline::NEVER,
                    })
                    .map(|_| ())
            }),
            script(|guest| receive(guest, Deadline::NEVER).map(|_| ())),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Deadlock, 0));
    assert_eq!(outcome.ending(1), (StopReason::Deadlock, 0));
}

#[test]
fn the_limit_of_the_run_ends_everybody() {
    let outcome = run(
        BACKGROUND,
        vec![
            script(|guest| loop {
                guest.compute(1 << 40)?;
            }),
            script(|guest| {
                guest
                    .call(Call::Wait {
                        deadline: Deadline(1 << 60),
                    })
                    .map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::TimeLimit, 0));
    assert_eq!(outcome.ending(1), (StopReason::TimeLimit, 0));
    assert_eq!(outcome.now_ns, 1_000_000_000);
}

#[test]
fn registers_change_hands_only_when_another_vcpu_runs() {
    let outcome = run(
        "nuncio-plan 1\ndomain a image=image memory=4194304 vcpus=1 background=no\n",
        vec![script(|guest| {
            for wait in 1..=20 {
                let deadline = Deadline(wait * 1_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
            }
            stop(guest, 0)
        })],
    );
    assert_eq!(outcome.switches, 1);
}

#[test]
fn halting_with_interrupts_off_is_the_end() {
    let outcome = run(
        BACKGROUND,
        vec![
            script(|guest| {
                guest
                    .exit(Exit::Halt {
                        interrupts_enabled: false,
                    })
                    .map(|_| ())
            }),
            script(|guest| stop(guest, 3)),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::HaltedForEver, 0));
}
