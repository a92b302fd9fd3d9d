//! `start`, and what a domain that was made does then.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, QueryItem, Rights, StopReason, Verb};

use super::child::{of_size, starts, Child, CODE_OF_STOPS, COUNTS, KERNEL_BYTES, LENT, STOPS};
use super::handles::Place;
use super::subject::{PAGE, SLOT};
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

const START: Verb = Verb::Start;
/// Where ends are told; messages to itself use the other one.
const ENDS: usize = SLOT + 1;
const BITS: u64 = 1 << 63 | 0b10;

pub(super) const TABLE: Table = Table {
    of: START.name(),
    cases: &[
        error(Error::BadArgument, 0, "page-tables-at-no-page", |subject| {
            let vcpu = waiting(subject)?;
            for bit in 0..12 {
                let [_, entry, stack, argument, tables] = starts(vcpu, 0);
                for vcpu in [vcpu, 0, 1 << 32] {
                    let arguments = [vcpu, entry, stack, argument, tables | 1 << bit];
                    subject.refuses(START, arguments, Error::BadArgument)?;
                }
            }
            Ok(())
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Vcpu)
        }),
        error(Error::MissingRight, 0, "without-start", |subject| {
            let place = place(subject)?;
            place.wants_right(subject, subject.given("vcpu", Rights::NONE)?)?;
            let weak = subject.grant(waiting(subject)?, Rights::GRANT, 0)?;
            place.wants_right(subject, weak)
        }),
        error(Error::PeerGone, 0, "of-a-domain-destroyed", |subject| {
            let child = subject.child()?;
            let vcpu = subject.vcpu(child, subject.memory(1)?)?;
            subject.close(child.domain)?;
            subject.refuses(START, starts(vcpu, 0), Error::PeerGone)
        }),
        error(
            Error::PeerGone,
            0,
            "of-a-domain-that-has-ended",
            |subject| {
                let child = subject.child()?;
                let vcpu = subject.vcpu(child, subject.memory(1)?)?;
                subject.works(Verb::Stop, [child.domain, 3, 0, 0, 0])?;
                subject.refuses(START, starts(vcpu, 0), Error::PeerGone)
            },
        ),
        error(Error::WrongState, 0, "twice", |subject| {
            let (loaded, _) = subject.counting_child()?;
            subject.refuses(START, starts(loaded.vcpu, 0), Error::WrongState)?;
            let copy = subject.grant(loaded.vcpu, Rights::START, 0)?;
            subject.refuses(START, starts(copy, 0), Error::WrongState)
        }),
        error(
            Error::QuotaExhausted,
            0,
            "a-child-without-frames-for-its-vcpu",
            |subject| {
                let (child, vcpu) = smallest(subject)?;
                for _ in 0..3 {
                    subject.refuses(START, starts(vcpu, 0), Error::QuotaExhausted)?;
                }
                subject.ended(child.domain, StopReason::Running, 0)
            },
        ),
        behaviour("a-child-exits-and-its-event-is-set", |subject| {
            let bell = subject.event(ENDS)?;
            subject.word(ENDS)?.enable(u64::MAX);
            let child = subject.watched_child(bell.far, BITS)?;
            let loaded = subject.load(child, &STOPS)?;
            let itself = subject.give(child, child.domain, Rights::STOP)?;
            subject.ended(child.domain, StopReason::Running, 0)?;
            subject.start(loaded, itself)?;
            subject.awaits(ENDS, BITS)?;
            subject.ended(child.domain, StopReason::Exited, CODE_OF_STOPS)?;
            subject.refuses(START, starts(loaded.vcpu, 0), Error::PeerGone)
        }),
        behaviour("its-maker-stops-it", |subject| {
            let bell = subject.event(ENDS)?;
            subject.word(ENDS)?.enable(u64::MAX);
            let child = subject.watched_child(bell.far, BITS)?;
            let loaded = subject.load(child, &COUNTS)?;
            subject.lend(child)?;
            subject.start(loaded, 0)?;
            subject.works(Verb::Stop, [child.domain, 7, 0, 0, 0])?;
            subject.awaits(ENDS, BITS)?;
            subject.ended(child.domain, StopReason::Exited, 7)
        }),
        behaviour("closing-the-handle-with-build-destroys-it", |subject| {
            let (loaded, lent) = subject.counting_child()?;
            let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
            subject.map(lent, window, 0, PAGE, Rights::READ)?;
            subject.counts(port, window)?;
            let copy = subject.grant(loaded.child.domain, Rights::STOP, 0)?;
            // A copy keeps nothing alive.
            subject.close(loaded.child.domain)?;
            let status = [copy, QueryItem::Status.number(), 0, 0, 0];
            subject.refuses(Verb::Query, status, Error::PeerGone)?;
            let before = subject.peek(port, window)?;
            subject.ends_with(Verb::Wait, [subject.in_ms(20), 0, 0, 0, 0], Error::TimedOut)?;
            equal("the count", subject.peek(port, window)?, before)?;
            subject.unmap(window, PAGE)
        }),
        behaviour("a-vcpu-that-was-stopped-starts-again", |subject| {
            let (loaded, lent) = subject.counting_child()?;
            let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
            subject.map(lent, window, 0, PAGE, Rights::READ)?;
            for _ in 0..3 {
                subject.counts(port, window)?;
                subject.works(Verb::Stop, [loaded.vcpu, 0, 0, 0, 0])?;
                let before = subject.peek(port, window)?;
                subject.ends_with(Verb::Wait, [subject.in_ms(5), 0, 0, 0, 0], Error::TimedOut)?;
                equal("the count", subject.peek(port, window)?, before)?;
                subject.start(loaded, 0)?;
            }
            subject.counts(port, window)?;
            subject.unmap(window, PAGE)
        }),
        behaviour("two-vcpus-of-one-domain-run", |subject| {
            let (loaded, lent) = subject.counting_child()?;
            let second = subject.vcpu(loaded.child, subject.memory(1)?)?;
            let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
            subject.map(lent, window, 0, PAGE, Rights::READ)?;
            subject.works(START, starts(second, 0))?;
            // Either goes on when the other is stopped.
            for (stopped, other) in [(loaded.vcpu, second), (second, loaded.vcpu)] {
                subject.works(Verb::Stop, [stopped, 0, 0, 0, 0])?;
                subject.counts(port, window)?;
                subject.works(Verb::Stop, [other, 0, 0, 0, 0])?;
                subject.works(START, starts(stopped, 0))?;
                subject.counts(port, window)?;
                subject.works(START, starts(other, 0))?;
            }
            // They end together.
            subject.works(Verb::Stop, [loaded.child.domain, 4, 0, 0, 0])?;
            let before = subject.peek(port, window)?;
            subject.ends_with(Verb::Wait, [subject.in_ms(5), 0, 0, 0, 0], Error::TimedOut)?;
            equal("the count", subject.peek(port, window)?, before)?;
            subject.unmap(window, PAGE)
        }),
        behaviour("closing-a-copy-does-not-destroy-it", |subject| {
            let (loaded, lent) = subject.counting_child()?;
            let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
            subject.map(lent, window, 0, PAGE, Rights::READ)?;
            let copy = subject.grant(loaded.child.domain, Rights::STOP, 0)?;
            for handle in [copy, loaded.vcpu, loaded.child.space] {
                subject.close(handle)?;
            }
            subject.counts(port, window)?;
            subject.ended(loaded.child.domain, StopReason::Running, 0)?;
            subject.unmap(window, PAGE)
        }),
        behaviour("memory-that-is-taken-back-ends-its-user", |subject| {
            let bell = subject.event(ENDS)?;
            let child = subject.watched_child(bell.far, BITS)?;
            let loaded = subject.load(child, &COUNTS)?;
            let lent = subject.lend(child)?;
            subject.start(loaded, 0)?;
            let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
            subject.map(lent, window, 0, PAGE, Rights::READ)?;
            subject.counts(port, window)?;
            subject.word(ENDS)?.enable(u64::MAX);
            subject.close(lent)?;
            subject.awaits(ENDS, BITS)?;
            subject.ended(child.domain, StopReason::BadMemory, LENT)?;
            // It was taken out of this domain's space, too.
            let gone = [subject.space()?, window, PAGE, 0, 0];
            subject.refuses(Verb::Unmap, gone, Error::NotMapped)
        }),
        behaviour("what-a-child-may-use-comes-back", |subject| {
            // Once before, for what stays: page tables, and room in lists.
            one_life(subject)?;
            let before = (subject.free_frames()?, subject.kernel_bytes()?);
            for _ in 0..3 {
                one_life(subject)?;
            }
            let after = (subject.free_frames()?, subject.kernel_bytes()?);
            equal("the account", after, before)
        }),
        behaviour("errors-in-their-order", |subject| {
            let (vcpu, weak) = (waiting(subject)?, subject.given("vcpu", Rights::NONE)?);
            let memory = subject.memory(1)?;
            for (arguments, expected) in [
                ([1 << 32, 0, 0, 0, 1], Error::BadArgument),
                ([weak, 0, 0, 0, 1], Error::BadArgument),
                ([memory, 0, 0, 0, 0], Error::WrongKind),
                ([weak, 0, 0, 0, 0], Error::MissingRight),
                ([vcpu | 1 << 32, 0, 0, 0, 0], Error::BadHandle),
            ] {
                subject.refuses(START, arguments, expected)?;
            }
            Ok(())
        }),
    ],
};

