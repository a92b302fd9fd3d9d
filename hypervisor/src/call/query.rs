//! `query`: ask what a handle names and what it has used.

use alloc::sync::Weak;

use nuncio_abi::{Error, Handle, QueryItem, StopReason};

use crate::object::{Domain, Held, Object};

use super::{Answer, Caller};

#[inline(never)]
pub(super) fn query(
    caller: Caller<'_>,
    handle: Handle,
    item: QueryItem,
    answer: &mut impl Answer,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let held = handles.get(handle)?;
    let (first, second) = match item {
        QueryItem::Kind => (held.object.kind().number(), held.rights.bits()),
        QueryItem::Usage => usage(held)?,
        QueryItem::Status => status(held)?,
        QueryItem::KernelUsage => kernel_usage(held)?,
    };
    answer.pair(first, second);
    Ok(())
}

fn usage(held: &Held) -> Result<(u64, u64), Error> {
    Ok(match &held.object {
        Object::Domain(domain) => {
            let domain = Weak::upgrade(domain).ok_or(Error::PeerGone)?;
            (domain.account.used(), domain.account.limit())
        }
        Object::Vcpu(..) => (0, 0),
        Object::Space(space) => (space.mapped_bytes(), space.limit()),
        Object::Memory(memory) => (memory.bytes(), 0),
        Object::Port(port) => {
            let (queued, capacity) = port.usage();
            (queued as u64, capacity as u64)
        }
        Object::Event(event) => (u64::from(event.slot()), 0),
        Object::Timer(_) => (0, 0),
    })
}

fn kernel_usage(held: &Held) -> Result<(u64, u64), Error> {
    let Object::Domain(domain) = &held.object else {
        return Err(Error::WrongKind);
    };
    let domain = Weak::upgrade(domain).ok_or(Error::PeerGone)?;
    let account = &domain.account;
    Ok((account.kernel_bytes_used(), account.kernel_bytes_limit()))
}

fn status(held: &Held) -> Result<(u64, u64), Error> {
    let Object::Domain(domain) = &held.object else {
        return Err(Error::WrongKind);
    };
    let ending = Weak::upgrade(domain)
        .as_deref()
        .ok_or(Error::PeerGone)
        .map(Domain::ending)?;
    Ok(match ending {
        Some(ending) => (ending.reason.number(), ending.detail),
        None => (StopReason::Running.number(), 0),
    })
}
