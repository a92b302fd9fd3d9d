//! `unmap`: take pages out of an address space.

use nuncio_abi::{Error, Handle, Rights};

use super::{Caller, Effects};
use crate::mem::GuestPhysical;

#[inline(never)]
pub(super) fn unmap(
    caller: Caller<'_>,
    space: Handle,
    address: u64,
    length: u64,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let space = handles.space(space, Rights::MAP)?;
    let address = GuestPhysical(address);
    space.unmap(address, length, &mut |wake| effects.wake(wake))
}