/// A vcpu that can be started.
fn waiting(subject: &Subject<'_>) -> Result<u64, String> {
    subject.vcpu(subject.child()?, subject.memory(1)?)
}

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(START, starts(waiting(subject)?, 0)))
}

/// The smallest child that can be made, with a vcpu.
fn smallest(subject: &Subject<'_>) -> Result<(Child, u64), String> {
    for frames in 0..super::child::FRAMES {
        let made = subject.call(Verb::Create, of_size(frames, KERNEL_BYTES));
        let Ok([domain, space, ..]) = made else {
            continue;
        };
        let (domain, space) = (subject.keep(domain), subject.keep(space));
        let child = Child { domain, space };
        return Ok((child, subject.vcpu(child, subject.memory(1)?)?));
    }
    Err("no child can be made".into())
}

/// A child is made, runs, and is destroyed with everything that was made for it.
fn one_life(subject: &Subject<'_>) -> Verdict {
    let before = subject.free_frames()?;
    let (loaded, lent) = subject.counting_child()?;
    ensure(subject.free_frames()? < before, || {
        "it costs nothing".into()
    })?;
    let child = loaded.child;
    for handle in [child.domain, child.space, loaded.vcpu, lent, loaded.memory] {
        subject.close(handle)?;
    }
    Ok(())
}
