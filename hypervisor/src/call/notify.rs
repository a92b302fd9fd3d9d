//! `notify`: set bits of an event.

use nuncio_abi::{Error, Handle, Posted, Rights};

use crate::object::{Notified, Traffic, Wake};

use super::{Caller, Effects};

#[inline(always)]
pub(super) fn notify(
    caller: Caller<'_>,
    event: Handle,
    bits: u64,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let notified = handles.event(event, Rights::NOTIFY)?.notify(bits)?;
    Traffic::count(&caller.domain.traffic.notified);
    let (posted, vcpu) = match notified {
        Notified::Posted(posted, vcpu) => (posted, vcpu),
        Notified::Held(wake) => {
            held(caller, wake, effects);
            return Ok(());
        }
    };
    match posted {
        Posted::Announced => effects.wake(Wake::Event(vcpu)),
        Posted::Quiet => effects.wake(Wake::Quiet(vcpu)),
        Posted::Masked | Posted::Counted => {}
        Posted::Coalesced => Traffic::count(&caller.domain.traffic.coalesced),
    }
    Ok(())
}

/// The bits are held back: together with earlier ones, or the loop has to see to them.
#[cold]
#[inline(never)]
fn held(caller: Caller<'_>, wake: Option<Wake>, effects: &mut impl Effects) {
    match wake {
        Some(wake) => effects.wake(wake),
        None => Traffic::count(&caller.domain.traffic.coalesced),
    }
}
