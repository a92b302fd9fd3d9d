//! `map`: put pages of a memory object into an address space.

use nuncio_abi::{Error, Handle, Rights};

use crate::mem::GuestPhysical;
use crate::object::Mapping;

use super::{Caller, Effects};

pub(super) fn mapping(address: u64, offset: u64, length: u64, access: Rights) -> Mapping {
    Mapping {
        address: GuestPhysical(address),
        offset,
        length,
        access,
    }
}

#[inline(never)]
pub(super) fn map(
    caller: Caller<'_>,
    space: Handle,
    memory: Handle,
    mapping: Mapping,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let space = handles.space(space, Rights::MAP)?;
    let memory = handles.memory(memory, mapping.access)?;
    space.map_for_guest(memory, &mapping, &mut |wake| effects.wake(wake))
}
