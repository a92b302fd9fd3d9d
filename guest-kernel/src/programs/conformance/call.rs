//! `call`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::handles::Place;
use super::messages::{with_handles, Received, Sender, IN_MEMORY};
use super::orders::{self, Serves};
use super::subject::{PAGE, SLOT};
use super::transfers::word;
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

const CALL: Verb = Verb::Call;

pub(super) const TABLE: Table = Table {
    of: CALL.name(),
    cases: &[
        error(Error::BadArgument, 0, "headers-of-no-message", |subject| {
            let reserved: [u64; 53] = core::array::from_fn(|index| index as u64 + 11);
            caller(subject)?.wants_a_header(subject, &reserved)
        }),
        error(Error::BadArgument, 0, "bits-past-the-message", |subject| {
            caller(subject)?.wants_zeros_behind(subject)
        }),
        error(Error::BadArgument, 0, "bits-that-are-no-right", |subject| {
            caller(subject)?.wants_rights_in_registers(subject)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Port)
        }),
        error(Error::MissingRight, 0, "without-send", |subject| {
            let (port, place) = (subject.port(1)?, place(subject)?);
            place.wants_right(subject, port.near)?;
            place.wants_right(subject, subject.grant(port.far, Rights::GRANT, 0)?)
        }),
        error(
            Error::BadAddress,
            0,
            "memory-that-is-not-there",
            |subject| caller(subject)?.wants_memory(subject),
        ),
        error(
            Error::BadAddress,
            0,
            "memory-that-is-not-writable",
            |subject| {
                let caller = caller(subject)?;
                subject.map_read_only_then(|window| {
                    caller.refuses(subject, IN_MEMORY, [window, 0, 0], Error::BadAddress)
                })?;
                let time_page = subject.boot.time_page;
                caller.refuses(
                    subject,
                    IN_MEMORY | 64,
                    [time_page, 0, 0],
                    Error::BadAddress,
                )
            },
        ),
        error(Error::BadArgument, 1, "rights-that-stay", |subject| {
            caller(subject)?.wants_rights_that_can_go(subject)
        }),
        error(Error::BadHandle, 1, "a-handle-in-the-message", |subject| {
            caller(subject)?.wants_handles_in_the_message(subject)
        }),
        error(
            Error::MissingRight,
            1,
            "a-handle-in-the-message",
            |subject| caller(subject)?.wants_rights_of_the_handle(subject),
        ),
        error(
            Error::QuotaExhausted,
            0,
            "no-room-for-four-handles",
            |subject| {
                let (port, caller) = (subject.port(1)?, caller(subject)?);
                let mut copies = subject.fill_the_table()?;
                for _ in 0..4 {
                    caller.refuses(subject, 0, [0; 3], Error::QuotaExhausted)?;
                    subject.close(copies.pop().ok_or("the table was never full")?)?;
                }
                let arguments = Sender {
                    port: port.far,
                    ..caller
                }
                .arguments(0, [0; 3]);
                subject.ends_with(CALL, arguments, Error::TimedOut)?;
                // The room is free again.
                let again = subject.fill_the_table()?;
                equal("free places", again.len(), 4)
            },
        ),
        error(Error::PeerGone, 0, "no-receiver", |subject| {
            let port = subject.port(1)?;
            subject.close(port.near)?;
            for deadline in [0, subject.far_off(), u64::MAX] {
                let caller = with_deadline(port.far, deadline);
                caller.refuses(subject, 8, [1, 0, 0], Error::PeerGone)?;
            }
            let bell = word(subject.event(SLOT)?.far, Rights::NOTIFY);
            let caller = with_deadline(port.far, u64::MAX);
            caller.refuses(subject, with_handles(1), [bell, 0, 0], Error::PeerGone)
        }),
        error(
            Error::PeerGone,
            0,
            "nobody-answers-on-the-console",
            |subject| {
                let console = subject.given("console", Rights::SEND)?;
                for deadline in [0, subject.far_off(), u64::MAX] {
                    let caller = with_deadline(console, deadline);
                    caller.refuses(subject, 0, [0; 3], Error::PeerGone)?;
                }
                Ok(())
            },
        ),
        error(
            Error::PeerGone,
            0,
            "the-receiver-closes-without-an-answer",
            |subject| {
                for how in [Serves::CloseAfter, Serves::CloseBefore] {
                    let port = orders::serve(subject, how)?;
                    let arguments = with_deadline(port, u64::MAX).arguments(16, [1, 2, 0]);
                    subject.ends_with(CALL, arguments, Error::PeerGone)?;
                    subject.refuses(CALL, arguments, Error::PeerGone)?;
                }
                Ok(())
            },
        ),
        error(
            Error::PeerGone,
            0,
            "the-receiver-ends-without-an-answer",
            |subject| {
                let (port, _) = orders::of_the_dead(subject)?;
                subject.saw_death()?;
                let caller = with_deadline(port, u64::MAX);
                caller.refuses(subject, 0, [0; 3], Error::PeerGone)
            },
        ),
        error(Error::QueueFull, 0, "no-room-for-a-message", |subject| {
            let port = subject.port(2)?;
            subject.send(port.far, 0, [0; 3])?;
            subject.send(port.far, 0, [0; 3])?;
            for deadline in [0, subject.far_off()] {
                let caller = with_deadline(port.far, deadline);
                caller.refuses(subject, 8, [1, 0, 0], Error::QueueFull)?;
                let bell = word(subject.event(SLOT)?.far, Rights::NOTIFY);
                caller.refuses(subject, with_handles(1), [bell, 0, 0], Error::QueueFull)?;
            }
            Ok(())
        }),
        error(
            Error::QueueFull,
            0,
            "as-many-calls-wait-as-the-port-holds",
            |subject| {
                let port = subject.port(1)?;
                orders::call_me(subject, port.far, u64::MAX, false)?;
                let token = subject.receive(port.near, subject.far_off())?.token;
                let caller = with_deadline(port.far, subject.far_off());
                caller.refuses(subject, 8, [1, 0, 0], Error::QueueFull)?;
                // A message that is no call has room.
                subject.send(port.far, 1, [1, 0, 0])?;
                subject.takes(port.near, 1, [1, 0, 0])?;
                subject.works(Verb::Reply, [port.near, token << 32, 0, 0, 0])?;
                equal(
                    "how the partner's call ended",
                    orders::report(subject)?.status,
                    0,
                )
            },
        ),
        error(Error::WrongState, 0, "nobody-could-answer", |subject| {
            let port = subject.port(1)?;
            let own = with_deadline(port.far, u64::MAX);
            own.refuses(subject, 0, [0; 3], Error::WrongState)?;
            orders::call_me(subject, port.far, u64::MAX, false)?;
            let token = subject.receive(port.near, subject.far_off())?.token;
            // The partner waits for this domain, which would wait for the partner.
            let partner = subject.given("orders", Rights::SEND)?;
            let circle = with_deadline(partner, u64::MAX);
            circle.refuses(subject, 0, [0; 3], Error::WrongState)?;
            let bell = word(subject.event(SLOT)?.far, Rights::NOTIFY);
            circle.refuses(subject, with_handles(1), [bell, 0, 0], Error::WrongState)?;
            subject.works(Verb::Reply, [port.near, token << 32, 0, 0, 0])?;
            equal(
                "how the partner's call ended",
                orders::report(subject)?.status,
                0,
            )
        }),
        error(Error::TimedOut, 0, "never-early", |subject| {
            let port = subject.port(2)?;
            let deadline = subject.in_ms(2);
            let arguments = with_deadline(port.far, deadline).arguments(16, [1, 2, 0]);
            subject.ends_with(CALL, arguments, Error::TimedOut)?;
            ensure(subject.ground.now_ns() >= deadline, || {
                "it was early".into()
            })?;
            // The message was sent, and its answer finds nobody.
            let message = subject.receive(port.near, 0)?;
            equal("the message", message.words, [1, 2, 0])?;
            ensure(message.token != 0, || "it has no token".into())?;
            let answer = [port.near, message.token << 32, 0, 0, 0];
            subject.refuses(Verb::Reply, answer, Error::PeerGone)
        }),
        error(
            Error::TimedOut,
            0,
            "a-deadline-that-has-passed",
            |subject| {
                let port = subject.port(2)?;
                for deadline in [0, 1] {
                    let arguments = with_deadline(port.far, deadline).arguments(0, [0; 3]);
                    subject.ends_with(CALL, arguments, Error::TimedOut)?;
                    subject
                        .take(port.near)
                        .map_err(|error| alloc::format!("{error}"))?;
                }
                Ok(())
            },
        ),
        error(
            Error::TimedOut,
            0,
            "a-receiver-that-does-not-answer",
            |subject| {
                let port = orders::serve(subject, Serves::Leave)?;
                let arguments = with_deadline(port, subject.in_ms(5)).arguments(0, [0; 3]);
                subject.ends_with(CALL, arguments, Error::TimedOut)?;
                orders::nothing(subject)
            },
        ),
        error(
            Error::TimedOut,
            0,
            "events-do-not-end-the-wait",
            |subject| {
                let (port, bell) = (subject.port(1)?, subject.event(SLOT + 1)?);
                let slot = subject.word(SLOT + 1)?;
                slot.enable(u64::MAX);
                subject.works(Verb::Notify, [bell.far, 0b01, 0, 0, 0])?;
                let timer = subject.timer(bell.far, 0b10)?;
                subject.works(Verb::Arm, [timer, subject.in_ms(1), 0, 0, 0])?;
                let arguments = with_deadline(port.far, subject.in_ms(4)).arguments(0, [0; 3]);
                subject.ends_with(CALL, arguments, Error::TimedOut)?;
                equal("the bits", slot.take(), 0b11)
            },
        ),
        behaviour("errors-in-their-order", errors_in_their_order),
        behaviour("an-answer-in-registers", |subject| {
            for length in [0, 1, 8, 16] {
                let port = orders::serve(subject, Serves::Echo)?;
                let words = [length + 1, 0, 0].map(|word| if length == 0 { 0 } else { word });
                let answer = call(subject, with_deadline(port, u64::MAX), length, words)?;
                equal("the header", answer.header, length)?;
                equal("token and badge", (answer.token, answer.badge), (0, 0))?;
                equal("the words", answer.words, words)?;
            }
            Ok(())
        }),
        behaviour("an-answer-in-memory", |subject| {
            for length in [25, 63, 64] {
                let port = orders::serve(subject, Serves::Echo)?;
                let area = subject.area(0);
                area.fill(&[length; 8], u64::MAX);
                let words = [area.address(), 0, 0];
                let caller = with_deadline(port, u64::MAX);
                let answer = call(subject, caller, length | IN_MEMORY, words)?;
                equal("the header", answer.header, length | IN_MEMORY)?;
                equal("the words", answer.words, [0; 3])?;
                let [first, .., last, _, _, _, _, _, _, _, _] = area.words();
                let left = 8u32.saturating_sub((64 - length) as u32);
                let cut = length & u64::MAX.checked_shr(64 - left * 8).unwrap_or(0);
                let expected = if length == 25 { 0 } else { cut };
                equal(
                    "the first and the last word",
                    (first, last),
                    (length, expected),
                )?;
            }
            Ok(())
        }),
        behaviour("a-short-answer-to-a-message-in-memory", |subject| {
            let port = orders::serve(subject, Serves::Echo)?;
            let area = subject.area(0);
            area.fill(&[0x4142; 8], u64::MAX);
            let caller = with_deadline(port, u64::MAX);
            let answer = call(subject, caller, 2 | IN_MEMORY, [area.address(), 0, 0])?;
            // As `receive`: three words come in registers.
            equal("the header", answer.header, 2)?;
            equal("the words", answer.words, [0x4142, 0, 0])
        }),
        behaviour("handles-in-answers", |subject| {
            let port = orders::serve(subject, Serves::Handles)?;
            let area = subject.area(0);
            area.fill(&[], 0);
            let caller = with_deadline(port, u64::MAX);
            let answer = call(subject, caller, IN_MEMORY, [area.address(), 0, 0])?;
            equal("the header", answer.header, IN_MEMORY | with_handles(4))?;
            for word in area.words().into_iter().skip(8).take(4) {
                let handle = subject.keep(word & 0xFFFF_FFFF);
                let expected = (ObjectKind::Memory.number(), Rights::READ.bits());
                equal("the rights in the word", word >> 32, expected.1)?;
                equal("what came", subject.query(handle, 0)?, expected)?;
            }
            Ok(())
        }),
        behaviour("handles-in-calls-and-the-badge", |subject| {
            let port = subject.port(1)?;
            let marked = subject.grant(port.far, Rights::SEND | Rights::GRANT, 77)?;
            orders::call_me(subject, marked, u64::MAX, false)?;
            let message = subject.receive(port.near, subject.far_off())?;
            equal("the badge", message.badge, 77)?;
            equal(
                "the message",
                (message.header, message.words),
                (16, orders::WORDS),
            )?;
            ensure(message.token != 0, || "it has no token".into())?;
            subject.works(Verb::Reply, [port.near, message.token << 32, 0, 0, 0])?;
            equal(
                "how the partner's call ended",
                orders::report(subject)?.status,
                0,
            )
        }),
        behaviour("the-same-page-is-read-and-written", |subject| {
            let (memory, pair) = (subject.memory(1)?, subject.port(1)?);
            let window = subject.window(PAGE)?;
            subject.map(memory, window, 0, PAGE, Rights::READ | Rights::WRITE)?;
            let place = window + PAGE - 128;
            subject.poke(pair, place, &[6; 8])?;
            let port = orders::serve(subject, Serves::Echo)?;
            let caller = with_deadline(port, u64::MAX);
            call(subject, caller, 64 | IN_MEMORY, [place, 0, 0])?;
            equal("the answer", subject.peek(pair, place)?, [6; 8])?;
            subject.unmap(window, PAGE)
        }),
    ],
};

