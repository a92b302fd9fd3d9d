//! `wait`: sleep until an event is pending.

use nuncio_abi::{Deadline, Error};

use crate::object::Waiting;

use super::{block_until, Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn wait(caller: Caller<'_>, deadline: Deadline, effects: &impl Effects) -> Outcome {
    if caller.vcpu.page().ring() != 0 {
        return Outcome::SubmitAndWait(deadline);
    }
    sleep(caller, deadline, effects)
}

/// The part of it that comes behind the entries of a ring.
pub fn sleep(caller: Caller<'_>, deadline: Deadline, effects: &impl Effects) -> Outcome {
    if caller.vcpu.page().ready() != 0 {
        return Outcome::Done;
    }
    let outcome = block_until(deadline, Error::TimedOut, effects);
    if matches!(outcome, Outcome::Block(_)) {
        caller.vcpu.sleeper().wait_for(Waiting::Event(deadline));
    }
    outcome
}
