//! `send`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::handles::Place;
use super::messages::{with_handles, Sender, IN_MEMORY};
use super::subject::{PAGE, SLOT};
use super::transfers::word;
use super::{behaviour, ensure, equal, error, orders, waiting, Subject, Table, Verdict};

const SEND: Verb = Verb::Send;

pub(super) const TABLE: Table = Table {
    of: SEND.name(),
    cases: &[
        error(Error::BadArgument, 0, "headers-of-no-message", |subject| {
            let reserved: [u64; 52] = core::array::from_fn(|index| index as u64 + 12);
            sender(subject)?.wants_a_header(subject, &reserved)?;
            waiting::sender(subject)?.wants_a_header(subject, &reserved)
        }),
        error(Error::BadArgument, 0, "bits-past-the-message", |subject| {
            sender(subject)?.wants_zeros_behind(subject)?;
            waiting::sender(subject)?.wants_zeros_behind(subject)
        }),
        error(Error::BadArgument, 0, "bits-that-are-no-right", |subject| {
            sender(subject)?.wants_rights_in_registers(subject)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Port)
        }),
        error(Error::MissingRight, 0, "without-send", |subject| {
            let port = subject.port(1)?;
            let place = place(subject)?;
            place.wants_right(subject, port.near)?;
            let copy = subject.grant(port.far, Rights::GRANT, 0)?;
            place.wants_right(subject, copy)?;
            place.wants_right(subject, subject.grant(port.far, Rights::NONE, 0)?)
        }),
        error(
            Error::BadAddress,
            0,
            "memory-that-is-not-there",
            |subject| {
                sender(subject)?.wants_memory(subject)?;
                waiting::sender(subject)?.wants_memory(subject)
            },
        ),
        error(Error::BadArgument, 1, "rights-that-stay", |subject| {
            sender(subject)?.wants_rights_that_can_go(subject)
        }),
        error(Error::BadHandle, 1, "a-handle-in-the-message", |subject| {
            sender(subject)?.wants_handles_in_the_message(subject)
        }),
        error(
            Error::MissingRight,
            1,
            "a-handle-in-the-message",
            |subject| sender(subject)?.wants_rights_of_the_handle(subject),
        ),
        error(Error::PeerGone, 0, "no-receiver", |subject| {
            let port = subject.port(1)?;
            subject.send(port.far, 8, [1, 0, 0])?;
            subject.close(port.near)?;
            // Also if the port was full, and also with a handle, which goes nowhere.
            let arguments = Sender::send(port.far).arguments(8, [1, 0, 0]);
            subject.refuses(SEND, arguments, Error::PeerGone)?;
            let bell = subject.event(SLOT)?;
            let carried = word(bell.far, Rights::NOTIFY);
            let arguments = Sender::send(port.far).arguments(with_handles(1), [carried, 0, 0]);
            subject.refuses(SEND, arguments, Error::PeerGone)
        }),
        error(Error::PeerGone, 0, "the-receiver-has-ended", |subject| {
            let (port, _) = orders::of_the_dead(subject)?;
            let arguments = Sender::send(port).arguments(0, [0; 3]);
            subject.refuses(SEND, arguments, Error::PeerGone)
        }),
        error(Error::QueueFull, 0, "one-past-every-capacity", |subject| {
            for capacity in [1, 2, 255, 256] {
                let port = subject.port(capacity)?;
                for number in 0..capacity {
                    subject.send(port.far, 8, [number, 0, 0])?;
                }
                let sender = Sender::send(port.far);
                sender.refuses(subject, 8, [0; 3], Error::QueueFull)?;
                let bell = word(subject.event(SLOT)?.far, Rights::NOTIFY);
                sender.refuses(subject, with_handles(1), [bell, 0, 0], Error::QueueFull)?;
                subject.takes(port.near, 8, [0, 0, 0])?;
                subject.send(port.far, 8, [capacity, 0, 0])?;
                sender.refuses(subject, 8, [0; 3], Error::QueueFull)?;
                for number in 1..=capacity {
                    subject.takes(port.near, 8, [number, 0, 0])?;
                }
                subject.close(port.near)?;
                subject.close(port.far)?;
            }
            Ok(())
        }),
        error(
            Error::PeerGone,
            0,
            "the-receiver-goes-while-it-waits",
            waiting::receiver_goes,
        ),
        error(
            Error::QueueFull,
            0,
            "a-wait-without-a-deadline",
            waiting::no_deadline,
        ),
        error(
            Error::QueueFull,
            0,
            "no-place-in-the-line",
            waiting::full_line,
        ),
        error(
            Error::QueueFull,
            0,
            "nobody-overtakes-who-waits",
            waiting::no_overtaking,
        ),
        error(
            Error::Interrupted,
            0,
            "an-event-before-and-while-it-waits",
            waiting::interrupted,
        ),
        error(Error::TimedOut, 0, "nobody-makes-room", waiting::times_out),
        behaviour("what-waits-arrives-in-its-order", waiting::in_order),
        behaviour("with-room-nobody-waits", waiting::with_room),
        behaviour("errors-in-their-order", errors_in_their_order),
        behaviour("every-length", every_length),
        behaviour("what-lies-past-the-length-does-not-travel", |subject| {
            let port = subject.port(1)?;
            for length in [0, 1, 8, 9, 24, 25, 63] {
                subject.send_memory(port.far, length, &[u64::MAX; 8])?;
                arrives(subject, port.near, length, &[u64::MAX; 8])?;
            }
            Ok(())
        }),
        behaviour("memory-can-be-used-again-at-once", |subject| {
            let port = subject.port(2)?;
            subject.send_memory(port.far, 64, &[1; 8])?;
            subject.send_memory(port.far, 64, &[2; 8])?;
            subject.area(0).fill(&[], 3);
            arrives(subject, port.near, 64, &[1; 8])?;
            arrives(subject, port.near, 64, &[2; 8])
        }),
        behaviour(
            "from-every-place-of-a-page-and-from-read-only-memory",
            |subject| {
                let (memory, port) = (subject.memory(1)?, subject.port(1)?);
                let window = subject.window(PAGE)?;
                subject.map(memory, window, 0, PAGE, Rights::READ | Rights::WRITE)?;
                for offset in (0..PAGE).step_by(128) {
                    subject.poke(port, window + offset, &[offset; 8])?;
                }
                subject.unmap(window, PAGE)?;
                subject.map(memory, window, 0, PAGE, Rights::READ)?;
                for offset in (0..PAGE).step_by(128) {
                    equal(
                        "what was sent",
                        subject.peek(port, window + offset)?,
                        [offset; 8],
                    )?;
                }
                subject.unmap(window, PAGE)
            },
        ),
        behaviour(
            "a-full-queue-costs-the-sender-nothing-for-ever",
            |subject| {
                let port = subject.port(1)?;
                let copy = subject.grant(port.far, Rights::SEND | Rights::GRANT, 0)?;
                let carried = word(copy, Rights::SEND);
                subject.send(port.far, with_handles(1), [carried, 0, 0])?;
                for _ in 0..300 {
                    let arguments =
                        Sender::send(port.far).arguments(with_handles(1), [carried, 0, 0]);
                    subject.ends_with(SEND, arguments, Error::QueueFull)?;
                }
                // The copies that went nowhere do not count as senders.
                subject.close(copy)?;
                let [_, _, received, ..] = subject.works(Verb::Receive, [port.near, 0, 0, 0, 0])?;
                subject.close(received & 0xFFFF_FFFF)?;
                subject.close(port.far)?;
                subject.refuses(Verb::Receive, [port.near, 0, 0, 0, 0], Error::PeerGone)
            },
        ),
        behaviour("the-console-takes-any-message", |subject| {
            let console = subject.given("console", Rights::SEND)?;
            // Nothing is shown of an empty message and of carriage returns.
            for _ in 0..300 {
                subject.send(console, 0, [0; 3])?;
            }
            subject.send(console, 2, [0x0D0D, 0, 0])?;
            let memory = word(subject.memory(1)?, Rights::READ);
            subject.send(console, with_handles(1), [memory, 0, 0])
        }),
        behaviour("the-badge-is-the-senders", badges),
        behaviour("handles-arrive-with-their-rights", handles_arrive),
        behaviour(
            "handles-of-a-message-that-is-dropped-are-closed",
            |subject| {
                let (port, other) = (subject.port(4)?, subject.port(1)?);
                subject.send(
                    port.far,
                    with_handles(1),
                    [word(other.far, Rights::SEND), 0, 0],
                )?;
                subject.close(other.far)?;
                // The copy in the queue counts as a handle.
                subject.refuses(Verb::Receive, [other.near, 0, 0, 0, 0], Error::QueueEmpty)?;
                subject.close(port.near)?;
                subject.refuses(Verb::Receive, [other.near, 0, 0, 0, 0], Error::PeerGone)
            },
        ),
        behaviour("a-receiver-that-waits-is-woken", |subject| {
            let port = subject.port(4)?;
            orders::send_later(subject, port.far, 2)?;
            for number in 0..2 {
                let received = subject.receive(port.near, subject.far_off())?;
                equal("the message", received.words, [number, 0, 0])?;
            }
            Ok(())
        }),
    ],
};

