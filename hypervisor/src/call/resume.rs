//! How a vcpu that has slept in a call goes on with it.

use nuncio_abi::{Deadline, Error, MESSAGE_HANDLES};

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

/// It was woken for something else, or has to deliver by itself what has come. That may come only now.
#[inline(never)]
pub(super) fn look_again(
    caller: Caller<'_>,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Option<Outcome> {
    let sleeper = caller.vcpu.sleeper();
    match sleeper.look() {
        Found::Message(port) => {
            receive::wait_no_more(caller, port);
            go_on(caller, sleeper.take(), answer, effects)
        }
        Found::Answer(deadline) => Some(call::wait(caller, deadline, effects)),
        Found::Run(vcpu) => Some(run::wait(caller, vcpu)),
        Found::Elsewhere => Some(Outcome::Block(Deadline::NEVER)),
        Found::Taken(waiting) => go_on(caller, waiting, answer, effects),
    }
}

/// Goes on with what nobody leaves anything for any more.
fn go_on(
    caller: Caller<'_>,
    waiting: Waiting,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Option<Outcome> {
    Some(match waiting {
        // What is the loop's business, and what `look` does not take.
        Waiting::Nothing
        | Waiting::Upcall
        | Waiting::Elsewhere
        | Waiting::Monitor(_)
        | Waiting::Resumed(_)
        | Waiting::Answer(_)
        | Waiting::Run(_) => return None,
        Waiting::Received(values) => arrive(caller, Arrival::Message(values), answer),
        Waiting::Answered(values) => arrive(caller, Arrival::Answer(values), answer),
        Waiting::Exited(values) => arrive(caller, Arrival::Exit(values), answer),
        Waiting::Event(deadline) => wait::sleep(caller, deadline, effects),
        Waiting::Message(awaited) => receive::resume(caller, awaited, answer, effects),
        Waiting::Room(awaited) => send::resume(caller, awaited, effects),
        Waiting::Packed(packed) => call::unpack(caller, packed, answer, effects).into(),
        Waiting::Unanswered => {
            caller.domain.handles.lock().release(MESSAGE_HANDLES);
            Outcome::Error(Error::PeerGone)
        }
        Waiting::Settled(result) => result.into(),
        Waiting::Ended => Outcome::Error(Error::PeerGone),
    })
}
