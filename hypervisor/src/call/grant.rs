//! `grant`: make a weaker copy of a handle.

use nuncio_abi::{Error, Handle, Rights};

use crate::lock::rank;
use crate::object::{Domain, Held};

use super::{Answer, Caller};

#[inline(never)]
pub(super) fn grant(
    caller: Caller<'_>,
    handle: Handle,
    rights: Rights,
    badge: u64,
    to: Option<Handle>,
    answer: &mut impl Answer,
) -> Result<(), Error> {
    let mut handles = caller.domain.handles.lock();
    handles.get(handle)?;
    let to = match to {
        Some(to) => Some(handles.domain(to, Rights::BUILD)?),
        None => None,
    };
    let mut copy = handles.copy(handle, rights)?;
    if badge != 0 {
        // A badge says whom the owner of a port gave the handle to; nobody can change it after.
        if copy.badge != 0 {
            return Err(Error::MissingRight);
        }
        copy.badge = badge;
    }
    // From a maker's table to that of what it has made: no two domains lock each other's.
    let handle = match to {
        Some(domain) => give(&domain, copy)?,
        None => handles.insert(copy)?,
    };
    answer.pair(handle.raw(), 0);
    Ok(())
}

/// Gives a domain a handle, if it has not ended.
fn give(domain: &Domain, held: Held) -> Result<Handle, Error> {
    let mut handles = domain.handles.lock_as::<rank::MadeHandleTable>();
    // With its table locked: behind its end nobody would close the handle.
    match domain.ending() {
        Some(_) => Err(Error::PeerGone),
        None => handles.insert(held),
    }
}
