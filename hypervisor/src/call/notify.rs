//! `notify`: set bits of an event.

use nuncio_abi::{Error, Handle, Rights};

use crate::object::Traffic;

use super::{Caller, Effects};

#[inline(always)]
pub(super) fn notify(
    caller: Caller<'_>,
    event: Handle,
    bits: u64,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let wake = handles.event(event, Rights::NOTIFY)?.notify(bits)?;
    Traffic::count(&caller.domain.traffic.notified);
    match wake {
        Some(wake) => effects.wake(wake),
        None => Traffic::count(&caller.domain.traffic.coalesced),
    }
    Ok(())
}
