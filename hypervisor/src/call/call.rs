//! `call`: send a message and wait for the answer to it.
//!
//! The vcpu sleeps and makes the same call again when it is woken: its [`AnswerCell`] tells the
//! second time from the first.
//!
//! [`AnswerCell`]: crate::object::AnswerCell

use alloc::vec::Vec;

use nuncio_abi::{Deadline, Error, Handle, Message, Outgoing, Rights, MESSAGE_HANDLES};

use crate::object::{Answer as Ended, CallingVcpu, Held, Traffic};

use super::message::{deliver, deliver_handles, Parcel, Place};
use super::send::close;
use super::{block_until, Answer, Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn call(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    deadline: Deadline,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let cell = caller.vcpu.answer();
    if !cell.is_in_use() {
        return match begin(caller, port, message, effects) {
            Ok(()) => wait(caller, deadline, effects),
            Err(error) => Outcome::Error(error),
        };
    }
    if cell.is_awaited() {
        return wait(caller, deadline, effects);
    }
    match cell.take() {
        Ended::Here(received, handles) => {
            finish(caller, message, &received, handles, answer, effects).into()
        }
        _ => {
            caller.domain.handles.lock().release(MESSAGE_HANDLES);
            Outcome::Error(Error::PeerGone)
        }
    }
}

fn begin(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let mut table = caller.domain.handles.lock();
    let (port, badge) = table.port(port, Rights::SEND)?;
    let port = port.clone();
    // The answer is written where the message was.
    let buffer = buffer(caller, message)?;
    let parcel = Parcel::fetch(&caller.domain.space, message)?;
    let carried = parcel.pack(&table)?;
    let to = CallingVcpu {
        vcpu: caller.vcpu.id(),
        cell: caller.vcpu.answer().clone(),
        has_buffer: buffer.is_some(),
    };
    // The answer may bring handles, and an answer that came must not fail.
    let places = table.places();
    if let Err(error) = table.reserve(MESSAGE_HANDLES) {
        close(carried, effects);
        return Err(error);
    }
    match port.call(&parcel.message, carried, badge, to) {
        Ok(wake) => {
            Traffic::count(&caller.domain.traffic.sent);
            wake.into_iter().for_each(|wake| effects.hand_over(wake));
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

fn wait(caller: Caller<'_>, deadline: Deadline, effects: &mut impl Effects) -> Outcome {
    let outcome = block_until(deadline, Error::TimedOut, effects);
    if matches!(outcome, Outcome::Error(_)) {
        caller.domain.handles.lock().release(MESSAGE_HANDLES);
        caller.vcpu.abandon_call(&mut |wake| effects.wake(wake));
    }
    outcome
}

fn finish(
    caller: Caller<'_>,
    message: Outgoing,
    received: &Message,
    handles: Vec<Held>,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let mut table = caller.domain.handles.lock();
    table.release(MESSAGE_HANDLES);
    let delivered = buffer(caller, message).and_then(|buffer| {
        let values = deliver(received, handles.len(), 0, None, buffer)?;
        Ok((values, buffer))
    });
    match delivered {
        Ok((mut values, buffer)) => {
            if !handles.is_empty() {
                deliver_handles(&mut table, handles, received.length, buffer, &mut values);
            }
            answer.full(&values);
            Ok(())
        }
        // The domain has taken its own buffer away while it waited.
        Err(error) => {
            close(handles, effects);
            Err(error)
        }
    }
}

fn buffer(caller: Caller<'_>, message: Outgoing) -> Result<Option<Place>, Error> {
    match message {
        Outgoing::Registers { .. } => Ok(None),
        Outgoing::Memory { address, .. } => {
            let access = Rights::READ | Rights::WRITE;
            Place::find(&caller.domain.space, address, access).map(Some)
        }
    }
}
