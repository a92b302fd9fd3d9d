//! `receive`: take the next message from a port, or wait for one.

use nuncio_abi::{Deadline, Error, Handle, Rights, MAX_VALUES, MESSAGE_HANDLES};

use crate::object::{fits_registers, Delivery, HandleTable, Queued, Traffic};

use super::message::{deliver, deliver_handles, Place};
use super::{block_until, Answer, Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn receive(
    caller: Caller<'_>,
    port: Handle,
    deadline: Deadline,
    buffer: u64,
    answer: &mut impl Answer,
    effects: &impl Effects,
) -> Outcome {
    match try_receive(caller, port, buffer, answer) {
        Err(Error::QueueEmpty) => wait_for_message(caller, port, deadline, effects),
        result => result.into(),
    }
}

fn try_receive(
    caller: Caller<'_>,
    port: Handle,
    buffer: u64,
    answer: &mut impl Answer,
) -> Result<(), Error> {
    let mut handles = caller.domain.handles.lock();
    let (port_found, _) = handles.port(port, Rights::RECEIVE)?;
    let buffer = Place::buffer(&caller.domain.space, buffer)?;
    let (delivery, _) = port_found.receive(|queued| {
        if !queued.handles.is_empty() {
            return Ok(Delivery::Refused);
        }
        answer.full(&values(queued, buffer)?);
        Ok(Delivery::Done)
    })?;
    if delivery == Delivery::Refused {
        receive_handles(&mut handles, port, buffer, answer)?;
    }
    Traffic::count(&caller.domain.traffic.received);
    Ok(())
}

/// The first message has handles, so the receiver's table needs room first.
#[cold]
fn receive_handles(
    table: &mut HandleTable,
    port: Handle,
    buffer: Option<Place>,
    answer: &mut impl Answer,
) -> Result<(), Error> {
    let port = table.port(port, Rights::RECEIVE)?.0.clone();
    let mut registers = [0; MAX_VALUES];
    let mut length = 0;
    let (_, handles) = port.receive(|queued| {
        length = queued.message.length;
        if buffer.is_none() && !fits_registers(&queued.message, queued.handles.len()) {
            return Err(Error::BufferTooSmall);
        }
        // Only then room in the table, and only then the buffer: nothing fails after either.
        table.ensure(MESSAGE_HANDLES)?;
        registers = values(queued, buffer)?;
        Ok(Delivery::WithHandles)
    })?;
    deliver_handles(table, handles, length, buffer, &mut registers);
    answer.full(&registers);
    Ok(())
}

#[inline]
fn values(queued: &Queued, buffer: Option<Place>) -> Result<[u64; MAX_VALUES], Error> {
    let handles = queued.handles.len();
    deliver(&queued.message, handles, queued.badge, queued.token, buffer)
}

fn wait_for_message(
    caller: Caller<'_>,
    port: Handle,
    deadline: Deadline,
    effects: &impl Effects,
) -> Outcome {
    if deadline == Deadline::NOW {
        return Outcome::Error(Error::QueueEmpty);
    }
    // An event would not wake the guest out of this call, so it ends the call instead.
    if caller.vcpu.page().ready() != 0 {
        return Outcome::Error(Error::Interrupted);
    }
    let outcome = block_until(deadline, Error::TimedOut, effects);
    if matches!(outcome, Outcome::Block(_)) {
        let handles = caller.domain.handles.lock();
        match handles.port(port, Rights::RECEIVE) {
            Ok((port, _)) if port.block_receiver() => {}
            // A message came meanwhile: the same call again will find it.
            _ => return Outcome::Block(Deadline::NOW),
        }
    }
    outcome
}