fn sender(subject: &Subject<'_>) -> Result<Sender, String> {
    Ok(Sender::send(subject.port(1)?.far))
}

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(SEND, [subject.port(1)?.far, 0, 0, 0, 0]))
}

fn errors_in_their_order(subject: &Subject<'_>) -> Verdict {
    let (port, closed) = (subject.port(1)?, subject.closed()?);
    let memory = subject.memory(1)?;
    let hole = subject.window(PAGE)?;
    let bad_word = word(closed, Rights::READ);
    let in_memory = IN_MEMORY | 64;
    for (handle, header, first, expected) in [
        (1 << 32, 1 << 12, 0, Error::BadArgument),
        (closed, 25, 0, Error::BadArgument),
        (closed, in_memory, hole, Error::BadHandle),
        (memory, in_memory, hole, Error::WrongKind),
        (port.near, in_memory, hole, Error::MissingRight),
        (port.near, with_handles(1), bad_word, Error::MissingRight),
    ] {
        let arguments = Sender::send(handle).arguments(header, [first, 0, 0]);
        subject.refuses(SEND, arguments, expected)?;
    }
    subject.send(port.far, 0, [0; 3])?;
    let sender = Sender::send(port.far);
    sender.refuses(subject, in_memory, [hole, 0, 0], Error::BadAddress)?;
    sender.refuses(subject, with_handles(1), [bad_word, 0, 0], Error::BadHandle)?;
    // The first handle that is wrong is told.
    let stays = word(memory, Rights::WAIT);
    sender.refuses(
        subject,
        with_handles(2),
        [stays, bad_word, 0],
        Error::BadArgument,
    )?;
    sender.refuses(
        subject,
        with_handles(2),
        [bad_word, stays, 0],
        Error::BadHandle,
    )?;
    subject.close(port.near)?;
    sender.refuses(subject, in_memory, [hole, 0, 0], Error::BadAddress)?;
    sender.refuses(subject, with_handles(1), [bad_word, 0, 0], Error::BadHandle)?;
    sender.refuses(subject, 0, [0; 3], Error::PeerGone)
}

