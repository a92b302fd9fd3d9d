//! `notify`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb, EVENT_SLOTS};

use super::handles::Place;
use super::subject::SLOT;
use super::{behaviour, equal, error, orders, Subject, Table, Verdict};

const NOTIFY: Verb = Verb::Notify;

pub(super) const TABLE: Table = Table {
    of: NOTIFY.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let bell = subject.event(SLOT)?;
            subject.wants_zeros(NOTIFY, [bell.far, 1, 0, 0, 0], 2)?;
            subject.wants_zeros(NOTIFY, [1 << 32, 1, 0, 0, 0], 2)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Event)
        }),
        error(Error::MissingRight, 0, "without-notify", |subject| {
            let (bell, place) = (subject.event(SLOT)?, place(subject)?);
            place.wants_right(subject, bell.near)?;
            place.wants_right(subject, subject.grant(bell.far, Rights::GRANT, 0)?)?;
            place.wants_right(subject, subject.grant(bell.far, Rights::NONE, 0)?)
        }),
        error(Error::PeerGone, 0, "nobody-waits", |subject| {
            let bell = subject.event(SLOT)?;
            subject.close(bell.near)?;
            for bits in [0, 1, u64::MAX] {
                subject.refuses(NOTIFY, [bell.far, bits, 0, 0, 0], Error::PeerGone)?;
            }
            Ok(())
        }),
        error(Error::PeerGone, 0, "the-waiter-has-ended", |subject| {
            let (_, bell) = orders::of_the_dead(subject)?;
            subject.refuses(NOTIFY, [bell, 1, 0, 0, 0], Error::PeerGone)
        }),
        behaviour("every-bit-of-every-slot", |subject| {
            for number in 0..EVENT_SLOTS {
                let (bell, slot) = (subject.event(number)?, subject.word(number)?);
                slot.enable(u64::MAX);
                for bit in [0, 1, 31, 32, 63] {
                    notify(subject, bell.far, 1 << bit)?;
                    equal("ready", subject.ground.page().ready(), 1 << number)?;
                    equal("the bits", slot.take(), 1 << bit)?;
                }
                slot.enable(0);
                subject.close(bell.near)?;
                subject.close(bell.far)?;
            }
            Ok(())
        }),
        behaviour("bits-are-coalesced-and-none-is-lost", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            for bits in [0b1, 0b1, 0b110, 0b101, 1 << 63] {
                notify(subject, bell.far, bits)?;
            }
            equal("the bits", slot.take(), 0b111 | 1 << 63)?;
            equal(
                "what is left",
                (slot.take(), subject.ground.page().ready()),
                (0, 0),
            )
        }),
        behaviour("no-bits-do-nothing", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(u64::MAX);
            notify(subject, bell.far, 0)?;
            equal(
                "what pends",
                (slot.pending(), subject.ground.page().ready()),
                (0, 0),
            )
        }),
        behaviour("bits-that-are-not-enabled-pend", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b01);
            notify(subject, bell.far, 0b10)?;
            let ready = || subject.ground.page().ready();
            equal("what pends", (slot.pending(), ready()), (0b10, 0))?;
            // A bit that is enabled is announced, and does not take the other one with it.
            notify(subject, bell.far, 0b11)?;
            equal("ready", ready(), 1 << SLOT)?;
            equal("the enabled bit", slot.take(), 0b01)?;
            slot.enable(0b10);
            equal(
                "the bit that was enabled late",
                (ready(), slot.take()),
                (1 << SLOT, 0b10),
            )
        }),
        behaviour(
            "a-bit-that-pends-already-is-not-announced-again",
            |subject| {
                let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
                notify(subject, bell.far, 0b1)?;
                slot.enable(0b1);
                slot.take();
                slot.enable(0);
                notify(subject, bell.far, 0b1)?;
                // The guest has enabled the bit without looking: the posting finds it pending.
                slot.enable(0b1);
                slot.take();
                notify(subject, bell.far, 0b1)?;
                equal("ready", subject.ground.page().ready(), 1 << SLOT)
            },
        ),
        behaviour("two-events-share-a-slot", |subject| {
            let (first, second) = (subject.event(SLOT)?, subject.event(SLOT)?);
            let slot = subject.word(SLOT)?;
            slot.enable(u64::MAX);
            notify(subject, first.far, 0b01)?;
            notify(subject, second.far, 0b10)?;
            equal("the bits", slot.take(), 0b11)
        }),
        behaviour("another-domain-notifies", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            orders::notify_later(subject, bell.far)?;
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)
        }),
    ],
};

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(NOTIFY, [subject.event(SLOT)?.far, 1, 0, 0, 0]))
}

pub(super) fn notify(subject: &Subject<'_>, event: u64, bits: u64) -> Verdict {
    subject.works(NOTIFY, [event, bits, 0, 0, 0]).map(drop)
}
