//! `close`.

use nuncio_abi::{Error, QueryItem, Rights, Verb};

use super::handles::{one_of_each, Place};
use super::subject::{PAGE, SLOT};
use super::{behaviour, ensure, equal, error, orders, Table};

const CLOSE: Verb = Verb::Close;

pub(super) const TABLE: Table = Table {
    of: CLOSE.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            subject.wants_zeros(CLOSE, [subject.memory(1)?, 0, 0, 0, 0], 1)?;
            subject.wants_zeros(CLOSE, [u64::MAX, 0, 0, 0, 0], 1)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            let memory = subject.memory(1)?;
            Place::first(CLOSE, [memory, 0, 0, 0, 0]).wants_a_handle(subject)?;
            subject.close(memory)
        }),
        error(Error::BadHandle, 0, "twice-for-every-kind", |subject| {
            let before = subject.kernel_bytes()?;
            for (_, handle) in one_of_each(subject)? {
                if subject.boot_gave(handle) {
                    continue;
                }
                subject.close(handle)?;
                subject.refuses(CLOSE, [handle, 0, 0, 0, 0], Error::BadHandle)?;
                // For every verb it is no handle any more.
                subject.refuses(Verb::Query, [handle, 0, 0, 0, 0], Error::BadHandle)?;
                subject.refuses(Verb::Grant, [handle, 0, 0, 0, 0], Error::BadHandle)?;
            }
            equal("the hypervisor's memory", subject.kernel_bytes()?, before)
        }),
        error(
            Error::BadHandle,
            0,
            "a-place-that-is-used-again",
            |subject| {
                let memory = subject.memory(1)?;
                let first = subject.grant(memory, Rights::READ, 0)?;
                subject.close(first)?;
                for _ in 0..2000 {
                    let next = subject.grant(memory, Rights::READ, 0)?;
                    ensure(next != first, || "a handle came back".into())?;
                    subject.close(next)?;
                }
                subject.refuses(CLOSE, [first, 0, 0, 0, 0], Error::BadHandle)
            },
        ),
        behaviour("a-copy-outlives-its-original", |subject| {
            let port = subject.port(1)?;
            let copy = subject.grant(port.far, Rights::SEND, 0)?;
            subject.close(port.far)?;
            subject.send(copy, 1, [1, 0, 0])?;
            subject.takes(port.near, 1, [1, 0, 0])
        }),
        behaviour("the-handle-of-the-receiver-drops-the-queue", |subject| {
            let port = subject.port(2)?;
            subject.send(port.far, 1, [1, 0, 0])?;
            subject.close(port.near)?;
            subject.refuses(Verb::Send, [port.far, 0, 0, 0, 0], Error::PeerGone)
        }),
        behaviour("the-slot-of-a-closed-event-is-not-written", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            let timer = subject.timer(bell.far, 0b1)?;
            slot.enable(u64::MAX);
            subject.close(bell.near)?;
            subject.refuses(Verb::Notify, [bell.far, 1, 0, 0, 0], Error::PeerGone)?;
            subject.works(Verb::Arm, [timer, 1, 0, 0, 0])?;
            subject.ends_with(Verb::Wait, [subject.in_ms(2), 0, 0, 0, 0], Error::TimedOut)?;
            equal("the slot", slot.pending(), 0)
        }),
        behaviour("without-revoke-mappings-stay", |subject| {
            let (original, window) = (subject.memory(1)?, subject.window(PAGE)?);
            let memory = subject.grant(original, Rights::READ, 0)?;
            subject.map(memory, window, 0, PAGE, Rights::READ)?;
            subject.close(memory)?;
            let taken = [subject.space()?, subject.memory(1)?, window, 0, PAGE | 1];
            subject.refuses(Verb::Map, taken, Error::AlreadyMapped)?;
            subject.unmap(window, PAGE)
        }),
        behaviour("the-handle-with-revoke-takes-memory-back", |subject| {
            let (memory, child) = (subject.memory(3)?, subject.child()?);
            let copy = subject.grant(memory, Rights::ACCESS, 0)?;
            let (window, far_window) = (subject.window(8 * PAGE)?, subject.window(PAGE)?);
            subject.map(copy, window, PAGE, 2 * PAGE, Rights::READ)?;
            subject.map(memory, window + 4 * PAGE, 0, 3 * PAGE, Rights::READ)?;
            subject.map(memory, far_window, 0, PAGE, Rights::READ)?;
            subject.unmap(window + 5 * PAGE, PAGE)?;
            let theirs = [child.space, copy, 0, 0, PAGE | 1];
            subject.works(Verb::Map, theirs)?;
            subject.close(memory)?;
            for (space, address) in [
                (subject.space()?, window),
                (subject.space()?, window + PAGE),
                (subject.space()?, window + 4 * PAGE),
                (subject.space()?, window + 6 * PAGE),
                (subject.space()?, far_window),
                (child.space, 0),
            ] {
                let gone = [space, address, PAGE, 0, 0];
                subject.refuses(Verb::Unmap, gone, Error::NotMapped)?;
            }
            // The other handle stays.
            let usage = QueryItem::Usage.number();
            equal("its length", subject.query(copy, usage)?, (3 * PAGE, 0))
        }),
        behaviour("the-last-handle-of-a-timer-disarms-it", |subject| {
            let (bell, slot) = (subject.event(SLOT)?, subject.word(SLOT)?);
            slot.enable(0b11);
            let (first, second) = (
                subject.timer(bell.far, 0b01)?,
                subject.timer(bell.far, 0b10)?,
            );
            let copy = subject.grant(second, Rights::NONE, 0)?;
            for timer in [first, second] {
                subject.works(Verb::Arm, [timer, subject.in_ms(100), 0, 0, 0])?;
            }
            subject.close(first)?;
            subject.close(second)?;
            // The copy keeps the second one alive.
            subject.works(Verb::Wait, [subject.far_off(), 0, 0, 0, 0])?;
            subject.ends_with(Verb::Receive, timed(subject, 2)?, Error::Interrupted)?;
            equal("the bits", slot.take(), 0b10)?;
            subject.close(copy)
        }),
        behaviour(
            "another-domain-goes-on-without-its-own-handles",
            |subject| {
                orders::close_own(subject)?;
                orders::ping(subject)?;
                let answers = subject.given("answers", Rights::RECEIVE)?;
                subject.receive(answers, subject.far_off()).map(drop)
            },
        ),
    ],
};

/// A receive with a deadline on a port to which nobody sends.
fn timed(
    subject: &super::Subject<'_>,
    milliseconds: u64,
) -> Result<super::subject::Arguments, alloc::string::String> {
    let port = subject.port(1)?;
    Ok([port.near, subject.in_ms(milliseconds), 0, 0, 0])
}

impl super::Subject<'_> {
    /// The handle is one that the domain was given.
    pub(super) fn boot_gave(&self, handle: u64) -> bool {
        let handles = self
            .boot
            .handles()
            .iter()
            .filter_map(|entry| entry.handle());
        handles
            .map(nuncio_abi::Handle::raw)
            .any(|given| given == handle)
    }
}
