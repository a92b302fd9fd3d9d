//! `stop`. It runs last, and what it is for is how this domain ends.

use alloc::string::String;

use nuncio_abi::{Error, ExitKind, ObjectKind, Rights, StopReason, Verb};

use super::child::{COMPUTES, HALTS};
use super::handles::{one_of_each, Place};
use super::{behaviour, equal, error, orders, Subject, Table};

const STOP: Verb = Verb::Stop;

pub(super) const TABLE: Table = Table {
    of: STOP.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let domain = subject.given("domain", Rights::STOP)?;
            subject.wants_zeros(STOP, [domain, 0, 0, 0, 0], 2)?;
            subject.wants_zeros(STOP, [1 << 32, 0, 0, 0, 0], 2)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            for (kind, handle) in one_of_each(subject)? {
                if !matches!(kind, ObjectKind::Domain | ObjectKind::Vcpu) {
                    subject.refuses(STOP, [handle, 1, 0, 0, 0], Error::WrongKind)?;
                }
            }
            Ok(())
        }),
        error(Error::MissingRight, 0, "without-stop", |subject| {
            let (place, child) = (place(subject)?, subject.child()?);
            for rights in [Rights::NONE, Rights::GRANT] {
                place.wants_right(subject, subject.grant(child.domain, rights, 0)?)?;
            }
            subject.ended(child.domain, StopReason::Running, 0)?;
            let halting = subject.monitored(0, &HALTS)?;
            let weak = subject.grant(halting.vcpu, Rights::START, 0)?;
            place.wants_right(subject, weak)
        }),
        error(Error::BadArgument, 1, "a-code-for-a-vcpu", |subject| {
            let halting = subject.monitored(0, &HALTS)?;
            for code in [1, 1 << 32, u64::MAX] {
                let arguments = [halting.vcpu, code, 0, 0, 0];
                subject.refuses(STOP, arguments, Error::BadArgument)?;
            }
            Ok(())
        }),
        error(Error::PeerGone, 0, "a-domain-destroyed", |subject| {
            let gone = subject.of_the_destroyed()?;
            subject.refuses(STOP, [gone, 0, 0, 0, 0], Error::PeerGone)?;
            let weak = subject.grant(gone, Rights::GRANT, 0)?;
            subject.refuses(STOP, [weak, 0, 0, 0, 0], Error::MissingRight)
        }),
        error(
            Error::PeerGone,
            0,
            "a-vcpu-of-a-domain-that-has-ended",
            |subject| {
                let halting = subject.monitored(0, &HALTS)?;
                subject.works(STOP, [halting.child.domain, 1, 0, 0, 0])?;
                subject.refuses(STOP, [halting.vcpu, 0, 0, 0, 0], Error::PeerGone)
            },
        ),
        error(Error::WrongState, 0, "a-vcpu-that-was-stopped", |subject| {
            let (counting, _) = subject.counting_child()?;
            let arguments = [counting.vcpu, 0, 0, 0, 0];
            subject.works(STOP, arguments)?;
            subject.refuses(STOP, arguments, Error::WrongState)?;
            // Its domain lives.
            subject.ended(counting.child.domain, StopReason::Running, 0)
        }),
        error(
            Error::WrongState,
            0,
            "a-vcpu-that-was-not-started",
            |subject| {
                let halting = subject.unstarted(0, &HALTS)?;
                subject.refuses(STOP, [halting.vcpu, 0, 0, 0, 0], Error::WrongState)
            },
        ),
        error(Error::QueueFull, 0, "no-room-for-the-exit", |subject| {
            let port = subject.port(1)?;
            let computing = subject.monitored(port.far, &COMPUTES)?;
            subject.send(port.far, 0, [0; 3])?;
            let arguments = [computing.vcpu, 0, 0, 0, 0];
            subject.refuses(STOP, arguments, Error::QueueFull)?;
            subject.receive(port.near, 0)?;
            subject.works(STOP, arguments)?;
            // It stands still: nothing more is told.
            subject.works(STOP, arguments)?;
            let [header, _, first, ..] = subject.works(Verb::Receive, [port.near, 0, 0, 0, 0])?;
            equal("the length", header & 0xFFF, 24)?;
            equal("the exit", first, ExitKind::Recalled.number())?;
            subject.refuses(Verb::Receive, [port.near, 0, 0, 0, 0], Error::QueueEmpty)
        }),
        error(
            Error::QueueFull,
            0,
            "no-room-for-one-more-call",
            |subject| {
                let port = subject.port(1)?;
                let first = subject.monitored(port.far, &COMPUTES)?;
                let second = subject.monitored(port.far, &COMPUTES)?;
                subject.works(STOP, [first.vcpu, 0, 0, 0, 0])?;
                let [header, ..] = subject.works(Verb::Receive, [port.near, 0, 0, 0, 0])?;
                // The queue is empty, and its only call waits for an answer.
                let arguments = [second.vcpu, 0, 0, 0, 0];
                subject.refuses(STOP, arguments, Error::QueueFull)?;
                let answer = [port.near, 8 | header >> 32 << 32, 0, 0, 0];
                subject.works(Verb::Reply, answer)?;
                subject.works(STOP, arguments).map(drop)
            },
        ),
        behaviour("a-vcpu-that-nobody-runs", |subject| {
            let halting = subject.monitored(0, &HALTS)?;
            subject.works(STOP, [halting.vcpu, 0, 0, 0, 0])?;
            let [first, ..] = subject.works(Verb::Run, [halting.vcpu, 0, 0, 0, 0])?;
            equal("the exit", first & 0xFF, ExitKind::Halt.number())
        }),
        behaviour("of-a-child-that-never-ran", |subject| {
            let child = subject.child()?;
            subject.works(STOP, [child.domain, u64::MAX, 0, 0, 0])?;
            subject.ended(child.domain, StopReason::Exited, u64::MAX)
        }),
        behaviour("what-a-domain-held-is-closed", |subject| {
            orders::of_the_dead(subject)?;
            subject.saw_death()
        }),
    ],
};

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    let domain = subject.given("domain", Rights::STOP)?;
    Ok(Place::first(STOP, [domain, 1, 0, 0, 0]))
}
