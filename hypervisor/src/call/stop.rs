//! `stop`: end a domain, or stop a vcpu.

use alloc::sync::Weak;

use nuncio_abi::{Error, Handle, Rights};

use crate::object::{Domain, Object};

use super::{Caller, Outcome};

#[inline(never)]
pub(super) fn stop(caller: Caller<'_>, object: Handle, code: u64) -> Outcome {
    let outcome = find(caller, object).and_then(|found| match found {
        Found::Domain(domain) => {
            let domain = domain.upgrade().ok_or(Error::PeerGone)?;
            Ok(Outcome::Stop(domain.id, code))
        }
        Found::Vcpu(_) if code != 0 => Err(Error::BadArgument),
        Found::Vcpu(domain) => stop_vcpu(&domain),
    });
    outcome.unwrap_or_else(Outcome::Error)
}

/// What a handle names that can be stopped.
enum Found {
    Domain(Weak<Domain>),
    Vcpu(Weak<Domain>),
}

fn find(caller: Caller<'_>, object: Handle) -> Result<Found, Error> {
    let table = caller.domain.handles.lock();
    let held = table.get(object)?;
    let found = match &held.object {
        Object::Domain(domain) => Found::Domain(domain.clone()),
        Object::Vcpu(domain) => Found::Vcpu(domain.clone()),
        _ => return Err(Error::WrongKind),
    };
    held.with(Rights::STOP, found)
}

fn stop_vcpu(domain: &Weak<Domain>) -> Result<Outcome, Error> {
    let domain = domain.upgrade().ok_or(Error::PeerGone)?;
    if domain.ending().is_some() {
        return Err(Error::PeerGone);
    }
    let monitor = domain.monitor().ok_or(Error::WrongState)?;
    if !monitor.is_started() {
        return Err(Error::WrongState);
    }
    let id = domain.vcpu_id().ok_or(Error::WrongState)?;
    Ok(Outcome::StopVcpu(id))
}
