//! Deadlines, event words and upcalls.

use alloc::format;

use nuncio_abi::{Call, Deadline, Error, Message, ObjectKind, Rights};

use super::{ensure, Check, Miss, Subject, Verdict};
use crate::hv::{Event, Machine};
use crate::instructions::{disable_interrupts, enable_interrupts};
use crate::machine::Native;
use crate::trap::{upcall, UPCALL_VECTOR};

const MS: u64 = 1_000_000;

pub(super) const CHECKS: &[(&str, Check)] = &[
    ("wait-is-not-early", wait_is_not_early),
    ("wait-in-the-past", wait_in_the_past),
    ("notify-and-wait", notify_and_wait),
    ("masked-bits-pend", masked_bits_pend),
    ("upcall", upcall_arrives),
    ("no-upcall-for-masked-bits", no_upcall_for_masked_bits),
    ("halt-until-upcall", halt_until_upcall),
    ("port-to-itself", port_to_itself),
];

fn wait_is_not_early(subject: &Subject<'_>) -> Verdict {
    let deadline = Deadline(subject.machine.now_ns() + 2 * MS);
    subject.refuses(Call::Wait { deadline }, &[Error::TimedOut])?;
    let now_ns = subject.machine.now_ns();
    ensure(now_ns >= deadline.0, || {
        format!("{} ns early", deadline.0 - now_ns)
    })
}

fn wait_in_the_past(subject: &Subject<'_>) -> Verdict {
    for deadline in [Deadline::NOW, Deadline(subject.machine.now_ns())] {
        subject.refuses(Call::Wait { deadline }, &[Error::TimedOut])?;
    }
    Ok(())
}

fn notify_and_wait(subject: &Subject<'_>) -> Verdict {
    let (notify, wait) = own_event(subject)?;
    notify.notify(0b01)?;
    notify.notify(0b10)?;
    let bits = wait.wait(0b11, in_one_second(subject))?;
    ensure(bits == 0b11, || format!("the bits are {bits:#b}"))
}

fn masked_bits_pend(subject: &Subject<'_>) -> Verdict {
    let (notify, wait) = own_event(subject)?;
    notify.notify(0b10)?;
    let waited = wait.wait(0b01, Deadline(subject.machine.now_ns() + MS));
    ensure(waited == Err(Error::TimedOut), || {
        format!("waiting gives {waited:?}")
    })?;
    let bits = wait.take(0b10)?;
    ensure(bits == 0b10, || format!("then there is {bits:#b}"))
}

fn upcall_arrives(subject: &Subject<'_>) -> Verdict {
    let (notify, wait) = own_event(subject)?;
    let (upcalls, bits) = with_upcalls(subject, &wait, || {
        notify.notify(0b1)?;
        let limit_ns = subject.machine.now_ns() + 10 * MS;
        let before = upcall::count();
        while upcall::count() == before && subject.machine.now_ns() < limit_ns {
            core::hint::spin_loop();
        }
        Ok(())
    })?;
    ensure(upcalls == 1 && bits == 0b1, || {
        format!("{upcalls} upcalls, bits {bits:#b}")
    })
}

fn no_upcall_for_masked_bits(subject: &Subject<'_>) -> Verdict {
    let (notify, wait) = own_event(subject)?;
    let (upcalls, _) = with_upcalls(subject, &wait, || {
        notify.notify(0b10)?;
        let limit_ns = subject.machine.now_ns() + MS;
        while subject.machine.now_ns() < limit_ns {
            core::hint::spin_loop();
        }
        Ok(())
    })?;
    let bits = wait.take(0b10)?;
    ensure(upcalls == 0 && bits == 0b10, || {
        format!("{upcalls} upcalls, bits {bits:#b}")
    })
}

/// An upcall that is due already ends a HLT at once.
fn halt_until_upcall(subject: &Subject<'_>) -> Verdict {
    let (notify, wait) = own_event(subject)?;
    let (upcalls, bits) = with_upcalls(subject, &wait, || {
        disable_interrupts();
        notify.notify(0b1)?;
        crate::instructions::enable_interrupts_and_halt();
        Ok(())
    })?;
    ensure(upcalls == 1 && bits == 0b1, || {
        format!("{upcalls} upcalls, bits {bits:#b}")
    })
}

fn port_to_itself(subject: &Subject<'_>) -> Verdict {
    let own = subject
        .client
        .all(ObjectKind::Port, Rights::RECEIVE)
        .find_map(|entry| {
            let name = entry.name.as_str();
            let receive = subject.client.port(name, Rights::RECEIVE).ok()?;
            Some((subject.client.port(name, Rights::SEND).ok()?, receive))
        });
    let (send, receive) = own.ok_or(Miss::Skipped("a port with send and receive"))?;
    for length in [0, 1, 24, 25, 64] {
        let bytes: [u8; 64] = core::array::from_fn(|index| index as u8 + 1);
        let message = bytes.get(..length).and_then(Message::from_bytes);
        let message = message.ok_or(Miss::Skipped("messages of that length"))?;
        send.send(&message)?;
        let received = receive.receive(Deadline::NOW)?;
        ensure(received.message == message, || {
            format!("{message:?} arrives as {received:?}")
        })?;
    }
    let empty = receive.receive(Deadline::NOW);
    ensure(
        matches!(empty, Err(Error::QueueEmpty | Error::TimedOut)),
        || format!("an empty port gives {empty:?}"),
    )
}

/// Runs something with bit 0 of the event enabled and upcalls let in; gives the number of upcalls
/// and the bits that they have collected.
fn with_upcalls(
    subject: &Subject<'_>,
    event: &Event<'_, Native>,
    action: impl FnOnce() -> Result<(), Error>,
) -> Result<(u64, u64), Miss> {
    let word = event.word()?;
    let before = upcall::count();
    subject.machine.vcpu_page().set_upcall_vector(UPCALL_VECTOR);
    word.enable(0b1);
    enable_interrupts();
    let outcome = action();
    disable_interrupts();
    subject.machine.vcpu_page().set_upcall_vector(0);
    let upcalls = upcall::count() - before;
    let bits = event.take(0b1)?;
    outcome?;
    Ok((upcalls, bits))
}

fn in_one_second(subject: &Subject<'_>) -> Deadline {
    Deadline(subject.machine.now_ns() + 1000 * MS)
}

type OwnEvent<'a> = (Event<'a, Native>, Event<'a, Native>);

fn own_event<'a>(subject: &Subject<'a>) -> Result<OwnEvent<'a>, Miss> {
    let own = subject
        .client
        .all(ObjectKind::Event, Rights::WAIT)
        .find_map(|entry| {
            let name = entry.name.as_str();
            let wait = subject.client.event(name, Rights::WAIT).ok()?;
            Some((subject.client.event(name, Rights::NOTIFY).ok()?, wait))
        });
    own.ok_or(Miss::Skipped("an event with notify and wait"))
}
