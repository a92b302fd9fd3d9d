//! `stop`: end a domain.

use nuncio_abi::{Handle, Rights};

use super::{Caller, Outcome};

#[inline(never)]
pub(super) fn stop(caller: Caller<'_>, domain: Handle, code: u64) -> Outcome {
    let domain = caller.domain.handles.lock().domain(domain, Rights::STOP);
    match domain {
        Ok(domain) => Outcome::Stop(domain.id, code),
        Err(error) => Outcome::Error(error),
    }
}
