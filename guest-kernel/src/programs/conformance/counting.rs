//! Slots that become ready when so many postings have come.

use nuncio_abi::{Error, Verb};

use super::notify::notify;
use super::subject::{Subject, SLOT};
use super::{behaviour, equal, orders, Table, Verdict};

/// The number of the slot's bit in the ready word.
const READY: u64 = 1 << SLOT;

pub(super) const TABLE: Table = Table {
    of: "counting",
    cases: &[
        behaviour("the-last-of-so-many-postings-wakes", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b11);
            let first = slot.count();
            slot.batch(4);
            // What pends already counts, and so does a bit that is not enabled.
            for bits in [0b01, 0b01, 0b100] {
                notify(subject, bell.far, bits)?;
                equal("ready", subject.ground.page().ready(), 0)?;
            }
            subject.refuses(Verb::Wait, [0; 5], Error::TimedOut)?;
            notify(subject, bell.far, 0b1000)?;
            subject.works(Verb::Wait, [u64::MAX, 0, 0, 0, 0])?;
            equal("the count", slot.count().wrapping_sub(first), 4)?;
            equal("the bits", (slot.take(), slot.pending()), (0b01, 0b1100))
        }),
        behaviour("no-bits-do-not-count", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            let first = slot.count();
            slot.batch(1);
            notify(subject, bell.far, 0)?;
            notify(subject, bell.far, 0)?;
            let found = (slot.count(), slot.pending(), subject.ground.page().ready());
            equal("count, pending and ready", found, (first, 0, 0))
        }),
        behaviour("nothing-is-counted-at-zero", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            let first = slot.count();
            notify(subject, bell.far, 0b1)?;
            equal("count", (slot.count(), slot.take()), (first, 0b1))
        }),
        behaviour("a-count-that-has-passed-wakes-each-time", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            slot.batch(1);
            for _ in 0..3 {
                notify(subject, bell.far, 0b1)?;
                equal("ready", subject.ground.page().ready(), READY)?;
                equal("the bits", slot.take(), 0b1)?;
            }
            slot.enable(0);
            notify(subject, bell.far, 0b1)?;
            equal("ready without bits", subject.ground.page().ready(), 0)
        }),
        behaviour("counts-go-round", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            // Half of all counts ahead is as far as it goes; one more lies behind.
            let first = slot.count();
            slot.wake_at(first.wrapping_add(1 << 63).wrapping_add(1));
            notify(subject, bell.far, 0b1)?;
            equal("far ahead", subject.ground.page().ready(), 0)?;
            slot.wake_at(slot.count().wrapping_sub(3));
            equal("behind", subject.ground.page().ready(), READY)
        }),
        behaviour("the-messages-of-a-port-are-counted", |subject| {
            let (port, slot) = (subject.port(16)?, subject.word(SLOT)?);
            slot.enable(0b1);
            slot.batch(16);
            for number in 1..=16u64 {
                equal("ready", subject.ground.page().ready(), 0)?;
                subject.works(Verb::Send, [port.far, 8, number, 0, 0])?;
            }
            subject.works(Verb::Wait, [u64::MAX, 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)?;
            (1..=16).try_for_each(|number| subject.takes(port.near, 8, [number, 0, 0]))
        }),
        behaviour("another-domain-counts-up", |subject| {
            let (port, slot) = (subject.port(4)?, subject.word(SLOT)?);
            slot.enable(0b1);
            slot.batch(3);
            orders::send_later(subject, port.far, 3)?;
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)?;
            let (queued, _) = subject.query(port.near, 1)?;
            equal("messages that have come", queued, 3)
        }),
        behaviour("a-guest-that-stops-counting-loses-nothing", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            slot.batch(100);
            notify(subject, bell.far, 0b1)?;
            subject.refuses(Verb::Wait, [subject.in_ms(1), 0, 0, 0, 0], Error::TimedOut)?;
            slot.wake_at(0);
            subject.works(Verb::Wait, [u64::MAX, 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)?;
            is_as_before(subject, bell.far)
        }),
    ],
};

/// Postings wake at once.
fn is_as_before(subject: &Subject<'_>, event: u64) -> Verdict {
    notify(subject, event, 0b1)?;
    equal("ready", subject.ground.page().ready(), READY)
}
