//! `arm`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::handles::Place;
use super::subject::SLOT;
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

const ARM: Verb = Verb::Arm;

pub(super) const TABLE: Table = Table {
    of: ARM.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let bell = subject.event(SLOT)?;
            subject.wants_zeros(ARM, [subject.timer(bell.far, 1)?, 1, 0, 0, 0], 2)?;
            subject.wants_zeros(ARM, [1 << 32, 1, 0, 0, 0], 2)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Timer)
        }),
        error(Error::MissingRight, 0, "without-arm", |subject| {
            let bell = subject.event(SLOT)?;
            let timer = subject.timer(bell.far, 1)?;
            let place = place(subject)?;
            place.wants_right(subject, subject.grant(timer, Rights::GRANT, 0)?)?;
            place.wants_right(subject, subject.grant(timer, Rights::NONE, 0)?)
        }),
        behaviour("due-once-and-never-early", |subject| {
            let (timer, slot) = armed(subject)?;
            let due = subject.in_ms(3);
            arm(subject, timer, due)?;
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            ensure(subject.ground.now_ns() >= due, || "it was early".into())?;
            equal("the bits", subject.word(slot)?.take(), BITS)?;
            stays_quiet(subject, slot)
        }),
        behaviour("at-once-if-its-time-has-passed", |subject| {
            let (timer, slot) = armed(subject)?;
            for time in [0, 1, subject.ground.now_ns()] {
                arm(subject, timer, time)?;
                subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
                equal("the bits", subject.word(slot)?.take(), BITS)?;
            }
            stays_quiet(subject, slot)
        }),
        behaviour("the-time-takes-the-place-of-an-earlier-one", |subject| {
            let (timer, slot) = armed(subject)?;
            arm(subject, timer, subject.in_ms(2))?;
            let due = subject.in_ms(6);
            arm(subject, timer, due)?;
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            ensure(subject.ground.now_ns() >= due, || {
                "the first time counted".into()
            })?;
            equal("the bits", subject.word(slot)?.take(), BITS)?;
            arm(subject, timer, subject.far_off())?;
            arm(subject, timer, subject.in_ms(1))?;
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            equal(
                "the bits of the earlier time",
                subject.word(slot)?.take(),
                BITS,
            )
        }),
        behaviour("the-end-of-time-disarms", |subject| {
            let (timer, slot) = armed(subject)?;
            arm(subject, timer, subject.in_ms(2))?;
            arm(subject, timer, u64::MAX)?;
            stays_quiet(subject, slot)?;
            // Also when it is not armed.
            arm(subject, timer, u64::MAX)
        }),
        behaviour("bits-that-pend-are-coalesced", |subject| {
            let (timer, slot) = armed(subject)?;
            let word = subject.word(slot)?;
            word.enable(0);
            for _ in 0..2 {
                arm(subject, timer, 0)?;
                subject.ends_with(Verb::Wait, [subject.in_ms(2), 0, 0, 0, 0], Error::TimedOut)?;
                equal("what pends", word.pending(), BITS)?;
            }
            word.enable(u64::MAX);
            equal("the bits", word.take(), BITS)
        }),
        behaviour("timers-are-due-in-the-order-of-their-times", |subject| {
            let bell = subject.event(SLOT)?;
            let slot = subject.word(SLOT)?;
            slot.enable(u64::MAX);
            let times = [6, 2, 4].map(|milliseconds| subject.in_ms(milliseconds));
            for (index, time) in times.into_iter().enumerate() {
                arm(subject, subject.timer(bell.far, 1 << index)?, time)?;
            }
            let mut found = 0;
            while found != 0b111 {
                subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
                let now = subject.ground.now_ns();
                let bits = slot.take();
                for (index, time) in times.into_iter().enumerate() {
                    let is_due = bits >> index & 1 != 0;
                    ensure(!is_due || now >= time, || "one was early".into())?;
                }
                found |= bits;
                // A later one is never seen without the earlier ones.
                ensure([0b010, 0b110, 0b111].contains(&found), || {
                    alloc::format!("{found:#b} comes first")
                })?;
            }
            Ok(())
        }),
        behaviour("nothing-happens-when-the-waiter-is-gone", |subject| {
            let bell = subject.event(SLOT)?;
            let timer = subject.timer(bell.far, BITS)?;
            subject.word(SLOT)?.enable(u64::MAX);
            subject.close(bell.near)?;
            arm(subject, timer, 0)?;
            stays_quiet(subject, SLOT)
        }),
        behaviour("without-the-handle-of-its-event", |subject| {
            let bell = subject.event(SLOT)?;
            let timer = subject.timer(bell.far, BITS)?;
            subject.word(SLOT)?.enable(u64::MAX);
            subject.close(bell.far)?;
            arm(subject, timer, 0)?;
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            equal("the bits", subject.word(SLOT)?.take(), BITS)
        }),
    ],
};

const BITS: u64 = 1 << 63 | 1;

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    let bell = subject.event(SLOT)?;
    Ok(Place::first(
        ARM,
        [subject.timer(bell.far, 1)?, u64::MAX, 0, 0, 0],
    ))
}

/// A timer whose bits are enabled, and their slot.
fn armed(subject: &Subject<'_>) -> Result<(u64, usize), String> {
    let bell = subject.event(SLOT)?;
    subject.word(SLOT)?.enable(u64::MAX);
    Ok((subject.timer(bell.far, BITS)?, SLOT))
}

fn arm(subject: &Subject<'_>, timer: u64, time: u64) -> Verdict {
    subject.works(ARM, [timer, time, 0, 0, 0]).map(drop)
}

fn stays_quiet(subject: &Subject<'_>, slot: usize) -> Verdict {
    subject.ends_with(Verb::Wait, [subject.in_ms(4), 0, 0, 0, 0], Error::TimedOut)?;
    equal("what pends", subject.word(slot)?.pending(), 0)
}
