//! `reply`: answer a call, and receive the next message if asked to.

use nuncio_abi::{CallToken, Deadline, Error, Handle, Outgoing, Rights};

use crate::object::Traffic;

use super::message::Parcel;
use super::receive::receive;
use super::send::close;
use super::{Answer, Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn reply(
    caller: Caller<'_>,
    port: Handle,
    token: CallToken,
    message: Outgoing,
    then_receive: bool,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    // The second time the answer has been given, and only the next message is waited for.
    if !caller.vcpu.take_replied() {
        let answered = answer_call(caller, port, token, message, then_receive, effects);
        if answered.is_err() || !then_receive {
            return answered.into();
        }
    }
    let buffer = match message {
        Outgoing::Registers { .. } => 0,
        Outgoing::Memory { address, .. } => address,
    };
    let outcome = receive(caller, port, Deadline::NEVER, buffer, answer, effects);
    if matches!(outcome, Outcome::Block(_)) {
        caller.vcpu.set_replied();
    }
    outcome
}

fn answer_call(
    caller: Caller<'_>,
    port: Handle,
    token: CallToken,
    message: Outgoing,
    then_receive: bool,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let table = caller.domain.handles.lock();
    let (port, _) = table.port(port, Rights::RECEIVE)?;
    let parcel = Parcel::fetch(&caller.domain.space, message)?;
    let carried = parcel.pack(&table)?;
    match port.answer(token, parcel.message, carried) {
        // Whoever waits for the next message gives the CPU back to the one that it has served.
        Ok(wake) if then_receive => effects.hand_over(wake),
        Ok(wake) => effects.wake(wake),
        Err((error, carried)) => {
            close(carried, effects);
            return Err(error);
        }
    }
    Traffic::count(&caller.domain.traffic.sent);
    Ok(())
}
