//! `send`: put a message on a port.

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Error, Handle, Message, Outgoing, Rights, MESSAGE_BYTES, MESSAGE_WORDS};

use crate::mem::GuestPhysical;
use crate::object::{Queued, Space, Traffic};

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
    let message = fetch(&caller.domain.space, message)?;
    if port.is_console() {
        effects.console(caller.domain, &message);
    } else if let Some(wake) = port.send(Queued { message, badge })? {
        effects.wake(wake);
    }
    Traffic::count(&caller.domain.traffic.sent);
    Ok(())
}

/// Copies the message out of the sender's registers or memory; from here on it cannot change.
fn fetch(space: &Space, message: Outgoing) -> Result<Message, Error> {
    match message {
        Outgoing::Registers {
            length,
            words: [first, second, third],
        } => Ok(Message {
            length,
            words: [first, second, third, 0, 0, 0, 0, 0],
        }),
        Outgoing::Memory { length, address } => from_memory(space, length, address),
    }
}

fn from_memory(space: &Space, length: u8, address: u64) -> Result<Message, Error> {
    // A multiple of 64 keeps the whole message inside one page.
    if !address.is_multiple_of(MESSAGE_BYTES) {
        return Err(Error::BadAddress);
    }
    let address = GuestPhysical(address);
    let page = space
        .words(address, Rights::READ)
        .ok_or(Error::BadAddress)?;
    let first = (address.page_offset() / 8) as usize;
    let used = usize::from(length).div_ceil(8);
    let mut words = [0; MESSAGE_WORDS];
    for (word, source) in words.iter_mut().zip(page.iter().skip(first)).take(used) {
        *word = source.load(Relaxed);
    }
    Ok(Message { length, words })
}
