//! Whoever waits for a server that is busy lends it what he has.

use alloc::sync::Arc;

use crate::object::{Awaited, Port, VcpuId};

use super::Effects;

/// How many servers that wait for each other are lent something.
const MOST_SERVERS: usize = 16;

/// The caller waits at that port for a server that is busy: with something of its own, with other calls, or
/// because it waits for somebody, who is lent the same.
///
/// To be called when nothing but its deadline keeps the caller from going to sleep.
#[cold]
#[inline(never)]
pub fn lend_to_busy(caller: VcpuId, port: &Arc<Port>, effects: &mut impl Effects) {
    let mut lender = caller;
    let mut port = port.clone();
    for _ in 0..MOST_SERVERS {
        let Some((server, sleeper)) = port.busy_receiver() else {
            return;
        };
        if server == caller {
            return;
        }
        effects.lend(lender, server);
        // One lock at a time: what is not so any more is a loan that is over at once, or too much for a moment.
        match sleeper.and_then(|sleeper| sleeper.awaited()) {
            Some(Awaited::Answer(next)) => port = next,
            Some(Awaited::Exit(vcpu)) => return effects.lend(server, vcpu),
            None => return,
        }
        lender = server;
    }
}
