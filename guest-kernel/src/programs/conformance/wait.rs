//! `wait`.

use nuncio_abi::{Error, Verb};

use super::notify::notify;
use super::subject::SLOT;
use super::{behaviour, ensure, equal, error, orders, Table};

const WAIT: Verb = Verb::Wait;

pub(super) const TABLE: Table = Table {
    of: WAIT.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            subject.wants_zeros(WAIT, [0; 5], 1)?;
            subject.wants_zeros(WAIT, [u64::MAX, 0, 0, 0, 0], 1)
        }),
        error(
            Error::TimedOut,
            0,
            "a-deadline-that-has-passed",
            |subject| {
                for deadline in [0, 1, subject.ground.now_ns()] {
                    subject.refuses(WAIT, [deadline, 0, 0, 0, 0], Error::TimedOut)?;
                }
                Ok(())
            },
        ),
        error(Error::TimedOut, 0, "never-early", |subject| {
            for milliseconds in [1, 2, 5] {
                let deadline = subject.in_ms(milliseconds);
                subject.refuses(WAIT, [deadline, 0, 0, 0, 0], Error::TimedOut)?;
                ensure(subject.ground.now_ns() >= deadline, || {
                    "it was early".into()
                })?;
            }
            Ok(())
        }),
        error(
            Error::TimedOut,
            0,
            "bits-that-are-not-enabled-wake-nobody",
            |subject| {
                let bell = subject.event(SLOT)?;
                subject.word(SLOT)?.enable(0b01);
                notify(subject, bell.far, 0b10)?;
                let timer = subject.timer(bell.far, 0b100)?;
                subject.works(Verb::Arm, [timer, subject.in_ms(1), 0, 0, 0])?;
                subject.ends_with(WAIT, [subject.in_ms(3), 0, 0, 0, 0], Error::TimedOut)
            },
        ),
        error(
            Error::TimedOut,
            0,
            "an-event-that-nobody-can-notify",
            |subject| {
                let bell = subject.event(SLOT)?;
                subject.word(SLOT)?.enable(1);
                subject.close(bell.far)?;
                subject.refuses(WAIT, [subject.in_ms(1), 0, 0, 0, 0], Error::TimedOut)
            },
        ),
        behaviour("at-once-while-something-is-ready", |subject| {
            let bell = subject.event(SLOT)?;
            let slot = subject.word(SLOT)?;
            slot.enable(0b1);
            notify(subject, bell.far, 0b1)?;
            for deadline in [0, 1, u64::MAX, u64::MAX] {
                subject.works(WAIT, [deadline, 0, 0, 0, 0])?;
            }
            equal("the bits", slot.take(), 0b1)?;
            subject.refuses(WAIT, [0; 5], Error::TimedOut)
        }),
        behaviour("ready-alone-decides", |subject| {
            // A bit that the guest has set itself, in a slot of nothing.
            let slot = subject.word(7)?;
            slot.post(0b1);
            slot.enable(0b1);
            subject.works(WAIT, [u64::MAX, 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)
        }),
        behaviour("a-timer-wakes", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b1);
            let timer = subject.timer(bell.far, 0b1)?;
            let due = subject.in_ms(2);
            subject.works(Verb::Arm, [timer, due, 0, 0, 0])?;
            subject.works(WAIT, [u64::MAX, 0, 0, 0, 0])?;
            ensure(subject.ground.now_ns() >= due, || "it was early".into())?;
            equal("the bits", slot.take(), 0b1)
        }),
        behaviour("a-message-wakes", |subject| {
            let (port, slot) = (subject.port(1)?, subject.word(SLOT)?);
            slot.enable(0b1);
            orders::send_later(subject, port.far, 1)?;
            subject.works(WAIT, [subject.far_off(), 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)?;
            subject.takes(port.near, 8, [0; 3])
        }),
        behaviour("a-port-whose-last-sender-goes-wakes", |subject| {
            let (port, slot) = (subject.port(1)?, subject.word(SLOT)?);
            orders::close_later(subject, port.far)?;
            slot.enable(0b1);
            subject.close(port.far)?;
            subject.works(WAIT, [subject.far_off(), 0, 0, 0, 0])?;
            equal("the bits", slot.take(), 0b1)?;
            let arguments = [port.near, 0, 0, 0, 0];
            subject.refuses(Verb::Receive, arguments, Error::PeerGone)
        }),
    ],
};
