//! How a vcpu comes out of the call in which it sleeps, without an end to that call.

use nuncio_abi::MESSAGE_HANDLES;

use super::{receive, Caller, Effects};

/// The vcpu is stopped: it gives up what it waits for, with what has been left for it. Its domain lives on,
/// so what the call has kept free for it is free again.
pub fn abandon(caller: Caller<'_>, effects: &mut impl Effects) {
    let sleeper = caller.vcpu.sleeper();
    if let Some(port) = sleeper.awaited_port() {
        receive::wait_no_more(caller, port);
    }
    let keeps_room = sleeper.keeps_room();
    sleeper.abandon(&mut |wake| effects.wake(wake));
    if keeps_room {
        caller.domain.handles.lock().release(MESSAGE_HANDLES);
    }
}
