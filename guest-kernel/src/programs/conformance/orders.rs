//! What the domains that run `program=partner` are told to do.
//!
//! An order is a message on the port `orders` (or `last-orders`, for the one that ends): a word
//! that says what to do, a number, and a handle if it needs one.

use alloc::string::String;

use nuncio_abi::{Error, Rights, Verb};

use super::messages::{with_handles, IN_MEMORY};
use super::transfers::word;
use super::{equal, Subject, Verdict};

/// Send a word on `answers`.
pub(super) const PING: u64 = 1;
/// Send so many messages, numbered from 0.
pub(super) const SEND: u64 = 2;
/// Set bit 0 of an event.
pub(super) const NOTIFY: u64 = 3;
/// Close the handle.
pub(super) const CLOSE: u64 = 4;
/// Call the port with [`WORDS`], and report how that ended. The number is how many nanoseconds to
/// wait for the answer.
pub(super) const CALL: u64 = 5;
/// As [`CALL`], with a message in memory.
pub(super) const CALL_FROM_MEMORY: u64 = 6;
/// Make a port and an event, send handles of them on `answers`, and receive one call; the number
/// is one of [`Serves`].
pub(super) const SERVE: u64 = 7;
/// Close the handles of its own vcpu, space and console.
pub(super) const CLOSE_OWN: u64 = 8;
/// Nothing.
pub(super) const NOTHING: u64 = 9;

/// As [`SEND`], waiting for room.
pub(super) const SEND_WAITING: u64 = 10;

/// The words with which the partner calls.
pub(super) const WORDS: [u64; 3] = [0x1111, 0x2222, 0];

/// What the partner does with the call that it receives.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Serves {
    /// Answers with the message.
    Echo = 0,
    /// Closes its end of the port instead of answering.
    CloseAfter = 1,
    /// Closes its end before it has received anything.
    CloseBefore = 2,
    /// Does nothing until the next order.
    Leave = 3,
    /// Answers with four handles of a memory.
    Handles = 4,
    /// Ends.
    End = 5,
}

/// How a call of the partner has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) status: u64,
    /// RDX, R10, R8, RDI, RSI, without a token.
    pub(super) values: [u64; 5],
}

fn order(subject: &Subject<'_>, port: &str, what: u64, number: u64, handle: u64) -> Verdict {
    let orders = subject.given(port, Rights::SEND)?;
    if handle == 0 {
        return subject.send(orders, 16, [what, number, 0]);
    }
    let area = subject.area(0);
    area.fill(&[what, number], 0);
    let (_, rights) = subject.query(handle, 0)?;
    let rights = Rights::from_bits(rights & !Rights::GRANT.bits()).ok_or("no rights")?;
    area.fill_handles(&[word(handle, rights)]);
    let header = 16 | IN_MEMORY | with_handles(1);
    let arguments = [orders, header, area.address(), 0, 0];
    subject.works(Verb::Send, arguments).map(drop)
}

pub(super) fn ping(subject: &Subject<'_>) -> Verdict {
    order(subject, "orders", PING, 0, 0)
}

pub(super) fn nothing(subject: &Subject<'_>) -> Verdict {
    order(subject, "orders", NOTHING, 0, 0)
}

pub(super) fn close_own(subject: &Subject<'_>) -> Verdict {
    order(subject, "orders", CLOSE_OWN, 0, 0)
}

pub(super) fn send_later(subject: &Subject<'_>, port: u64, messages: u64) -> Verdict {
    order(subject, "orders", SEND, messages, port)
}

/// Waits for room as long as it takes.
pub(super) fn send_waiting_later(subject: &Subject<'_>, port: u64, messages: u64) -> Verdict {
    order(subject, "orders", SEND_WAITING, messages, port)
}

pub(super) fn notify_later(subject: &Subject<'_>, event: u64) -> Verdict {
    order(subject, "orders", NOTIFY, 0, event)
}

pub(super) fn close_later(subject: &Subject<'_>, handle: u64) -> Verdict {
    order(subject, "orders", CLOSE, 0, handle)
}

/// The partner calls a port of this domain and waits so many nanoseconds; `u64::MAX` for ever.
pub(super) fn call_me(
    subject: &Subject<'_>,
    port: u64,
    patience_ns: u64,
    in_memory: bool,
) -> Verdict {
    let what = if in_memory { CALL_FROM_MEMORY } else { CALL };
    order(subject, "orders", what, patience_ns, port)
}

/// How that call has ended.
pub(super) fn report(subject: &Subject<'_>) -> Result<Report, String> {
    let answers = subject.given("answers", Rights::RECEIVE)?;
    let received = subject.receive(answers, subject.far_off())?;
    equal("the header of a report", received.header, 48 | IN_MEMORY)?;
    let [status, first, second, third, fourth, fifth, ..] = subject.area(1).words();
    Ok(Report {
        status,
        values: [first, second, third, fourth, fifth],
    })
}

/// The partner makes a port and receives a call from it; gives the handle of the port.
pub(super) fn serve(subject: &Subject<'_>, how: Serves) -> Result<u64, String> {
    order(subject, "orders", SERVE, how as u64, 0)?;
    let (port, event) = served(subject)?;
    subject.keep(event);
    Ok(subject.keep(port))
}

/// The handles that come with the answer to [`SERVE`].
fn served(subject: &Subject<'_>) -> Result<(u64, u64), String> {
    let answers = subject.given("answers", Rights::RECEIVE)?;
    let received = subject.receive(answers, subject.far_off())?;
    equal("the header of an answer", received.header, with_handles(2))?;
    let [port, event, _] = received.words.map(|word| word & 0xFFFF_FFFF);
    Ok((port, event))
}

/// A port and an event whose receiver and waiter have ended while this domain called the port.
pub(super) fn of_the_dead(subject: &Subject<'_>) -> Result<(u64, u64), String> {
    if let Some(dead) = subject.dead.get() {
        return Ok((dead.port, dead.event));
    }
    // It holds the last sender of this port when it ends.
    let orphan = subject.port(1)?;
    order(
        subject,
        "last-orders",
        SERVE,
        Serves::End as u64,
        orphan.far,
    )?;
    subject.close(orphan.far)?;
    let (port, event) = served(subject)?;
    let called = subject.call(Verb::Call, [port, 0, 0, 0, u64::MAX]);
    let received = subject.call(Verb::Receive, [orphan.near, subject.far_off(), 0, 0, 0]);
    let is_told = called == Err(Error::PeerGone) && received == Err(Error::PeerGone);
    subject.dead.set(Some(Dead {
        port,
        event,
        is_told,
    }));
    Ok((port, event))
}

/// What is left of a domain that has ended.
#[derive(Clone, Copy)]
pub(super) struct Dead {
    port: u64,
    event: u64,
    /// Whether the call and the receive that waited for it ended with `peer-gone`.
    is_told: bool,
}

impl Subject<'_> {
    /// The call and the receive that waited when the other domain ended were told so.
    pub(super) fn saw_death(&self) -> Verdict {
        let is_told = self.dead.get().map(|dead| dead.is_told);
        equal("whether both were told", is_told, Some(true))
    }

    /// Handles that the domain has besides those of a case.
    pub(super) fn own_handles(&self) -> u64 {
        let of_the_dead = self.dead.get().map_or(0, |_| 2);
        self.boot.handle_count + of_the_dead
    }
}
