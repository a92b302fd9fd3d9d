//! `close`: drop a handle.

use nuncio_abi::{Error, Handle};

use super::{Caller, Effects};

#[inline(never)]
pub(super) fn close(
    caller: Caller<'_>,
    handle: Handle,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let held = caller.domain.handles.lock().remove(handle)?;
    held.object
        .closed(held.rights, &mut |wake| effects.wake(wake));
    Ok(())
}
