//! Events with an interval.

use alloc::format;
use alloc::string::String;

use nuncio_abi::{Create, Error, Rights, Verb};

use super::notify::notify;
use super::subject::{Ends, Subject, MS, SLOT};
use super::{behaviour, ensure, equal, orders, Table, Verdict};

const INTERVAL_NS: u64 = 4 * MS;

pub(super) const TABLE: Table = Table {
    of: "throttling",
    cases: &[
        behaviour("the-first-posting-is-at-once", |subject| {
            let (bell, slot) = (throttled(subject, LONGEST_NS)?, subject.word(SLOT)?);
            notify(subject, bell.far, 0)?;
            notify(subject, bell.far, 0b101)?;
            equal("what pends", slot.pending(), 0b101)?;
            notify(subject, bell.far, 0b1010)?;
            equal("what pends", slot.pending(), 0b101)
        }),
        behaviour(
            "what-comes-in-between-is-neither-early-nor-lost",
            |subject| {
                let (bell, slot) = (throttled(subject, INTERVAL_NS)?, subject.word(SLOT)?);
                slot.enable(u64::MAX);
                let start_ns = subject.ground.now_ns();
                notify(subject, bell.far, 0b1)?;
                equal("the first bit", slot.take(), 0b1)?;
                for bits in [0b10, 0b10, 0b100, 1 << 63] {
                    notify(subject, bell.far, bits)?;
                }
                comes_after(subject, start_ns, 1 << 63 | 0b110)
            },
        ),
        behaviour("a-timer-is-held-back", |subject| {
            let (bell, slot) = (throttled(subject, INTERVAL_NS)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            let timer = subject.timer(bell.far, 0b10)?;
            let start_ns = subject.ground.now_ns();
            notify(subject, bell.far, 0b1)?;
            equal("the first bit", slot.take(), 0b1)?;
            subject.works(Verb::Arm, [timer, 0, 0, 0, 0])?;
            comes_after(subject, start_ns, 0b10)
        }),
        behaviour("the-end-of-a-domain-is-held-back", |subject| {
            let (bell, slot) = (throttled(subject, INTERVAL_NS)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            let child = subject.watched_child(bell.far, 0b10)?;
            let start_ns = subject.ground.now_ns();
            notify(subject, bell.far, 0b1)?;
            equal("the first bit", slot.take(), 0b1)?;
            subject.works(Verb::Stop, [child.domain, 0, 0, 0, 0])?;
            comes_after(subject, start_ns, 0b10)
        }),
        behaviour("each-event-of-a-slot-has-its-own", |subject| {
            let (first, slot) = (throttled(subject, LONGEST_NS)?, subject.word(SLOT)?);
            let (second, free) = (throttled(subject, LONGEST_NS)?, subject.event(SLOT)?);
            for bell in [first, second, free] {
                slot.enable(u64::MAX);
                notify(subject, bell.far, 0b1)?;
                equal("the first bit", slot.take(), 0b1)?;
            }
            // Copies of a handle name the same event.
            let copy = subject.grant(first.far, Rights::NOTIFY, 5)?;
            for event in [first.far, second.far, copy] {
                notify(subject, event, 0b1)?;
                equal("what is held", slot.take(), 0)?;
            }
            notify(subject, free.far, 0b1)?;
            equal("without an interval", slot.take(), 0b1)
        }),
        behaviour("a-sender-in-a-loop-is-posted-once-an-interval", |subject| {
            let (bell, slot) = (throttled(subject, INTERVAL_NS)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            slot.batch(1);
            let (first, start_ns) = (slot.count(), subject.ground.now_ns());
            let mut calls = 0u64;
            while subject.ground.now_ns() < start_ns + 5 * INTERVAL_NS {
                notify(subject, bell.far, 1 << (calls % 64))?;
                slot.take();
                calls += 1;
            }
            let most = (subject.ground.now_ns() - start_ns) / INTERVAL_NS + 1;
            let postings = slot.count().wrapping_sub(first);
            ensure((1..=most).contains(&postings), || {
                format!("{calls} calls make {postings} postings, not at most {most}")
            })
        }),
        behaviour("what-is-held-comes-without-its-sender", |subject| {
            let (bell, slot) = (throttled(subject, INTERVAL_NS)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            notify(subject, bell.far, 0b10)?;
            orders::notify_later(subject, bell.far)?;
            subject.close(bell.far)?;
            let mut found = slot.take();
            while found != 0b11 {
                subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
                found |= slot.take();
            }
            Ok(())
        }),
        behaviour("what-is-held-goes-with-the-waiter", |subject| {
            let interval_ns = 40 * MS;
            let (bell, slot) = (throttled(subject, interval_ns)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            notify(subject, bell.far, 0b1)?;
            notify(subject, bell.far, 0b10)?;
            // On a machine that stands still from time to time, all has come by now.
            slot.take();
            subject.close(bell.near)?;
            subject.refuses(Verb::Notify, [bell.far, 1, 0, 0, 0], Error::PeerGone)?;
            let deadline = subject.ground.now_ns() + interval_ns + MS;
            subject.ends_with(Verb::Wait, [deadline, 0, 0, 0, 0], Error::TimedOut)?;
            equal("what pends", slot.pending(), 0)
        }),
    ],
};

/// Longer than any case takes.
pub(super) const LONGEST_NS: u64 = nuncio_abi::MAX_INTERVAL_NS;

/// An event with an interval.
pub(super) fn throttled(subject: &Subject<'_>, interval_ns: u64) -> Result<Ends, String> {
    let slot = SLOT as u64;
    let (near, far) = subject.create(Create::Event { slot, interval_ns })?;
    Ok(Ends { near, far })
}

/// The bits come, and none before an interval has passed since `start_ns`.
fn comes_after(subject: &Subject<'_>, start_ns: u64, bits: u64) -> Verdict {
    let slot = subject.word(SLOT)?;
    let mut found = 0;
    while found != bits {
        found |= slot.take();
        let passed_ns = subject.ground.now_ns() - start_ns;
        ensure(found == 0 || passed_ns >= INTERVAL_NS, || {
            format!("{found:#x} comes after {passed_ns} ns")
        })?;
        ensure(found & !bits == 0, || format!("{found:#x} comes"))?;
        if found != bits {
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
        }
    }
    Ok(())
}
