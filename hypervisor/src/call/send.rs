//! `send`: put a message on a port.

use nuncio_abi::{Error, Handle, Outgoing, Rights};

use crate::object::{Held, Traffic};

use super::message::{fetch, pack};
use super::{Caller, Effects};

#[inline(never)]
pub(super) fn send(
    caller: Caller<'_>,
    port: Handle,
    message: Outgoing,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let (port, badge) = handles.port(port, Rights::SEND)?;
    let bytes = fetch(&caller.domain.space, message)?;
    let carried = pack(&caller.domain.space, &handles, message)?;
    if port.is_console() {
        effects.console(caller.domain, &bytes);
        close(carried, effects);
    } else {
        match port.send(&bytes, carried, badge) {
            Ok(Some(wake)) => effects.wake(wake),
            Ok(None) => {}
            Err((error, carried)) => {
                close(carried, effects);
                return Err(error);
            }
        }
    }
    Traffic::count(&caller.domain.traffic.sent);
    Ok(())
}

/// Gives up the copies of handles that went nowhere.
#[inline]
pub(super) fn close(carried: alloc::vec::Vec<Held>, effects: &mut impl Effects) {
    if !carried.is_empty() {
        Held::close_all(carried, &mut |wake| effects.wake(wake));
    }
}
