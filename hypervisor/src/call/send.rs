//! `send`: put a message on a port.

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Error, Handle, Message, Outgoing, Rights, MESSAGE_BYTES};

use crate::mem::GuestPhysical;
use crate::object::{Space, Traffic};

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
    let message = &fetch(&caller.domain.space, message)?;
    if port.is_console() {
        effects.console(caller.domain, message);
    } else if let Some(wake) = port.send(message, badge)? {
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
    let words = page.iter().skip(first).map(|word| word.load(Relaxed));
    Message::from_words(length, words).ok_or(Error::BadArgument)
}
