//! `reply`: answer a call, and receive the next message if asked to.

use nuncio_abi::{CallToken, Deadline, Error, Handle, Outgoing, Rights};

use crate::object::{HandleTable, Port, Traffic, Wake};

use super::message::{fetch, pack, short};
use super::receive::{conclude, receive_from, Wanted};
use super::send::close;
use super::{Answer, Caller, Effects, Outcome};

#[inline(always)]
pub(super) fn reply(
    caller: Caller<'_>,
    port: Handle,
    token: CallToken,
    message: Outgoing,
    then_receive: bool,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let mut table = caller.domain.handles.lock();
    let wanted = Wanted {
        port,
        deadline: Deadline::NEVER,
        buffer: match message {
            Outgoing::Registers { .. } => 0,
            Outgoing::Memory { address, .. } => address,
        },
    };
    let found = match table.port(port, Rights::RECEIVE) {
        Ok((port, _)) => port,
        Err(error) => return Outcome::Error(error),
    };
    let answered = answer_call(caller, &table, found, token, message, then_receive, effects);
    if answered.is_err() || !then_receive {
        return answered.into();
    }
    let delivery = receive_from(caller, found, &wanted, answer, effects);
    conclude(caller, &mut table, &wanted, delivery, answer, effects)
}

#[inline(always)]
fn answer_call(
    caller: Caller<'_>,
    table: &HandleTable,
    port: &Port,
    token: CallToken,
    message: Outgoing,
    then_receive: bool,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let left = short(message, 0).and_then(|values| port.answer_short(token, &values));
    if let Some(wake) = left {
        give(wake, then_receive, effects);
        Traffic::count(&caller.domain.traffic.sent);
        return Ok(());
    }
    answer_long(caller, table, port, token, message, then_receive, effects)
}

/// An answer that does not come and go in registers alone.
#[inline(never)]
fn answer_long(
    caller: Caller<'_>,
    table: &HandleTable,
    port: &Port,
    token: CallToken,
    message: Outgoing,
    then_receive: bool,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let bytes = fetch(&caller.domain.space, message)?;
    let carried = pack(&caller.domain.space, table, message)?;
    match port.answer(token, &bytes, carried) {
        Ok(wake) => give(wake, then_receive, effects),
        Err((error, carried)) => {
            close(carried, effects);
            return Err(error);
        }
    }
    Traffic::count(&caller.domain.traffic.sent);
    Ok(())
}

/// Whoever waits for the next message gives the CPU back to the one that it has served.
#[inline(always)]
fn give(wake: Wake, then_receive: bool, effects: &mut impl Effects) {
    if then_receive {
        effects.hand_back(wake);
    } else {
        effects.wake(wake);
    }
}
