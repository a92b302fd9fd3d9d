//! `unmap`: take pages out of an address space.

use nuncio_abi::{Error, Handle, Rights};

use crate::mem::GuestPhysical;
use crate::object::Wake;

use super::{Caller, Effects};

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
    space.unmap(GuestPhysical(address), length)?;
    effects.wake(Wake::TranslationsChanged);
    Ok(())
}