fn caller(subject: &Subject<'_>) -> Result<Sender, String> {
    Ok(with_deadline(subject.port(1)?.far, 0))
}

const fn with_deadline(port: u64, deadline: u64) -> Sender {
    Sender {
        verb: CALL,
        port,
        beside: 0,
        last: Some(deadline),
    }
}

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(CALL, caller(subject)?.arguments(0, [0; 3])))
}

fn call(
    subject: &Subject<'_>,
    caller: Sender,
    header: u64,
    words: [u64; 3],
) -> Result<Received, String> {
    let values = subject.works(CALL, caller.arguments(header, words))?;
    Ok(Received::new(values))
}

fn errors_in_their_order(subject: &Subject<'_>) -> Verdict {
    let (port, closed) = (subject.port(1)?, subject.closed()?);
    let hole = subject.window(PAGE)?;
    let bad_word = word(closed, Rights::READ);
    let in_memory = IN_MEMORY | 64;
    for (handle, header, first, expected) in [
        (1 << 32, 1 << 11, 0, Error::BadArgument),
        (closed, in_memory, hole, Error::BadHandle),
        (port.near, in_memory, hole, Error::MissingRight),
    ] {
        with_deadline(handle, 0).refuses(subject, header, [first, 0, 0], expected)?;
    }
    subject.send(port.far, 0, [0; 3])?;
    let caller = with_deadline(port.far, 0);
    caller.refuses(subject, in_memory, [hole, 0, 0], Error::BadAddress)?;
    caller.refuses(subject, with_handles(1), [bad_word, 0, 0], Error::BadHandle)?;
    caller.refuses(subject, 0, [0; 3], Error::QueueFull)?;
    subject.fill_the_table()?;
    caller.refuses(subject, in_memory, [hole, 0, 0], Error::BadAddress)?;
    caller.refuses(subject, with_handles(1), [bad_word, 0, 0], Error::BadHandle)?;
    caller.refuses(subject, 0, [0; 3], Error::QuotaExhausted)?;
    subject.close(port.near)?;
    subject.fill_the_table()?;
    caller.refuses(subject, 0, [0; 3], Error::QuotaExhausted)
}
