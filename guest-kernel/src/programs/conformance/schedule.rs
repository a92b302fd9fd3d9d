//! `schedule`: priorities and budgets, as far as they do not depend on how fast anything is.

use alloc::string::String;

use nuncio_abi::{
    Budget, Error, ObjectKind, Rights, Verb, DEFAULT_PRIORITY, MAX_PERIOD_NS, MAX_PRIORITY,
    MIN_BUDGET_NS, MIN_PERIOD_NS,
};

use super::child::Loaded;
use super::handles::Place;
use super::subject::{Arguments, Ends, PAGE};
use super::{behaviour, ensure, error, Subject, Table, Verdict};

const SCHEDULE: Verb = Verb::Schedule;
const KEEP: u64 = u64::MAX;
/// Turns of a loop during which a vcpu of a lower priority would count, if it ran.
const TURNS: u64 = 200_000;

pub(super) const TABLE: Table = Table {
    of: SCHEDULE.name(),
    cases: &[
        error(Error::BadArgument, 0, "past-the-last-priority", |subject| {
            let vcpu = waiting(subject)?;
            for priority in [u64::from(MAX_PRIORITY) + 1, 1 << 32, KEEP - 1] {
                for vcpu in [vcpu, 0, 1 << 32] {
                    let arguments = [vcpu, priority, KEEP, KEEP, KEEP];
                    subject.refuses(SCHEDULE, arguments, Error::BadArgument)?;
                }
            }
            Ok(())
        }),
        error(
            Error::BadArgument,
            0,
            "budgets-beyond-their-limits",
            |subject| {
                let vcpu = waiting(subject)?;
                for [budget, period] in [
                    [MIN_BUDGET_NS - 1, MIN_PERIOD_NS],
                    [MIN_BUDGET_NS, MIN_PERIOD_NS - 1],
                    [MIN_PERIOD_NS + 1, MIN_PERIOD_NS],
                    [MIN_BUDGET_NS, MAX_PERIOD_NS + 1],
                    [0, MIN_PERIOD_NS],
                    [MIN_BUDGET_NS, 0],
                    [KEEP, MAX_PERIOD_NS],
                    [MIN_BUDGET_NS, KEEP],
                    [KEEP, 0],
                    [0, KEEP],
                ] {
                    let arguments = [vcpu, KEEP, budget, period, KEEP];
                    subject.refuses(SCHEDULE, arguments, Error::BadArgument)?;
                }
                Ok(())
            },
        ),
        error(Error::BadArgument, 0, "no-number-of-a-cpu", |subject| {
            let vcpu = waiting(subject)?;
            for cpu in [256, 1 << 32, KEEP - 1] {
                let arguments = [vcpu, KEEP, KEEP, KEEP, cpu];
                subject.refuses(SCHEDULE, arguments, Error::BadArgument)?;
            }
            Ok(())
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Vcpu)
        }),
        error(Error::MissingRight, 0, "without-schedule", |subject| {
            let place = place(subject)?;
            place.wants_right(subject, subject.given("vcpu", Rights::NONE)?)?;
            let others = Rights::START | Rights::STOP | Rights::GRANT;
            place.wants_right(subject, subject.grant(waiting(subject)?, others, 0)?)
        }),
        error(Error::PeerGone, 0, "of-a-domain-destroyed", |subject| {
            let child = subject.child()?;
            let vcpu = subject.vcpu(child, subject.memory(1)?)?;
            subject.close(child.domain)?;
            subject.refuses(SCHEDULE, keeps(vcpu), Error::PeerGone)
        }),
        error(
            Error::PeerGone,
            0,
            "of-a-domain-that-has-ended",
            |subject| {
                let child = subject.child()?;
                let vcpu = subject.vcpu(child, subject.memory(1)?)?;
                subject.works(Verb::Stop, [child.domain, 3, 0, 0, 0])?;
                subject.refuses(SCHEDULE, keeps(vcpu), Error::PeerGone)
            },
        ),
        error(
            Error::BadArgument,
            1,
            "a-higher-priority-than-its-own",
            |subject| {
                let vcpu = waiting(subject)?;
                for priority in DEFAULT_PRIORITY + 1..=MAX_PRIORITY {
                    let arguments = [vcpu, u64::from(priority), KEEP, KEEP, KEEP];
                    subject.refuses(SCHEDULE, arguments, Error::BadArgument)?;
                }
                Ok(())
            },
        ),
        error(Error::BadArgument, 1, "another-cpu", |subject| {
            let arguments = [waiting(subject)?, KEEP, KEEP, KEEP, 255];
            subject.refuses(SCHEDULE, arguments, Error::BadArgument)
        }),
        behaviour("a-vcpu-moves-whatever-it-does", |subject| {
            // On a machine with one CPU there is nowhere to go.
            let moves = [waiting(subject)?, KEEP, KEEP, KEEP, 1];
            let is_alone = subject
                .ends_with(SCHEDULE, moves, Error::BadArgument)
                .is_ok();
            let (loaded, port, window) = counting(subject)?;
            let moves = |cpu| [loaded.vcpu, KEEP, KEEP, KEEP, cpu];
            if is_alone {
                subject.refuses(SCHEDULE, moves(1), Error::BadArgument)?;
            } else {
                for cpu in [1, 1, 0, 1] {
                    subject.works(SCHEDULE, moves(cpu))?;
                    subject.counts(port, window)?;
                }
                subject.works(Verb::Stop, [loaded.vcpu, 0, 0, 0, 0])?;
                subject.works(SCHEDULE, moves(0))?;
                subject.works(SCHEDULE, moves(1))?;
                subject.start(loaded, 0)?;
                subject.counts(port, window)?;
            }
            subject.unmap(window, PAGE)
        }),
        behaviour("before-and-after-the-start", |subject| {
            every_good_one(subject, waiting(subject)?)?;
            let (loaded, _) = subject.counting_child()?;
            every_good_one(subject, loaded.vcpu)
        }),
        behaviour(
            "one-of-a-lower-priority-runs-only-while-its-maker-sleeps",
            |subject| {
                let (loaded, port, window) = counting(subject)?;
                for priority in [0, u64::from(DEFAULT_PRIORITY) - 1] {
                    subject.works(SCHEDULE, [loaded.vcpu, priority, KEEP, KEEP, KEEP])?;
                    let [before, ..] = subject.peek(port, window)?;
                    for _ in 0..TURNS {
                        core::hint::spin_loop();
                    }
                    let [after, ..] = subject.peek(port, window)?;
                    ensure(before == after, || {
                        alloc::format!("it has counted from {before} to {after}")
                    })?;
                    subject.counts(port, window)?;
                }
                subject.unmap(window, PAGE)
            },
        ),
        behaviour(
            "a-vcpu-with-a-budget-goes-on-in-the-next-period",
            |subject| {
                let (loaded, port, window) = counting(subject)?;
                let [budget, period] = [MIN_BUDGET_NS, 10 * MIN_PERIOD_NS];
                subject.works(SCHEDULE, [loaded.vcpu, KEEP, budget, period, KEEP])?;
                for _ in 0..3 {
                    subject.counts(port, window)?;
                }
                subject.works(SCHEDULE, [loaded.vcpu, KEEP, 0, 0, KEEP])?;
                subject.counts(port, window)?;
                subject.unmap(window, PAGE)
            },
        ),
        behaviour("errors-in-their-order", |subject| {
            let (vcpu, weak) = (waiting(subject)?, subject.given("vcpu", Rights::NONE)?);
            let memory = subject.memory(1)?;
            for (arguments, expected) in [
                ([1 << 32, 64, KEEP, KEEP, KEEP], Error::BadArgument),
                ([weak, KEEP, KEEP, 0, KEEP], Error::BadArgument),
                ([vcpu | 1 << 32, 63, KEEP, KEEP, KEEP], Error::BadHandle),
                ([memory, 63, KEEP, KEEP, KEEP], Error::WrongKind),
                ([weak, 63, KEEP, KEEP, KEEP], Error::MissingRight),
            ] {
                subject.refuses(SCHEDULE, arguments, expected)?;
            }
            let gone = subject.child()?;
            let vcpu = subject.vcpu(gone, subject.memory(1)?)?;
            subject.close(gone.domain)?;
            subject.refuses(SCHEDULE, [vcpu, 63, KEEP, KEEP, 255], Error::PeerGone)
        }),
    ],
};

