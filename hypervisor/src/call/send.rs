//! `send`: put a message on a port, waiting for room if asked to.

use alloc::vec::Vec;

use nuncio_abi::{Deadline, Error, Handle, Outgoing, Rights};

use crate::object::{AwaitedRoom, Held, Sent, Traffic, Waiting};

use super::message::{fetch, pack};
use super::{block_until, Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn send(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let (port, badge) = handles.port(port, Rights::SEND)?;
    let bytes = fetch(&caller.domain.space, message)?;
    let carried = pack(&caller.domain.space, &handles, message)?;
    if port.is_console() {
        effects.console(caller.domain, &bytes);
        close(carried, effects);
    } else {
        match port.send(&bytes, carried, badge) {
            Ok(Some(wake)) => effects.wake(wake),
            Ok(None) => {}
            Err((error, carried)) => {
                close(carried, effects);
                return Err(error);
            }
        }
    }
    Traffic::count(&caller.domain.traffic.sent);
    Ok(())
}

#[inline(never)]
pub(super) fn send_waiting(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Outcome {
    match send_in_turn(caller, port, message, deadline, effects) {
        Ok(None) => Outcome::Done,
        Ok(Some(awaited)) => sleep(caller, awaited),
        Err(error) => Outcome::Error(error),
    }
}

/// Looks again after a sleep: whether it is its turn, or it has to give up. It keeps its place in the
/// line as long as it sleeps.
#[inline(never)]
pub(super) fn resume(
    caller: Caller<'_>,
    awaited: AwaitedRoom,
    effects: &mut impl Effects,
) -> Outcome {
    let AwaitedRoom {
        handle,
        message,
        deadline,
        ..
    } = awaited;
    let sent = send_in_turn(caller, handle, message, deadline, effects);
    if let Ok(Some(awaited)) = sent {
        return sleep(caller, awaited);
    }
    awaited.leave(&mut |wake| effects.wake(wake));
    sent.map(|_| ()).into()
}

fn sleep(caller: Caller<'_>, awaited: AwaitedRoom) -> Outcome {
    let deadline = awaited.deadline;
    caller.vcpu.sleeper().wait_for(Waiting::Room(awaited));
    Outcome::Block(deadline)
}

/// Sends if it is the caller's turn; else says what it waits for.
fn send_in_turn(
    caller: Caller<'_>,
    handle: Handle,
    message: Outgoing,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Result<Option<AwaitedRoom>, Error> {
    let handles = caller.domain.handles.lock();
    let (port, badge) = handles.port(handle, Rights::SEND)?;
    if port.is_console() {
        drop(handles);
        return send(caller, handle, message, effects).map(|()| None);
    }
    let bytes = fetch(&caller.domain.space, message)?;
    let carried = pack(&caller.domain.space, &handles, message)?;
    let sender = caller.vcpu.id();
    let may_sleep = || may_sleep(caller, deadline, effects);
    match port.send_in_turn(&bytes, carried, badge, sender, may_sleep) {
        Ok(Sent::Done(wake)) => {
            wake.into_iter().for_each(|wake| effects.wake(wake));
            Traffic::count(&caller.domain.traffic.sent);
            Ok(None)
        }
        Ok(Sent::Awaits(carried)) => {
            close(carried, effects);
            Ok(Some(AwaitedRoom {
                handle,
                message,
                deadline,
                port: port.clone(),
                sender,
            }))
        }
        Err((error, carried)) => {
            close(carried, effects);
            Err(error)
        }
    }
}

/// Whether the caller may wait for room.
fn may_sleep(caller: Caller<'_>, deadline: Deadline, effects: &impl Effects) -> Result<(), Error> {
    if deadline == Deadline::NOW {
        return Err(Error::QueueFull);
    }
    // An event would not wake the guest out of this call, so it ends the call instead.
    if caller.vcpu.page().ready() != 0 {
        return Err(Error::Interrupted);
    }
    match block_until(deadline, Error::TimedOut, effects) {
        Outcome::Error(error) => Err(error),
        _ => Ok(()),
    }
}

/// Gives up the copies of handles that went nowhere.
#[inline]
pub(super) fn close(carried: Vec<Held>, effects: &mut impl Effects) {
    if !carried.is_empty() {
        Held::close_all(carried, &mut |wake| effects.wake(wake));
    }
}
