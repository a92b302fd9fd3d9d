//! `stop`: end a domain, or stop a vcpu.

use alloc::sync::Weak;

use nuncio_abi::{Error, Handle, Rights};

use crate::object::{Domain, Object, VcpuNumber};

use super::{Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn stop(
    caller: Caller<'_>,
    object: Handle,
    code: u64,
    effects: &mut impl Effects,
) -> Outcome {
    let outcome = find(caller, object).and_then(|found| match found {
        Found::Domain(domain) => {
            let domain = domain.upgrade().ok_or(Error::PeerGone)?;
            Ok(Outcome::Stop(domain.id, code))
        }
        Found::Vcpu(..) if code != 0 => Err(Error::BadArgument),
        Found::Vcpu(domain, number) => stop_vcpu(&domain, number, effects),
    });
    outcome.unwrap_or_else(Outcome::Error)
}

/// What a handle names that can be stopped.
enum Found {
    Domain(Weak<Domain>),
    Vcpu(Weak<Domain>, VcpuNumber),
}

fn find(caller: Caller<'_>, object: Handle) -> Result<Found, Error> {
    let table = caller.domain.handles.lock();
    let held = table.get(object)?;
    let found = match &held.object {
        Object::Domain(domain) => Found::Domain(domain.clone()),
        Object::Vcpu(domain, number) => Found::Vcpu(domain.clone(), *number),
        _ => return Err(Error::WrongKind),
    };
    held.with(Rights::STOP, found)
}

fn stop_vcpu(
    domain: &Weak<Domain>,
    number: VcpuNumber,
    effects: &mut impl Effects,
) -> Result<Outcome, Error> {
    let domain = domain.upgrade().ok_or(Error::PeerGone)?;
    if domain.ending().is_some() {
        return Err(Error::PeerGone);
    }
    match domain.vcpu(number) {
        Some((_, true)) => {
            effects.stop_vcpu(domain, number);
            Ok(Outcome::StopVcpu)
        }
        _ => Err(Error::WrongState),
    }
}
