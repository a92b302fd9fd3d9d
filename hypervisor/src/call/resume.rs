//! How a vcpu that has slept in a call goes on with it.

use nuncio_abi::{Deadline, Error, MESSAGE_HANDLES};

use crate::object::{Arrival, Traffic, Waiting};

use super::{call, receive, run, send, wait, Answer, Caller, Effects, Outcome};

/// Goes on with the call that has put the vcpu to sleep; `None` if none has.
///
/// Mostly whoever has woken it has left the values for it.
#[inline]
pub fn resume(
    caller: Caller<'_>,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Option<Outcome> {
    let values = match caller.vcpu.sleeper().take_arrival() {
        Some(Arrival::Message(values)) => {
            Traffic::count(&caller.domain.traffic.received);
            values
        }
        Some(Arrival::Answer(values)) => {
            caller.domain.handles.lock().release(MESSAGE_HANDLES);
            values
        }
        Some(Arrival::Exit(values)) => values,
        None => return look_again(caller, answer, effects),
    };
    answer.full(&values);
    Some(Outcome::Done)
}

/// It was woken for something else, or has to deliver by itself what has come.
#[inline(never)]
fn look_again(
    caller: Caller<'_>,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Option<Outcome> {
    if caller.vcpu.sleeper().awaits_another_cpu() {
        return Some(Outcome::Block(Deadline::NEVER));
    }
    match caller.vcpu.sleeper().take() {
        // What `take_arrival` has taken, and what is the loop's business.
        Waiting::Nothing
        | Waiting::Upcall
        | Waiting::Received(_)
        | Waiting::Answered(_)
        | Waiting::Exited(_)
        | Waiting::Elsewhere
        | Waiting::Monitor(_)
        | Waiting::Resumed(_) => None,
        Waiting::Event(deadline) => Some(wait::sleep(caller, deadline, effects)),
        Waiting::Message(awaited) => Some(receive::resume(caller, awaited, answer, effects)),
        Waiting::Room(awaited) => Some(send::resume(caller, awaited, effects)),
        Waiting::Answer(awaited) => Some(call::wait(caller, awaited, effects)),
        Waiting::Packed(packed) => Some(call::unpack(caller, packed, answer, effects).into()),
        Waiting::Unanswered => {
            caller.domain.handles.lock().release(MESSAGE_HANDLES);
            Some(Outcome::Error(Error::PeerGone))
        }
        Waiting::Run(monitor) => Some(run::wait(caller, monitor)),
        Waiting::Settled(result) => Some(result.into()),
        Waiting::Ended => Some(Outcome::Error(Error::PeerGone)),
    }
}