/// A vcpu that has not been started.
fn waiting(subject: &Subject<'_>) -> Result<u64, String> {
    subject.vcpu(subject.child()?, subject.memory(1)?)
}

/// A child that counts, and a port and a place in memory where its count is.
fn counting(subject: &Subject<'_>) -> Result<(Loaded, Ends, u64), String> {
    let (loaded, lent) = subject.counting_child()?;
    let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
    subject.map(lent, window, 0, PAGE, Rights::READ)?;
    subject.counts(port, window)?;
    Ok((loaded, port, window))
}

/// Changes nothing.
const fn keeps(vcpu: u64) -> Arguments {
    [vcpu, KEEP, KEEP, KEEP, KEEP]
}

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(SCHEDULE, keeps(waiting(subject)?)))
}

/// The edges of what can be asked for.
fn every_good_one(subject: &Subject<'_>, vcpu: u64) -> Verdict {
    for priority in [KEEP, 0, 1, u64::from(DEFAULT_PRIORITY)] {
        subject.works(SCHEDULE, [vcpu, priority, KEEP, KEEP, KEEP])?;
    }
    for [budget_ns, period_ns] in [
        [MIN_BUDGET_NS, MIN_PERIOD_NS],
        [MIN_PERIOD_NS, MIN_PERIOD_NS],
        [MIN_BUDGET_NS, MAX_PERIOD_NS],
        [MAX_PERIOD_NS, MAX_PERIOD_NS],
    ] {
        ensure(Budget::new(budget_ns, period_ns).is_some(), || {
            "it is no budget".into()
        })?;
        subject.works(SCHEDULE, [vcpu, KEEP, budget_ns, period_ns, KEEP])?;
    }
    subject.works(SCHEDULE, [vcpu, KEEP, 0, 0, KEEP])?;
    subject.works(SCHEDULE, keeps(vcpu)).map(drop)
}
