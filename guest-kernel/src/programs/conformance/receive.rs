//! `receive`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::handles::Place;
use super::messages::{with_handles, IN_MEMORY};
use super::subject::{Ends, PAGE, SLOT};
use super::transfers::word;
use super::{behaviour, ensure, equal, error, orders, Subject, Table, Verdict};

const RECEIVE: Verb = Verb::Receive;

pub(super) const TABLE: Table = Table {
    of: RECEIVE.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let port = filled(subject)?;
            subject.wants_zeros(RECEIVE, [port.near, 0, 0, 0, 0], 3)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Port)
        }),
        error(Error::MissingRight, 0, "without-receive", |subject| {
            let port = filled(subject)?;
            let place = place(subject)?;
            place.wants_right(subject, port.far)?;
            place.wants_right(subject, subject.given("console", Rights::SEND)?)
        }),
        error(
            Error::BadAddress,
            0,
            "buffers-that-are-not-there",
            |subject| {
                let (empty, full) = (subject.port(1)?, filled(subject)?);
                subject.map_read_only_then(|window| {
                    let area = subject.area(1).address();
                    for buffer in [
                        1,
                        64,
                        area + 1,
                        area + 64,
                        subject.window(PAGE)?,
                        window,
                        window + PAGE - 128,
                        subject.boot.time_page,
                        subject.boot.text_page,
                        subject.boot.address_limit,
                        1 << 63,
                        u64::MAX - 127,
                    ] {
                        for port in [empty, full] {
                            let arguments = [port.near, 0, buffer, 0, 0];
                            subject.refuses(RECEIVE, arguments, Error::BadAddress)?;
                        }
                    }
                    Ok(())
                })
            },
        ),
        error(
            Error::BufferTooSmall,
            0,
            "more-than-three-words",
            |subject| {
                let port = subject.port(2)?;
                let memory = word(subject.memory(1)?, Rights::READ);
                for (length, handles) in
                    [(25, 0), (64, 0), (17, 1), (24, 1), (9, 2), (1, 3), (0, 4)]
                {
                    let area = subject.area(0);
                    area.fill(&[5; 8], 0);
                    area.fill_handles(&[memory; 4]);
                    let header = length | IN_MEMORY | with_handles(handles);
                    subject.works(Verb::Send, [port.far, header, area.address(), 0, 0])?;
                    subject.send(port.far, 1, [length, 0, 0])?;
                    let arguments = [port.near, 0, 0, 0, 0];
                    subject.refuses(RECEIVE, arguments, Error::BufferTooSmall)?;
                    // It stays the next.
                    equal("the header", subject.receive(port.near, 0)?.header, header)?;
                    subject.close_received(header)?;
                    subject.takes(port.near, 1, [length, 0, 0])?;
                }
                Ok(())
            },
        ),
        error(
            Error::QuotaExhausted,
            0,
            "no-room-for-four-handles",
            |subject| {
                let port = subject.port(2)?;
                let memory = word(subject.memory(1)?, Rights::READ);
                subject.send(port.far, with_handles(1), [memory, 0, 0])?;
                subject.send(port.far, 1, [7, 0, 0])?;
                let mut copies = subject.fill_the_table()?;
                for _ in 0..4 {
                    let arguments = [port.near, 0, 0, 0, 0];
                    subject.refuses(RECEIVE, arguments, Error::QuotaExhausted)?;
                    subject.close(copies.pop().ok_or("the table was never full")?)?;
                }
                // With four free places it comes, and what has no handles needs no room.
                let received = subject.take(port.near);
                let handle = received.map_err(|error| alloc::format!("four places: {error}"))?[2];
                let handle = handle & 0xFFFF_FFFF;
                copies.push(handle);
                copies.extend(subject.fill_the_table()?);
                subject.takes(port.near, 1, [7, 0, 0])?;
                copies.into_iter().try_for_each(|copy| subject.close(copy))
            },
        ),
        error(Error::PeerGone, 0, "no-senders", |subject| {
            let port = subject.port(2)?;
            let copy = subject.grant(port.far, Rights::SEND, 0)?;
            subject.send(copy, 1, [1, 0, 0])?;
            subject.close(port.far)?;
            subject.takes(port.near, 1, [1, 0, 0])?;
            subject.refuses(RECEIVE, [port.near, 0, 0, 0, 0], Error::QueueEmpty)?;
            subject.send(copy, 1, [2, 0, 0])?;
            subject.close(copy)?;
            // First the queue, then the news; it stays true, whatever the deadline.
            subject.takes(port.near, 1, [2, 0, 0])?;
            for deadline in [0, 1, subject.far_off(), u64::MAX] {
                let arguments = [port.near, deadline, 0, 0, 0];
                subject.refuses(RECEIVE, arguments, Error::PeerGone)?;
            }
            Ok(())
        }),
        error(
            Error::PeerGone,
            0,
            "a-handle-without-send-is-no-sender",
            |subject| {
                let port = subject.port(1)?;
                subject.grant(port.far, Rights::GRANT, 0)?;
                subject.close(port.far)?;
                subject.refuses(RECEIVE, [port.near, 0, 0, 0, 0], Error::PeerGone)
            },
        ),
        error(
            Error::PeerGone,
            0,
            "the-last-sender-goes-while-it-waits",
            |subject| {
                let port = subject.port(1)?;
                orders::close_later(subject, port.far)?;
                subject.close(port.far)?;
                let arguments = [port.near, subject.far_off(), 0, 0, 0];
                subject.ends_with(RECEIVE, arguments, Error::PeerGone)
            },
        ),
        error(Error::QueueEmpty, 0, "a-deadline-of-0", |subject| {
            let port = subject.port(1)?;
            subject.refuses(RECEIVE, [port.near, 0, 0, 0, 0], Error::QueueEmpty)?;
            let buffer = subject.area(1).address();
            subject.refuses(RECEIVE, [port.near, 0, buffer, 0, 0], Error::QueueEmpty)?;
            // Also while an event is pending.
            let bell = rung(subject)?;
            subject.refuses(RECEIVE, [port.near, 0, 0, 0, 0], Error::QueueEmpty)?;
            subject.close(bell.near)
        }),
        error(Error::Interrupted, 0, "an-event-pends-already", |subject| {
            let (port, _) = (subject.port(1)?, rung(subject)?);
            for deadline in [1, subject.far_off(), u64::MAX] {
                let arguments = [port.near, deadline, 0, 0, 0];
                subject.refuses(RECEIVE, arguments, Error::Interrupted)?;
            }
            // A message comes first.
            subject.send(port.far, 1, [1, 0, 0])?;
            subject.receive(port.near, subject.far_off()).map(drop)
        }),
        error(
            Error::Interrupted,
            0,
            "an-event-comes-while-it-waits",
            |subject| {
                let (port, bell) = (subject.port(1)?, subject.event(SLOT + 1)?);
                subject.word(SLOT + 1)?.enable(0b10);
                let timer = subject.timer(bell.far, 0b10)?;
                subject.works(Verb::Arm, [timer, subject.in_ms(2), 0, 0, 0])?;
                let arguments = [port.near, subject.far_off(), 0, 0, 0];
                subject.ends_with(RECEIVE, arguments, Error::Interrupted)?;
                equal("the bits", subject.word(SLOT + 1)?.take(), 0b10)
            },
        ),
        error(Error::TimedOut, 0, "never-early", |subject| {
            let port = subject.port(1)?;
            let deadline = subject.in_ms(2);
            subject.refuses(RECEIVE, [port.near, deadline, 0, 0, 0], Error::TimedOut)?;
            ensure(subject.ground.now_ns() >= deadline, || {
                "it was early".into()
            })
        }),
        error(
            Error::TimedOut,
            0,
            "a-deadline-that-has-passed",
            |subject| {
                let port = subject.port(1)?;
                for deadline in [1, subject.ground.now_ns()] {
                    subject.refuses(RECEIVE, [port.near, deadline, 0, 0, 0], Error::TimedOut)?;
                }
                Ok(())
            },
        ),
        error(
            Error::TimedOut,
            0,
            "bits-that-are-not-enabled-do-not-interrupt",
            |subject| {
                let (port, bell) = (subject.port(1)?, subject.event(SLOT + 1)?);
                subject.word(SLOT + 1)?.enable(0b01);
                subject.works(Verb::Notify, [bell.far, 0b10, 0, 0, 0])?;
                let arguments = [port.near, subject.in_ms(1), 0, 0, 0];
                subject.refuses(RECEIVE, arguments, Error::TimedOut)
            },
        ),
        behaviour("errors-in-their-order", |subject| {
            let (port, closed) = (filled(subject)?, subject.closed()?);
            let hole = subject.window(PAGE)?;
            for (arguments, expected) in [
                ([1 << 32, 0, 0, 1, 0], Error::BadArgument),
                ([closed, 0, hole, 0, 0], Error::BadHandle),
                ([port.far, 0, hole, 0, 0], Error::MissingRight),
            ] {
                subject.refuses(RECEIVE, arguments, expected)?;
            }
            let port = subject.port(1)?;
            subject.close(port.far)?;
            subject.refuses(RECEIVE, [port.near, 0, hole, 0, 0], Error::BadAddress)?;
            let port = subject.port(1)?;
            let (deadline, _) = (subject.ground.now_ns(), rung(subject)?);
            // In a full table, for a message that also wants a buffer.
            let laden = subject.port(1)?;
            let memory = word(subject.memory(1)?, Rights::READ);
            let area = subject.area(0);
            area.fill_handles(&[memory; 4]);
            let header = IN_MEMORY | with_handles(4);
            subject.works(Verb::Send, [laden.far, header, area.address(), 0, 0])?;
            let copies = subject.fill_the_table()?;
            let buffer = subject.area(1).address();
            let no_buffer = [laden.near, 0, 0, 0, 0];
            subject.refuses(RECEIVE, no_buffer, Error::BufferTooSmall)?;
            let into_buffer = [laden.near, 0, buffer, 0, 0];
            subject.area(1).fill(&[], 3);
            subject.refuses(RECEIVE, into_buffer, Error::QuotaExhausted)?;
            equal("the buffer", subject.area(1).words(), [3; 16])?;
            copies
                .into_iter()
                .try_for_each(|copy| subject.close(copy))?;
            // Both hold: interrupted stands before timed-out, peer-gone before both.
            subject.refuses(RECEIVE, [port.near, deadline, 0, 0, 0], Error::Interrupted)?;
            subject.close(port.far)?;
            subject.refuses(RECEIVE, [port.near, deadline, 0, 0, 0], Error::PeerGone)
        }),
        behaviour("messages-in-the-order-of-sending", |subject| {
            let port = subject.port(8)?;
            let copies = [
                port.far,
                subject.grant(port.far, Rights::SEND, 1)?,
                subject.grant(port.far, Rights::SEND, 2)?,
            ];
            for round in 0..3 {
                for (number, copy) in copies.into_iter().enumerate().take(2 + round % 2) {
                    subject.send(copy, 2, [(round * 16 + number) as u64, 0, 0])?;
                }
                for number in 0..2 + round % 2 {
                    subject.takes(port.near, 2, [(round * 16 + number) as u64, 0, 0])?;
                }
            }
            Ok(())
        }),
        behaviour("a-message-sets-bit-0-of-the-slot", |subject| {
            let (port, slot) = (subject.port(2)?, subject.word(SLOT)?);
            slot.enable(0b1);
            subject.send(port.far, 0, [0; 3])?;
            equal("ready", subject.ground.page().ready(), 1 << SLOT)?;
            equal("the bits", slot.take(), 0b1)?;
            slot.enable(0);
            // Receiving takes no bit.
            subject.send(port.far, 0, [0; 3])?;
            subject
                .take(port.near)
                .map_err(|error| alloc::format!("{error}"))?;
            equal("the bits after receiving", slot.pending(), 0b1)
        }),
        behaviour("the-last-sender-that-goes-sets-bit-0", |subject| {
            let (port, slot) = (subject.port(2)?, subject.word(SLOT)?);
            slot.enable(0b1);
            let copy = subject.grant(port.far, Rights::SEND, 0)?;
            subject.close(port.far)?;
            equal("the bits with a sender left", slot.take(), 0)?;
            subject.close(copy)?;
            equal("the bits without", slot.take(), 0b1)
        }),
        behaviour("a-deadline-for-ever-ends-with-a-message", |subject| {
            let port = subject.port(1)?;
            orders::send_later(subject, port.far, 1)?;
            equal(
                "the message",
                subject.receive(port.near, u64::MAX)?.words,
                [0; 3],
            )
        }),
    ],
};

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    let port = filled(subject)?;
    Ok(Place::first(RECEIVE, [port.near, 0, 0, 0, 0]))
}

/// A port with a message of 64 bytes.
fn filled(subject: &Subject<'_>) -> Result<Ends, String> {
    let port = subject.port(1)?;
    subject.send_memory(port.far, 64, &[1; 8])?;
    Ok(port)
}

/// An event of which an enabled bit pends.
pub(super) fn rung(subject: &Subject<'_>) -> Result<Ends, String> {
    let bell = subject.event(SLOT + 1)?;
    subject.word(SLOT + 1)?.enable(0b1);
    subject.works(Verb::Notify, [bell.far, 0b1, 0, 0, 0])?;
    Ok(bell)
}

impl Subject<'_> {
    /// Closes the handles that a message in the second area has brought.
    fn close_received(&self, header: u64) -> Verdict {
        let words = self.area(1).words();
        let handles = words.iter().skip(8).take((header >> 8 & 7) as usize);
        handles
            .map(|word| word & 0xFFFF_FFFF)
            .try_for_each(|handle| self.close(handle))
    }
}
