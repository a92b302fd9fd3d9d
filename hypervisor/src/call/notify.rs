//! `notify`: set bits of an event.

use nuncio_abi::{Error, Handle, Posted, Rights};

use crate::object::{Traffic, Wake};

use super::{Caller, Effects};

#[inline(always)]
pub(super) fn notify(
    caller: Caller<'_>,
    event: Handle,
    bits: u64,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let (posted, vcpu) = handles.event(event, Rights::NOTIFY)?.notify(bits)?;
    Traffic::count(&caller.domain.traffic.notified);
    match posted {
        Posted::Announced => effects.wake(Wake::Event(vcpu)),
        Posted::Quiet => effects.wake(Wake::Quiet(vcpu)),
        Posted::Masked | Posted::Counted => {}
        Posted::Coalesced => Traffic::count(&caller.domain.traffic.coalesced),
    }
    Ok(())
}
