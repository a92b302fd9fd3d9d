//! `call`: send a message and wait for the answer to it.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Error, Handle, Outgoing, Rights, MESSAGE_HANDLES};

use crate::object::{
    deliver, AwaitedAnswer, Buffer, CallingVcpu, HandleTable, PackedAnswer, Port, Traffic, Waiting,
    Wake,
};

use super::lend::lend_to_busy;
use super::message::{deliver_handles, fetch, pack, short};
use super::send::close;
use super::{block_until, Answer, Caller, Effects, Outcome};

/// How many calls that wait for each other in a circle are found.
const MOST_CALLS_IN_A_CIRCLE: usize = 16;

#[inline(always)]
pub(super) fn call(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Outcome {
    match begin(caller, port, message, deadline, effects) {
        Ok(()) => wait(caller, deadline, effects),
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
) -> Result<(), Error> {
    let mut table = caller.domain.handles.lock();
    let (port, badge) = table.port(port, Rights::SEND)?;
    if let Some(values) = short(message, badge) {
        if table.has_room(MESSAGE_HANDLES) {
            let sleeper = caller.vcpu.sleeper();
            let sleep = |token| {
                sleeper.wait_for(Waiting::Answer(AwaitedAnswer {
                    port: Some(port.clone()),
                    token,
                    deadline,
                    buffer: None,
                }));
            };
            if let Some(wake) = port.call_short(&values, caller.vcpu.id(), sleeper, sleep) {
                // It has room, so this does not fail; the call has been made.
                let _ = table.reserve(MESSAGE_HANDLES);
                Traffic::count(&caller.domain.traffic.sent);
                effects.hand_over(wake);
                return Ok(());
            }
        }
    }
    let port = port.clone();
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
) -> Result<(), Error> {
    // The answer is written where the message was.
    let buffer = buffer(caller, message)?;
    let bytes = fetch(&caller.domain.space, message)?;
    let carried = pack(&caller.domain.space, table, message)?;
    let sleeper = caller.vcpu.sleeper();
    let waits_for_ever = deadline == Deadline::NEVER;
    if waits_for_ever && port.leads_to(sleeper, MOST_CALLS_IN_A_CIRCLE) {
        close(carried, effects);
        return Err(Error::WrongState);
    }
    let to = CallingVcpu {
        vcpu: caller.vcpu.id(),
        sleeper: sleeper.clone(),
    };
    let sleep = |token| {
        sleeper.wait_for(Waiting::Answer(AwaitedAnswer {
            port: Some(port.clone()),
            token,
            deadline,
            buffer,
        }));
    };
    // The answer may bring handles, and an answer that came must not fail.
    let places = table.places();
    if let Err(error) = table.reserve(MESSAGE_HANDLES) {
        close(carried, effects);
        return Err(error);
    }
    match port.call(&bytes, carried, badge, to, sleep) {
        Ok(wake) => {
            Traffic::count(&caller.domain.traffic.sent);
            wake.into_iter().for_each(|wake| effects.hand_over(wake));
            // A receiver that has waited for the call takes it. If it had something else to do, another
            // CPU may have closed the circle at the same moment; then both see it.
            if matches!(wake, Some(Wake::Blocked(_))) {
                return Ok(());
            }
            if waits_for_ever && port.leads_to(sleeper, MOST_CALLS_IN_A_CIRCLE) {
                if let Some(awaited) = sleeper.take_awaited_answer() {
                    table.release(MESSAGE_HANDLES);
                    awaited.cancel();
                    return Err(Error::WrongState);
                }
            }
            lend_to_busy(caller.vcpu.id(), &port, effects);
            Ok(())
        }
        Err((error, carried)) => {
            table.release(MESSAGE_HANDLES);
            table.shrink_to(places);
            close(carried, effects);
            Err(error)
        }
    }
}

/// Goes on sleeping until the answer comes, unless the deadline has passed.
#[inline(always)]
pub(super) fn wait(caller: Caller<'_>, deadline: Deadline, effects: &mut impl Effects) -> Outcome {
    match block_until(deadline, Error::TimedOut, effects) {
        Outcome::Block(deadline) => Outcome::Block(deadline),
        _ => give_up(caller, deadline, effects),
    }
}

/// The deadline has passed. An answer that has come at the last moment counts: whoever has left it
/// wakes the caller, which finds it then.
#[cold]
fn give_up(caller: Caller<'_>, deadline: Deadline, effects: &mut impl Effects) -> Outcome {
    effects.end_lending(caller.vcpu.id());
    let Some(awaited) = caller.vcpu.sleeper().take_awaited_answer() else {
        return Outcome::Block(deadline);
    };
    caller.domain.handles.lock().release(MESSAGE_HANDLES);
    awaited.cancel();
    Outcome::Error(Error::TimedOut)
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
