//! `submit`.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Error, RawCall, Reply, Rights, RingPage, Verb, RING_ENTRIES, VERSION};

use super::subject::{Arguments, PAGE, SLOT};
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};
use crate::hv::RingMemory;

const SUBMIT: Verb = Verb::Submit;
const NOTHING: Reply = Reply::Full([0; 5]);

static RING: RingMemory = RingMemory::new();

pub(super) const TABLE: Table = Table {
    of: SUBMIT.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            subject.wants_zeros(SUBMIT, [fresh(), 1, 0, 0, 0], 2)?;
            // Before the address is looked at.
            subject.wants_zeros(SUBMIT, [1, 1, 0, 0, 0], 2)
        }),
        error(
            Error::BadArgument,
            0,
            "more-entries-than-there-are",
            |subject| {
                for entries in [0, 32, 1 << 8 | 1, 1 << 32 | 1, u64::MAX] {
                    for ring in [fresh(), 1] {
                        subject.refuses(SUBMIT, [ring, entries, 0, 0, 0], Error::BadArgument)?;
                    }
                }
                Ok(())
            },
        ),
        error(Error::BadAddress, 0, "inside-a-page", |subject| {
            for offset in [1, 8, 128, 2048, 4095] {
                refuses(subject, fresh() + offset)?;
            }
            Ok(())
        }),
        error(Error::BadAddress, 0, "nothing-is-mapped", |subject| {
            refuses(subject, subject.window(PAGE)?)?;
            for address in [subject.boot.address_limit, 1 << 63, u64::MAX - PAGE + 1] {
                refuses(subject, address)?;
            }
            Ok(())
        }),
        error(Error::BadAddress, 0, "not-writable", |subject| {
            refuses(subject, subject.boot.text_page)?;
            refuses(subject, subject.boot.time_page)?;
            let (memory, window) = (subject.memory(1)?, subject.window(PAGE)?);
            subject.map(memory, window, 0, PAGE, Rights::READ)?;
            refuses(subject, window)?;
            subject.unmap(window, PAGE)?;
            let access = Rights::READ | Rights::WRITE;
            subject.map(memory, window, 0, PAGE, access)?;
            equal("entries", submit_at(subject, window, 31)?, 0)?;
            subject.unmap(window, PAGE)
        }),
        error(Error::BadArgument, 1, "counts-without-sense", |subject| {
            for (submitted, taken) in [(32, 0), (0, 1), (1 << 32, 0), (u64::MAX, 0), (40, 8)] {
                fresh();
                set(RingPage::SUBMITTED, submitted);
                set(RingPage::TAKEN, taken);
                let arguments = [RING.address(), 31, 0, 0, 0];
                subject.refuses(SUBMIT, arguments, Error::BadArgument)?;
                equal("taken", RING.page().taken(), taken)?;
            }
            Ok(())
        }),
        behaviour("replies-stand-in-the-entries", |subject| {
            let bell = subject.event(SLOT)?;
            let version = u64::from(VERSION.to_raw());
            let numbers = push_all(&[
                (Verb::Hello, [version, 0, 0, 0, 0]),
                (Verb::Notify, [bell.far, 0b101, 0, 0, 0]),
                (Verb::Close, [0; 5]),
                (Verb::Query, [bell.far, 0, 0, 0, 0]),
            ])?;
            equal("entries", submit(subject, 31)?, 4)?;
            let rights = (Rights::NOTIFY | Rights::GRANT).bits();
            let expected = [
                Reply::Full([version, 0, 0, 0, 0]),
                NOTHING,
                Reply::Error(Error::BadHandle),
                Reply::Full([6, rights, 0, 0, 0]),
            ];
            for (number, expected) in numbers.into_iter().zip(expected) {
                equal("the reply", RING.page().reply(number), Some(expected))?;
            }
            equal("what pends", subject.word(SLOT)?.pending(), 0b101)
        }),
        behaviour("each-after-the-one-before", |subject| {
            let port = subject.port(2)?;
            let receive = (Verb::Receive, [port.near, 0, 0, 0, 0]);
            let numbers = push_all(&[
                receive,
                (Verb::Send, [port.far, 8, 77, 0, 0]),
                receive,
                receive,
            ])?;
            equal("entries", submit(subject, 31)?, 4)?;
            let empty = Reply::Error(Error::QueueEmpty);
            let expected = [empty, NOTHING, Reply::Full([8, 0, 77, 0, 0]), empty];
            for (number, expected) in numbers.into_iter().zip(expected) {
                equal("the reply", RING.page().reply(number), Some(expected))?;
            }
            Ok(())
        }),
        behaviour("as-many-as-are-asked-for", |subject| {
            push_all(&[(Verb::Close, [0; 5]); RING_ENTRIES])?;
            for (entries, done) in [(1, 1), (20, 20), (9, 9), (31, 1), (31, 0)] {
                equal("entries", submit(subject, entries)?, done)?;
            }
            equal("taken", RING.page().taken(), RING_ENTRIES as u64)
        }),
        behaviour("round-and-round", |subject| {
            fresh();
            for round in 0..10u64 {
                for index in 0..RING_ENTRIES as u64 - 4 {
                    push(Verb::Close, [0; 5], round << 32 | index)?;
                }
                equal("entries", submit(subject, 31)?, RING_ENTRIES as u64 - 4)?;
            }
            // The last call but 22 of 270 has gone to entry 0.
            equal("the own word", RING.page().tag(0), 9 << 32 | 5)
        }),
        behaviour("neither-submit-nor-reserved-words", |subject| {
            fresh();
            let inner = [RING.address(), 1, 0, 0, 0];
            let first = push(SUBMIT, inner, 0)?;
            let second = push(Verb::Close, [0; 5], 0)?;
            set(RingPage::FIRST_ENTRY + 16 + RingPage::RESERVED, 1 << 63);
            let third = push_raw(Verb::ALL.len() as u64)?;
            equal("entries", submit(subject, 31)?, 3)?;
            let refused = Some(Reply::Error(Error::BadArgument));
            equal("submit", RING.page().reply(first), refused)?;
            equal("the reserved word", RING.page().reply(second), refused)?;
            let unknown = Some(Reply::Error(Error::UnknownVerb));
            equal("no verb", RING.page().reply(third), unknown)
        }),
        behaviour("one-that-waits-puts-the-others-off", |subject| {
            let bell = subject.event(SLOT)?;
            let word = subject.word(SLOT)?;
            word.enable(0b1);
            let timer = subject.timer(bell.far, 0b1)?;
            let due = subject.in_ms(3);
            let numbers = push_all(&[
                (Verb::Wait, [subject.in_ms(1), 0, 0, 0, 0]),
                (Verb::Arm, [timer, due, 0, 0, 0]),
                (Verb::Wait, [subject.far_off(), 0, 0, 0, 0]),
                (Verb::Notify, [bell.far, 0b10, 0, 0, 0]),
            ])?;
            equal("entries", submit(subject, 31)?, 4)?;
            ensure(subject.ground.now_ns() >= due, || "it was early".into())?;
            let expected = [Reply::Error(Error::TimedOut), NOTHING, NOTHING, NOTHING];
            for (number, expected) in numbers.into_iter().zip(expected) {
                equal("the reply", RING.page().reply(number), Some(expected))?;
            }
            equal("what pends", word.pending(), 0b11)
        }),
        behaviour("wait-makes-what-the-vcpu-page-names", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            let timer = subject.timer(bell.far, 0b1)?;
            let numbers = push_all(&[
                (Verb::Notify, [bell.far, 0b10, 0, 0, 0]),
                (Verb::Arm, [timer, subject.in_ms(2), 0, 0, 0]),
                (Verb::Wait, [0; 5]),
            ])?;
            named(subject, RING.address(), || {
                subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])
            })?;
            let expected = [NOTHING, NOTHING, Reply::Error(Error::TimedOut)];
            for (number, expected) in numbers.into_iter().zip(expected) {
                equal("the reply", RING.page().reply(number), Some(expected))?;
            }
            equal("what pends", slot.pending(), 0b11)
        }),
        behaviour("halt-makes-what-the-vcpu-page-names", |subject| {
            let bell = subject.event(SLOT)?;
            subject.word(SLOT)?.enable(u64::MAX);
            push_all(&[(Verb::Notify, [bell.far, 0b100, 0, 0, 0])])?;
            let upcalls = named(subject, RING.address(), || {
                Ok(subject.ground.upcalls_during(true, &mut || ()))
            })?;
            equal("upcalls", upcalls, 1)?;
            equal("the bits", subject.ground.collected(SLOT), 0b100)?;
            equal("taken", RING.page().taken(), 1)
        }),
        behaviour("wait-passes-over-what-is-no-ring", |subject| {
            push_all(&[(Verb::Close, [0; 5])])?;
            for ring in [
                RING.address() + 8,
                subject.window(PAGE)?,
                subject.boot.text_page,
            ] {
                named(subject, ring, || {
                    subject.refuses(Verb::Wait, [0; 5], Error::TimedOut)
                })?;
            }
            set(RingPage::SUBMITTED, 40);
            named(subject, RING.address(), || {
                subject.refuses(Verb::Wait, [0; 5], Error::TimedOut)
            })?;
            equal("taken", RING.page().taken(), 0)
        }),
        behaviour("upcalls-come-behind-it", |subject| {
            let bell = subject.event(SLOT)?;
            subject.word(SLOT)?.enable(u64::MAX);
            push_all(&[
                (Verb::Notify, [bell.far, 0b01, 0, 0, 0]),
                (Verb::Notify, [bell.far, 0b10, 0, 0, 0]),
            ])?;
            let mut done = Ok(0);
            let upcalls = subject
                .ground
                .upcalls_during(false, &mut || done = submit(subject, 31));
            equal("entries", done?, 2)?;
            equal("upcalls", upcalls, 1)?;
            equal("the bits", subject.ground.collected(SLOT), 0b11)
        }),
        behaviour("nothing-else-in-the-page-changes", |subject| {
            fresh();
            RING.words()
                .iter()
                .skip(3)
                .for_each(|word| word.store(u64::MAX, Relaxed));
            push(Verb::Close, [0; 5], 99)?;
            let before: Vec<u64> = RING.words().iter().map(|word| word.load(Relaxed)).collect();
            equal("entries", submit(subject, 31)?, 1)?;
            let written = RingPage::FIRST_ENTRY + RingPage::STATUS;
            for (place, (word, before)) in RING.words().iter().zip(before).enumerate() {
                let is_written =
                    place == RingPage::TAKEN || (written..written + 6).contains(&place);
                ensure(is_written || word.load(Relaxed) == before, || {
                    alloc::format!("word {place} has changed")
                })?;
            }
            equal("the own word", RING.page().tag(0), 99)
        }),
    ],
};

