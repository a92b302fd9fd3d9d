//! `send` that waits for room.

use alloc::format;
use alloc::string::String;

use nuncio_abi::{Error, Rights, Verb};

use super::messages::{with_handles, Sender, IN_MEMORY};
use super::subject::SLOT;
use super::transfers::word;
use super::{ensure, equal, orders, Subject, Verdict};

const SEND: Verb = Verb::Send;

/// With a deadline that has passed, so that a mistake does not wait for ever.
pub(super) fn sender(subject: &Subject<'_>) -> Result<Sender, String> {
    Ok(Sender::waiting(subject.port(1)?.far, 1))
}

/// The partner makes a port of four messages and closes its end while we wait for a fifth.
pub(super) fn receiver_goes(subject: &Subject<'_>) -> Verdict {
    let port = orders::serve(subject, orders::Serves::CloseBefore)?;
    let sender = Sender::waiting(port, subject.far_off());
    for number in 0..4 {
        let sent = subject.call(SEND, sender.arguments(8, [number, 0, 0]));
        ensure(matches!(sent, Ok(_) | Err(Error::PeerGone)), || {
            format!("message {number} gives {sent:x?}")
        })?;
    }
    subject.ends_with(SEND, sender.arguments(8, [4, 0, 0]), Error::PeerGone)
}

pub(super) fn no_deadline(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(1)?;
    subject.send(port.far, 8, [1, 0, 0])?;
    Sender::waiting(port.far, 0).refuses(subject, 8, [2, 0, 0], Error::QueueFull)?;
    subject.takes(port.near, 8, [1, 0, 0])
}

/// A full port of one message, for which the partner waits with its first one.
fn with_the_partner_in_line(subject: &Subject<'_>) -> Result<super::subject::Ends, String> {
    let port = subject.port(1)?;
    subject.send(port.far, 8, [99, 0, 0])?;
    orders::send_waiting_later(subject, port.far, 3)?;
    // A deadline that has passed asks about the line without standing in it.
    let arguments = Sender::waiting(port.far, 1).arguments(8, [7, 0, 0]);
    let limit_ns = subject.far_off();
    loop {
        match subject.call(SEND, arguments) {
            Err(Error::QueueFull) => return Ok(port),
            Err(Error::TimedOut) if subject.ground.now_ns() < limit_ns => {
                let rested = subject.call(Verb::Wait, [subject.in_ms(1), 0, 0, 0, 0]);
                equal("a rest", rested.err(), Some(Error::TimedOut))?;
            }
            other => return Err(format!("the partner does not wait: {other:x?}")),
        }
    }
}

pub(super) fn full_line(subject: &Subject<'_>) -> Verdict {
    let port = with_the_partner_in_line(subject)?;
    for deadline in [1, subject.far_off(), u64::MAX] {
        Sender::waiting(port.far, deadline).refuses(subject, 8, [7, 0, 0], Error::QueueFull)?;
    }
    drain(subject, port.near)
}

/// Whether the partner has run since there is room or not, the port is full for us.
pub(super) fn no_overtaking(subject: &Subject<'_>) -> Verdict {
    let port = with_the_partner_in_line(subject)?;
    subject.takes(port.near, 8, [99, 0, 0])?;
    let arguments = Sender::send(port.far).arguments(8, [7, 0, 0]);
    subject.ends_with(SEND, arguments, Error::QueueFull)?;
    let called = [port.far, 8, 7, 0, 0];
    subject.ends_with(Verb::Call, called, Error::QueueFull)?;
    numbered(subject, port.near)
}

fn drain(subject: &Subject<'_>, port: u64) -> Verdict {
    subject.takes(port, 8, [99, 0, 0])?;
    numbered(subject, port)
}

/// The messages of the partner, in their order.
fn numbered(subject: &Subject<'_>, port: u64) -> Verdict {
    for number in 0..3 {
        let received = subject.receive(port, subject.far_off())?;
        equal("the message", received.words, [number, 0, 0])?;
    }
    Ok(())
}

pub(super) fn interrupted(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(1)?;
    subject.send(port.far, 8, [1, 0, 0])?;
    subject.word(SLOT)?.enable(u64::MAX);
    subject.word(SLOT)?.take();
    let bell = subject.event(SLOT)?;
    let timer = subject.timer(bell.far, 0b100)?;
    subject.works(Verb::Arm, [timer, subject.in_ms(2), 0, 0, 0])?;
    let arguments = Sender::waiting(port.far, subject.far_off()).arguments(8, [2, 0, 0]);
    subject.ends_with(SEND, arguments, Error::Interrupted)?;
    // It is pending still, so the next one does not even begin to wait.
    subject.refuses(SEND, arguments, Error::Interrupted)?;
    equal("the bits", subject.word(SLOT)?.take(), 0b100)?;
    subject.takes(port.near, 8, [1, 0, 0])?;
    subject.refuses(Verb::Receive, [port.near, 0, 0, 0, 0], Error::QueueEmpty)
}

pub(super) fn times_out(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(1)?;
    subject.send(port.far, 8, [1, 0, 0])?;
    let carried = word(port.far, Rights::SEND);
    for (header, words) in [
        (8, [2, 0, 0]),
        (IN_MEMORY | 64, [subject.area(0).address(), 0, 0]),
        (8 | with_handles(1), [2, carried, 0]),
    ] {
        let deadline = subject.in_ms(2);
        let sender = Sender::waiting(port.far, deadline);
        sender.refuses(subject, header, words, Error::TimedOut)?;
        ensure(subject.ground.now_ns() >= deadline, || {
            format!("told before {deadline}")
        })?;
        Sender::waiting(port.far, 1).refuses(subject, header, words, Error::TimedOut)?;
    }
    subject.takes(port.near, 8, [1, 0, 0])?;
    subject.refuses(Verb::Receive, [port.near, 0, 0, 0, 0], Error::QueueEmpty)
}

/// More messages than the port holds, while we are slow.
pub(super) fn in_order(subject: &Subject<'_>) -> Verdict {
    for capacity in [1, 2, 7] {
        let port = subject.port(capacity)?;
        orders::send_waiting_later(subject, port.far, 40)?;
        for number in 0..40 {
            let received = subject.receive(port.near, subject.far_off())?;
            equal("the message", received.words, [number, 0, 0])?;
        }
        subject.close(port.near)?;
    }
    Ok(())
}

pub(super) fn with_room(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(4)?;
    for deadline in [0, 1, u64::MAX] {
        let arguments = Sender::waiting(port.far, deadline).arguments(16, [3, deadline, 0]);
        subject.works(SEND, arguments)?;
        subject.takes(port.near, 16, [3, deadline, 0])?;
    }
    let area = subject.area(0);
    area.fill(&[5; 8], 0);
    let sender = Sender::waiting(port.far, u64::MAX);
    let arguments = sender.arguments(IN_MEMORY | 64, [area.address(), 0, 0]);
    subject.works(SEND, arguments)?;
    let received = subject.receive(port.near, 0)?;
    equal("the header", received.header, IN_MEMORY | 64)?;
    let [found @ .., _, _, _, _, _, _, _, _] = subject.area(1).words();
    equal("the bytes", found, [5; 8])?;
    let console = subject.given("console", Rights::SEND)?;
    subject
        .works(SEND, Sender::waiting(console, 0).arguments(0, [0; 3]))
        .map(drop)
}
