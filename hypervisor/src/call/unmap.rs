//! `unmap`: take pages out of an address space.

use nuncio_abi::{Error, Handle, Reply, Rights};

use crate::mem::GuestPhysical;

use super::Caller;

pub(super) fn unmap(
    caller: Caller<'_>,
    space: Handle,
    address: u64,
    length: u64,
) -> Result<Reply, Error> {
    let handles = caller.domain.handles.lock();
    let space = handles.space(space, Rights::MAP)?;
    space.unmap(GuestPhysical(address), length)?;
    Ok(Reply::Done)
}