/// An empty ring, and its address.
fn fresh() -> u64 {
    for word in RING.words() {
        word.store(0, Relaxed);
    }
    RING.address()
}

/// Does something while the vcpu page names that ring.
fn named<T>(
    subject: &Subject<'_>,
    ring: u64,
    action: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    subject.ground.page().set_ring(ring);
    let done = action();
    subject.ground.page().set_ring(0);
    done
}

fn set(word: usize, value: u64) {
    if let Some(word) = RING.words().get(word) {
        word.store(value, Relaxed);
    }
}

fn push(verb: Verb, arguments: Arguments, tag: u64) -> Result<u64, String> {
    let verb = verb.number();
    let number = RING.page().push(&RawCall { verb, arguments }, tag);
    number.ok_or_else(|| "the ring is full".into())
}

/// A call without arguments.
fn push_raw(verb: u64) -> Result<u64, String> {
    let arguments = [0; 5];
    let number = RING.page().push(&RawCall { verb, arguments }, 0);
    number.ok_or_else(|| "the ring is full".into())
}

/// An empty ring with these calls; their numbers.
fn push_all(calls: &[(Verb, Arguments)]) -> Result<Vec<u64>, String> {
    fresh();
    let calls = calls.iter();
    calls
        .map(|(verb, arguments)| push(*verb, *arguments, 0))
        .collect()
}

fn submit(subject: &Subject<'_>, entries: u64) -> Result<u64, String> {
    submit_at(subject, RING.address(), entries)
}

fn submit_at(subject: &Subject<'_>, ring: u64, entries: u64) -> Result<u64, String> {
    let [done, zero, ..] = subject.works(SUBMIT, [ring, entries, 0, 0, 0])?;
    equal("the second value", zero, 0)?;
    Ok(done)
}

fn refuses(subject: &Subject<'_>, ring: u64) -> Verdict {
    subject.refuses(SUBMIT, [ring, 1, 0, 0, 0], Error::BadAddress)
}
