//! What a vcpu leaves behind on a CPU that it does not run on any more: nothing; and what it takes along.

use alloc::vec;
use core::sync::atomic::Ordering::{Relaxed, Release};

use nuncio_abi::{BudgetChange, Call, Deadline, Error, Handle, Rights, StopReason};

use super::domains::{grant, make, start, ONE};
use super::machine::{run_on, script, Outcome};
use super::stop;
use super::vcpus::{
    board, look_into, move_to, start_own, stop_object, until, until_it_counts, vcpu, wait, COUNT,
};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Guest, ScriptResult};

/// Longer than any of these tests runs, on the machine's clock.
const AN_HOUR: Deadline = Deadline(3_600_000_000_000);

fn sleeps_for_an_hour(guest: &mut Guest) -> ScriptResult {
    wait(guest, AN_HOUR).map(drop)
}

/// Nobody can run any more, which is known at once and not when the hour is over.
fn ends_at_once(outcome: &Outcome) {
    assert_eq!(outcome.ending(0).0, StopReason::Deadlock);
    assert!(outcome.now_ns < AN_HOUR.0, "{} ns", outcome.now_ns);
}

#[test]
fn nobody_waits_for_the_deadline_of_a_vcpu_that_was_stopped() {
    let outcome = run_on(
        1,
        "nuncio-plan 1\ndomain kernel image=image memory=4194304 vcpus=2 background=no\n",
        vec![
            script(|guest| {
                start_own(guest, 1)?.unwrap();
                until(guest, 1, 1)?;
                wait(guest, Deadline(1_000_000_000))?.unwrap_err();
                let second = vcpu(&guest.boot_info(), 1);
                stop_object(guest, second)?.unwrap();
                wait(guest, Deadline::NEVER).map(drop)
            }),
            script(|guest| {
                board(guest)[1].store(1, Release);
                sleeps_for_an_hour(guest)
            }),
        ],
    );
    ends_at_once(&outcome);
}

#[test]
fn nobody_waits_for_the_deadline_of_a_domain_that_has_ended() {
    let outcome = run_on(
        1,
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                start(guest, child.vcpu, 0)?.unwrap();
                wait(guest, Deadline(1_000_000_000))?.unwrap_err();
                stop_object(guest, child.domain)?.unwrap();
                wait(guest, Deadline::NEVER).map(drop)
            }),
            script(sleeps_for_an_hour),
        ],
    );
    ends_at_once(&outcome);
}

/// Whoever has stopped a domain may use its memory for something else.
#[test]
fn when_a_domain_has_been_stopped_it_runs_on_no_cpu() {
    fn counts(guest: &mut Guest) -> ScriptResult {
        loop {
            let page = guest.words(GuestPhysical(0)).unwrap();
            page[COUNT].fetch_add(1, Release);
            let _ = wait(guest, Deadline::NOW)?;
        }
    }
    for _ in 0..20 {
        let maker = script(|guest| {
            let child = make(guest, None)?;
            let there = look_into(guest, child.memory)?;
            move_to(guest, child.vcpu, 1)?.unwrap();
            start(guest, child.vcpu, 0)?.unwrap();
            until_it_counts(guest, there)?;
            stop_object(guest, child.domain)?.unwrap();
            let stopped = there[COUNT].load(Relaxed);
            for _ in 0..100 {
                let _ = wait(guest, Deadline::NOW)?;
            }
            assert_eq!(there[COUNT].load(Relaxed), stopped);
            stop(guest, 0)
        });
        let nobody = script(|_| unreachable!("nothing starts on the first CPU"));
        let scripts = vec![maker, script(counts), nobody, script(counts)];
        let outcome = run_on(2, ONE, scripts);
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    }
}

#[test]
fn a_vcpu_takes_along_which_priorities_it_may_give() {
    /// What the child was told, in its page.
    const REFUSED: u64 = 1;
    const DONE: u64 = 2;
    let raises_itself = |guest: &mut Guest| -> ScriptResult {
        let itself = Handle::from_raw(guest.start().argument.0).unwrap();
        let call = Call::Schedule {
            vcpu: itself,
            priority: Some(8),
            budget: BudgetChange::Keep,
            cpu: None,
        };
        let word = match guest.call(call)? {
            Err(Error::BadArgument) => REFUSED,
            _ => DONE,
        };
        guest.words(GuestPhysical(0)).unwrap()[COUNT].store(word, Release);
        wait(guest, Deadline::NEVER).map(drop)
    };
    let outcome = run_on(
        2,
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                let there = look_into(guest, child.memory)?;
                let itself = grant(guest, child.vcpu, Rights::SCHEDULE, child.domain)?.unwrap();
                // To 7, and to the other CPU.
                move_to(guest, child.vcpu, 1)?.unwrap();
                start(guest, child.vcpu, itself.raw())?.unwrap();
                until_it_counts(guest, there)?;
                assert_eq!(there[COUNT].load(Relaxed), REFUSED);
                stop(guest, 0)
            }),
            script(raises_itself),
            script(|_| unreachable!("nothing starts on the first CPU")),
            script(raises_itself),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}
