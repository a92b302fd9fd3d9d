//! `start`: let a vcpu run.

use nuncio_abi::{Error, Handle, Rights};

use crate::object::Entry;

use super::{Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn start(
    caller: Caller<'_>,
    vcpu: Handle,
    entry: Entry,
    effects: &mut impl Effects,
) -> Outcome {
    let (domain, number) = match caller.domain.handles.lock().vcpu(vcpu, Rights::START) {
        Ok((domain, number)) => (domain.upgrade(), number),
        Err(error) => return Outcome::Error(error),
    };
    let Some(domain) = domain else {
        return Outcome::Error(Error::PeerGone);
    };
    match domain.take_vcpu(number) {
        Ok(vcpu) => {
            effects.start(domain, vcpu, entry);
            Outcome::Start
        }
        Err(error) => Outcome::Error(error),
    }
}
