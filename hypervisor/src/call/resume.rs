//! How a vcpu that has slept in a call goes on with it.

use nuncio_abi::{Error, MESSAGE_HANDLES};

use crate::object::{Arrival, Found, Traffic, Waiting};

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
    match caller.vcpu.sleeper().take_arrival() {
        Some(arrival) => Some(arrive(caller, arrival, answer)),
        None => look_again(caller, answer, effects),
    }
}

#[inline(always)]
fn arrive(caller: Caller<'_>, arrival: Arrival, answer: &mut impl Answer) -> Outcome {
    let values = match arrival {
        Arrival::Message(values) => {
            Traffic::count(&caller.domain.traffic.received);
            values
        }
        Arrival::Answer(values) => {
            caller.domain.handles.lock().release(MESSAGE_HANDLES);
            values
        }
        Arrival::Exit(values) => values,
    };
    answer.full(&values);
    Outcome::Done
}

/// It was woken for something else, or has to deliver by itself what has come.
#[inline(never)]
fn look_again(
    caller: Caller<'_>,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Option<Outcome> {
    let waiting = match caller.vcpu.sleeper().look() {
        Found::Answer(deadline) => return Some(call::wait(caller, deadline, effects)),
        Found::Run(monitor) => return Some(run::wait(caller, &monitor)),
        Found::Taken(waiting) => waiting,
    };
    let arrived = |arrival, answer| Some(arrive(caller, arrival, answer));
    match waiting {
        // It came from another CPU after `take_arrival` had looked.
        Waiting::Received(values) => arrived(Arrival::Message(values), answer),
        Waiting::Answered(values) => arrived(Arrival::Answer(values), answer),
        Waiting::Exited(values) => arrived(Arrival::Exit(values), answer),
        // What is the loop's business, and what `look` does not take.
        Waiting::Nothing
        | Waiting::Upcall
        | Waiting::Monitor(_)
        | Waiting::Resumed(_)
        | Waiting::Answer(_)
        | Waiting::Run(_) => None,
        Waiting::Event(deadline) => Some(wait::sleep(caller, deadline, effects)),
        Waiting::Message(awaited) => Some(receive::resume(caller, awaited, answer, effects)),
        Waiting::Room(awaited) => Some(send::resume(caller, awaited, effects)),
        Waiting::Packed(packed) => Some(call::unpack(caller, packed, answer, effects).into()),
        Waiting::Unanswered => {
            caller.domain.handles.lock().release(MESSAGE_HANDLES);
            Some(Outcome::Error(Error::PeerGone))
        }
        Waiting::Ended => Some(Outcome::Error(Error::PeerGone)),
    }
}
