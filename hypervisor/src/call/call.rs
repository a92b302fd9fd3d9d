//! `call`: send a message and wait for the answer to it.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Error, Handle, Outgoing, Rights, MESSAGE_HANDLES};

use crate::object::{
    deliver, AwaitedAnswer, Buffer, CallingVcpu, HandleTable, PackedAnswer, Port, Traffic, Waiting,
};

use super::message::{deliver_handles, fetch, pack, short};
use super::send::close;
use super::{block_until, Answer, Caller, Effects, Outcome};

#[inline(always)]
pub(super) fn call(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Outcome {
    match begin(caller, port, message, deadline, effects) {
        Ok(awaited) => wait(caller, awaited, effects),
        Err(error) => Outcome::Error(error),
    }
}

#[inline(always)]
fn begin(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Result<AwaitedAnswer, Error> {
    let mut table = caller.domain.handles.lock();
    let (port, badge) = table.port(port, Rights::SEND)?;
    let port = port.clone();
    if let Some(values) = short(message, badge) {
        if table.has_room(MESSAGE_HANDLES) {
            let sleeper = caller.vcpu.sleeper();
            if let Some((token, wake)) = port.call_short(&values, caller.vcpu.id(), sleeper) {
                table.reserve(MESSAGE_HANDLES)?;
                Traffic::count(&caller.domain.traffic.sent);
                effects.hand_over(wake);
                return Ok(AwaitedAnswer {
                    port: Some(port),
                    token,
                    deadline,
                    buffer: None,
                });
            }
        }
    }
    begin_long(caller, &mut table, port, badge, message, deadline, effects)
}

/// A message that does not come and go in registers alone, or for which nobody waits.
#[inline(never)]
fn begin_long(
    caller: Caller<'_>,
    table: &mut HandleTable,
    port: Arc<Port>,
    badge: u64,
    message: Outgoing,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Result<AwaitedAnswer, Error> {
    // The answer is written where the message was.
    let buffer = buffer(caller, message)?;
    let bytes = fetch(&caller.domain.space, message)?;
    let carried = pack(&caller.domain.space, table, message)?;
    let to = CallingVcpu {
        vcpu: caller.vcpu.id(),
        sleeper: caller.vcpu.sleeper().clone(),
    };
    // The answer may bring handles, and an answer that came must not fail.
    let places = table.places();
    if let Err(error) = table.reserve(MESSAGE_HANDLES) {
        close(carried, effects);
        return Err(error);
    }
    match port.call(&bytes, carried, badge, to) {
        Ok((token, wake)) => {
            Traffic::count(&caller.domain.traffic.sent);
            wake.into_iter().for_each(|wake| effects.hand_over(wake));
            Ok(AwaitedAnswer {
                port: Some(port),
                token,
                deadline,
                buffer,
            })
        }
        Err((error, carried)) => {
            table.release(MESSAGE_HANDLES);
            table.shrink_to(places);
            close(carried, effects);
            Err(error)
        }
    }
}

/// Sleeps until the answer comes, unless the deadline has passed.
#[inline(always)]
pub(super) fn wait(
    caller: Caller<'_>,
    awaited: AwaitedAnswer,
    effects: &mut impl Effects,
) -> Outcome {
    let outcome = block_until(awaited.deadline, Error::TimedOut, effects);
    if matches!(outcome, Outcome::Block(_)) {
        caller.vcpu.sleeper().wait_for(Waiting::Answer(awaited));
    } else {
        caller.domain.handles.lock().release(MESSAGE_HANDLES);
        awaited.cancel();
    }
    outcome
}

/// Delivers an answer that could not be left as values.
pub(super) fn unpack(
    caller: Caller<'_>,
    packed: PackedAnswer,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let PackedAnswer {
        message,
        handles,
        buffer,
    } = packed;
    let mut table = caller.domain.handles.lock();
    table.release(MESSAGE_HANDLES);
    let place = buffer.as_ref().map(Buffer::place).transpose();
    let delivered = place.and_then(|place| {
        let values = deliver(&message, handles.len(), 0, None, place)?;
        Ok((values, place))
    });
    match delivered {
        Ok((mut values, place)) => {
            if !handles.is_empty() {
                deliver_handles(&mut table, handles, message.length, place, &mut values);
            }
            answer.full(&values);
            Ok(())
        }
        // The domain has lost its own buffer while it waited.
        Err(error) => {
            close(handles, effects);
            Err(error)
        }
    }
}

#[inline(always)]
fn buffer(caller: Caller<'_>, message: Outgoing) -> Result<Option<Buffer>, Error> {
    match message {
        Outgoing::Registers { .. } => Ok(None),
        Outgoing::Memory { address, .. } => {
            let buffer = Buffer::new(caller.domain.space.clone(), address);
            buffer.place()?.check()?;
            Ok(Some(buffer))
        }
    }
}