/// Receives what was sent, in the form that its length asks for.
fn arrives(subject: &Subject<'_>, port: u64, length: u64, words: &[u64; 8]) -> Verdict {
    let received = subject.receive(port, 0)?;
    let mut expected = *words;
    for (index, word) in expected.iter_mut().enumerate() {
        let bytes = length.saturating_sub(index as u64 * 8).min(8);
        *word &= u64::MAX.checked_shr(64 - bytes as u32 * 8).unwrap_or(0);
    }
    if length <= 24 {
        equal("the header", received.header, length)?;
        let [first, second, third, ..] = expected;
        equal("the registers", received.words, [first, second, third])?;
        return equal("the buffer", subject.area(1).words(), [u64::MAX; 16]);
    }
    equal("the header", received.header, length | IN_MEMORY)?;
    equal("the registers", received.words, [0; 3])?;
    let [found @ .., _, _, _, _, _, _, _, _] = subject.area(1).words();
    equal("the buffer", found, expected)
}

fn every_length(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(1)?;
    let bytes = |index: u64| {
        u64::from_le_bytes(core::array::from_fn(|byte| {
            (index * 8) as u8 + byte as u8 + 1
        }))
    };
    let words: [u64; 8] = core::array::from_fn(|index| bytes(index as u64));
    for length in 0..=64 {
        subject.send_memory(port.far, length, &words)?;
        arrives(subject, port.near, length, &words)?;
        if length <= 24 {
            let mask = |index: u64| {
                let left = length.saturating_sub(index * 8).min(8) as u32;
                u64::MAX.checked_shr(64 - left * 8).unwrap_or(0)
            };
            let [first, second, third, ..] = words;
            let cut = [first & mask(0), second & mask(1), third & mask(2)];
            subject.send(port.far, length, cut)?;
            arrives(subject, port.near, length, &words)?;
        }
    }
    Ok(())
}

