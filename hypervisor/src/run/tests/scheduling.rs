//! Time slices, deadlines, sleeping, and the end of a run.

use alloc::format;
use alloc::vec;

use nuncio_abi::{BudgetChange, Call, CallToken, Deadline, Error, Handle, Outgoing, StopReason};

use super::domains::{make, start, ONE};
use super::machine::script;
use super::objects::Answered;
use super::talking::{handle, receive, send, PAIR};
use super::{run, stop};
use crate::vt::fake::{Guest, ScriptResult};
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

const URGENT: &str = "nuncio-plan 1\n\
    limit-ms 1000\n\
    domain urgent image=image memory=4194304 vcpus=1 background=no\n\
    schedule urgent priority=40 budget-us=0 period-us=0\n\
    domain spinner image=image memory=4194304 vcpus=1 background=yes\n";

fn compute_for_ever(guest: &mut Guest) -> ScriptResult {
    loop {
        guest.compute(1 << 40)?;
    }
}

#[test]
fn nobody_waits_for_the_slice_of_one_who_is_less_urgent() {
    let outcome = run(
        URGENT,
        vec![
            script(|guest| {
                let deadline = Deadline(3_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                stop(guest, 0)
            }),
            script(compute_for_ever),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert!(outcome.now_ns < 3_100_000, "{} ns", outcome.now_ns);
}

#[test]
fn who_is_less_urgent_gets_nothing_while_the_other_computes() {
    let outcome = run(
        URGENT,
        vec![
            script(|guest| {
                guest.compute(50_000_000)?;
                stop(guest, 0)
            }),
            script(compute_for_ever),
        ],
    );
    assert!(outcome.now_ns < 51_000_000, "{} ns", outcome.now_ns);
    assert_eq!(outcome.reports[1].counters.ticks, 0);
}

#[test]
fn a_budget_is_kept_over_a_second_to_two_in_a_hundred() {
    let plan = URGENT.replace(
        "budget-us=0 period-us=0",
        "budget-us=20000 period-us=100000",
    );
    let outcome = run(
        &plan,
        vec![script(compute_for_ever), script(compute_for_ever)],
    );
    assert_eq!(outcome.ending(0), (StopReason::TimeLimit, 0));
    let ticks = [0, 1].map(|domain| outcome.reports[domain].counters.ticks);
    assert!(ticks[0].abs_diff(200_000_000) < 4_000_000, "{ticks:?}");
    assert!(ticks[1].abs_diff(800_000_000) < 16_000_000, "{ticks:?}");
}

#[test]
fn one_without_a_budget_left_is_no_deadlock() {
    let plan = "nuncio-plan 1\n\
        domain a image=image memory=4194304 vcpus=1 background=no\n\
        schedule a priority=0 budget-us=1000 period-us=10000\n";
    let outcome = run(
        plan,
        vec![script(|guest| {
            guest.compute(5_000_000)?;
            stop(guest, 0)
        })],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert!((40_000_000..52_000_000).contains(&outcome.now_ns));
}

#[test]
fn a_server_has_the_priority_of_its_caller() {
    let plan = format!(
        "{}domain spinner image=image memory=4194304 vcpus=1 background=yes\n\
         schedule sender priority=40 budget-us=0 period-us=0\n\
         schedule receiver priority=20 budget-us=0 period-us=0\n",
        PAIR.replace(
            "receiver image=image memory=4194304 vcpus=1 background=no",
            "receiver image=image memory=4194304 vcpus=1 background=yes"
        )
    );
    let outcome = run(
        &plan,
        vec![
            script(|guest| {
                // Only one who waits in `receive` is lent anything.
                let deadline = Deadline(1_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                let port = handle(guest, "mail");
                let message = Outgoing::registers(8, [1, 0, 0]);
                let deadline = Deadline::NEVER;
                let call = Call::Call {
                    port,
                    message,
                    deadline,
                };
                guest.call(call)?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let port = handle(guest, "mail");
                let [header, ..] = receive(guest, Deadline::NEVER)?.unwrap();
                guest.compute(20_000_000)?;
                let token = CallToken::from_header(header).unwrap();
                let answer = Call::Reply {
                    port,
                    token,
                    message: Outgoing::registers(8, [2, 0, 0]),
                    then_receive: false,
                };
                guest.call(answer)?.unwrap();
                stop(guest, 0)
            }),
            // Without what it is lent, the server would never run again.
            script(|guest| {
                let deadline = Deadline(500_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                compute_for_ever(guest)
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert_eq!(outcome.ending(2), (StopReason::RunEnded, 0));
    assert!(outcome.now_ns < 25_000_000, "{} ns", outcome.now_ns);
}

fn schedule(guest: &mut Guest, vcpu: Handle, priority: u8) -> Answered<()> {
    let call = Call::Schedule {
        vcpu,
        priority: Some(priority),
        budget: BudgetChange::Keep,
        cpu: None,
    };
    Ok(guest.call(call)?.map(|_| ()))
}

#[test]
fn a_maker_says_how_urgent_what_it_has_made_is() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                assert_eq!(schedule(guest, child.vcpu, 33)?, Err(Error::BadArgument));
                schedule(guest, child.vcpu, 0)?.unwrap();
                start(guest, child.vcpu, 0)?.unwrap();
                guest.compute(50_000_000)?;
                // It is made the equal of its maker, and has half of the CPU.
                schedule(guest, child.vcpu, 32)?.unwrap();
                guest.compute(50_000_000)?;
                stop(guest, 0)
            }),
            script(compute_for_ever),
        ],
    );
    let now_ms = outcome.now_ns / 1_000_000;
    assert!((140..160).contains(&now_ms), "{now_ms} ms");
}

#[test]
fn what_a_capped_domain_makes_uses_its_budget() {
    let plan = format!("{ONE}schedule maker priority=32 budget-us=20000 period-us=100000\n");
    let outcome = run(
        &plan,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                let call = Call::Schedule {
                    vcpu: child.vcpu,
                    priority: None,
                    budget: BudgetChange::Unlimited,
                    cpu: None,
                };
                assert_eq!(guest.call(call)?, Err(Error::WrongState));
                start(guest, child.vcpu, 0)?.unwrap();
                guest.compute(50_000_000)?;
                stop(guest, 0)
            }),
            script(compute_for_ever),
        ],
    );
    // 10 ms in each 100 ms are left for the maker.
    let now_ms = outcome.now_ns / 1_000_000;
    assert!((400..520).contains(&now_ms), "{now_ms} ms");
}
