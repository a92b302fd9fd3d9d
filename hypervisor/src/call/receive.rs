//! `receive`: take the next message from a port, or wait for one.

use alloc::sync::Arc;

use nuncio_abi::{CallToken, Deadline, Error, Handle, Rights, MAX_VALUES, MESSAGE_HANDLES};

use crate::object::{
    deliver, fits_registers, AwaitedMessage, Buffer, Delivery, HandleTable, Place, Port, Queued,
    Sleeper, Taken, Traffic, Waiting,
};

use super::message::deliver_handles;
use super::{block_until, Answer, Caller, Effects, Outcome};

/// What a vcpu wants to receive.
pub(super) struct Wanted {
    pub(super) port: Handle,
    pub(super) deadline: Deadline,
    /// The address of a buffer, or 0.
    pub(super) buffer: u64,
}

#[inline(never)]
pub(super) fn receive(
    caller: Caller<'_>,
    port: Handle,
    deadline: Deadline,
    buffer: u64,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let wanted = Wanted {
        port,
        deadline,
        buffer,
    };
    let mut table = caller.domain.handles.lock();
    receive_with(caller, &mut table, wanted, answer, effects)
}

/// From here on nobody leaves the vcpu a message; one may have been left until now.
pub(super) fn wait_no_more(caller: Caller<'_>, port: Handle) {
    let table = caller.domain.handles.lock();
    if let Ok((port, _)) = table.port(port, Rights::RECEIVE) {
        port.unblock_receiver();
    }
}

/// Receives after a sleep in which no message was left for the vcpu, and none will be.
#[inline(never)]
pub(super) fn resume(
    caller: Caller<'_>,
    awaited: AwaitedMessage,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let wanted = Wanted {
        port: awaited.port,
        deadline: awaited.deadline,
        buffer: awaited.buffer.as_ref().map_or(0, Buffer::address),
    };
    let mut table = caller.domain.handles.lock();
    receive_with(caller, &mut table, wanted, answer, effects)
}

/// Receives with the caller's table in hand.
#[inline(always)]
pub(super) fn receive_with(
    caller: Caller<'_>,
    table: &mut HandleTable,
    wanted: Wanted,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let delivery = match table.port(wanted.port, Rights::RECEIVE) {
        Ok((port, _)) => receive_from(caller, port, &wanted, answer, effects),
        Err(error) => Err(error),
    };
    conclude(caller, table, &wanted, delivery, answer, effects)
}

/// Takes a message that has no handles, or goes to sleep.
#[inline(always)]
pub(super) fn receive_from(
    caller: Caller<'_>,
    port: &Port,
    wanted: &Wanted,
    answer: &mut impl Answer,
    effects: &impl Effects,
) -> Result<Delivery, Error> {
    let buffer = place(caller, wanted.buffer)?;
    let accept = |queued: &Queued| {
        if !queued.handles.is_empty() {
            return Ok(Delivery::Refused);
        }
        answer.full(&values(queued, buffer)?);
        Ok(Delivery::Done)
    };
    let delivery = port.receive(caller.vcpu.id(), accept, || {
        check(buffer)?;
        sleep(caller, wanted, effects)
    });
    if matches!(delivery, Err(Error::PeerGone | Error::WrongState)) {
        check(buffer)?;
    }
    delivery
}

/// What is left to do.
#[inline(always)]
pub(super) fn conclude(
    caller: Caller<'_>,
    table: &mut HandleTable,
    wanted: &Wanted,
    delivery: Result<Delivery, Error>,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let received = match delivery {
        Ok(Delivery::Awaited) => return Outcome::Block(wanted.deadline),
        Ok(Delivery::Done) => Ok(()),
        Ok(Delivery::DoneFor(call)) => finish(table, wanted, call, effects),
        Ok(Delivery::Refused) => receive_handles(caller, table, wanted, answer, effects),
        Err(error) => Err(error),
    };
    if received.is_ok() {
        Traffic::count(&caller.domain.traffic.received);
    }
    received.into()
}

/// Somebody waits for the answer to the message, or for the room that it has left.
#[cold]
fn finish(
    table: &HandleTable,
    wanted: &Wanted,
    call: Option<CallToken>,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let (port, _) = table.port(wanted.port, Rights::RECEIVE)?;
    let Taken {
        caller,
        next,
        sender,
    } = port.taken(call);
    if let Some(caller) = caller {
        effects.serve(caller, next);
    }
    sender.into_iter().for_each(|sender| effects.wake(sender));
    Ok(())
}

/// The first message has handles, so the receiver's table needs room first.
#[cold]
fn receive_handles(
    caller: Caller<'_>,
    table: &mut HandleTable,
    wanted: &Wanted,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let port = table.port(wanted.port, Rights::RECEIVE)?.0.clone();
    let buffer = place(caller, wanted.buffer)?;
    check(buffer)?;
    let mut registers = [0; MAX_VALUES];
    let mut length = 0;
    let (handles, call) = port.receive_handles(|queued| {
        length = queued.message.length;
        if buffer.is_none() && !fits_registers(&queued.message, queued.handles.len()) {
            return Err(Error::BufferTooSmall);
        }
        // Only then room in the table, and only then the buffer: what fails has taken no message.
        table.ensure(MESSAGE_HANDLES)?;
        registers = values(queued, buffer)?;
        Ok(())
    })?;
    deliver_handles(table, handles, length, buffer, &mut registers);
    answer.full(&registers);
    finish(table, wanted, call, effects)
}

#[inline]
fn values(queued: &Queued, buffer: Option<Place<'_>>) -> Result<[u64; MAX_VALUES], Error> {
    let handles = queued.handles.len();
    deliver(&queued.message, handles, queued.badge, queued.token, buffer)
}

/// A buffer for what comes in; address 0 is none.
#[inline]
fn place(caller: Caller<'_>, address: u64) -> Result<Option<Place<'_>>, Error> {
    match address {
        0 => Ok(None),
        address => Place::new(&caller.domain.space, address).map(Some),
    }
}

/// Whether the buffer is there, for a `receive` that writes nothing to it.
fn check(buffer: Option<Place<'_>>) -> Result<(), Error> {
    buffer.map_or(Ok(()), Place::check)
}

#[inline]
fn buffer_of(caller: Caller<'_>, address: u64) -> Option<Buffer> {
    (address != 0).then(|| Buffer::new(caller.domain.space.clone(), address))
}

/// Goes to sleep until a message comes, if the vcpu is to wait for it.
#[inline(always)]
fn sleep(
    caller: Caller<'_>,
    wanted: &Wanted,
    effects: &impl Effects,
) -> Result<Arc<Sleeper>, Error> {
    if wanted.deadline == Deadline::NOW {
        return Err(Error::QueueEmpty);
    }
    // An event would not wake the guest out of this call, so it ends the call instead.
    if caller.vcpu.page().ready() != 0 {
        return Err(Error::Interrupted);
    }
    if let Outcome::Error(error) = block_until(wanted.deadline, Error::TimedOut, effects) {
        return Err(error);
    }
    let sleeper = caller.vcpu.sleeper();
    sleeper.wait_for(Waiting::Message(AwaitedMessage {
        port: wanted.port,
        deadline: wanted.deadline,
        buffer: buffer_of(caller, wanted.buffer),
    }));
    Ok(sleeper.clone())
}
