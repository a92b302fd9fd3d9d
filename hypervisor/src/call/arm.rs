//! `arm`: set the time of a timer.

use nuncio_abi::{Deadline, Error, Handle, Rights};

use super::{Caller, Effects};

#[inline(never)]
pub(super) fn arm(
    caller: Caller<'_>,
    timer: Handle,
    deadline: Deadline,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let timer = handles.timer(timer, Rights::ARM)?;
    effects.arm_timer(timer, deadline);
    Ok(())
}