/// A handle from the manifest has its holder's number, one from `create` none, a copy what `grant`
/// gave it.
fn badges(subject: &Subject<'_>) -> Verdict {
    let badge_of = |near, far| -> Result<u64, String> {
        subject.send(far, 0, [0; 3])?;
        Ok(subject.receive(near, 0)?.badge)
    };
    let near = subject.given("own", Rights::RECEIVE)?;
    let own = subject.given("own", Rights::SEND)?;
    equal("a badge from the manifest", badge_of(near, own)?, 1)?;
    let port = subject.port(1)?;
    equal("a badge from create", badge_of(port.near, port.far)?, 0)?;
    for badge in [1, 99, u64::MAX] {
        let copy = subject.grant(port.far, Rights::SEND | Rights::GRANT, badge)?;
        equal("a badge from grant", badge_of(port.near, copy)?, badge)?;
        let second = subject.grant(copy, Rights::SEND, 0)?;
        equal("a copied badge", badge_of(port.near, second)?, badge)?;
        // It goes with a handle in a message, too.
        let sent = word(copy, Rights::SEND);
        subject.send(port.far, with_handles(1), [sent, 0, 0])?;
        let [_, _, received, ..] = subject.works(Verb::Receive, [port.near, 0, 0, 0, 0])?;
        let received = subject.keep(received & 0xFFFF_FFFF);
        equal(
            "a badge that was sent",
            badge_of(port.near, received)?,
            badge,
        )?;
    }
    let answers = subject.given("answers", Rights::RECEIVE)?;
    orders::ping(subject)?;
    let answer = subject.receive(answers, subject.far_off())?;
    equal("the partner's badge", answer.badge, 2)
}

fn handles_arrive(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(1)?;
    let memory = subject.memory(1)?;
    for count in 0..=4u64 {
        for length in [0, 1, 8, 16, 24, 64] {
            let area = subject.area(0);
            area.fill(&[9; 8], 0);
            let rights = [
                Rights::READ,
                Rights::READ | Rights::GRANT,
                Rights::NONE,
                Rights::ACCESS,
            ];
            area.fill_handles(&rights.map(|rights| word(memory, rights)));
            let header = length | IN_MEMORY | with_handles(count);
            subject.works(SEND, [port.far, header, area.address(), 0, 0])?;
            let received = subject.receive(port.near, 0)?;
            let behind = length.div_ceil(8);
            let in_registers = behind + count <= 3;
            let form = if in_registers { 0 } else { IN_MEMORY };
            equal(
                "the header",
                received.header,
                length | form | with_handles(count),
            )?;
            for (index, rights) in rights.into_iter().enumerate().take(count as usize) {
                let index = index as u64;
                let found = if in_registers {
                    received.words.get((behind + index) as usize).copied()
                } else {
                    subject.area(1).words().get(8 + index as usize).copied()
                };
                is_memory_with(subject, found.unwrap_or(0), rights, memory)?;
            }
        }
    }
    Ok(())
}

/// The word stands for a new handle of memory with these rights.
fn is_memory_with(subject: &Subject<'_>, word: u64, rights: Rights, original: u64) -> Verdict {
    let handle = word & 0xFFFF_FFFF;
    ensure(handle != original, || {
        "the receiver got the sender's handle".into()
    })?;
    equal("the rights in the word", word >> 32, rights.bits())?;
    let expected = (ObjectKind::Memory.number(), rights.bits());
    equal("what arrived", subject.query(handle, 0)?, expected)?;
    subject.close(handle)
}
