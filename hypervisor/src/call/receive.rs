//! `receive`: take the next message from a port, or wait for one.

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Deadline, Error, Handle, Header, Message, Rights, MAX_VALUES, MESSAGE_BYTES, MESSAGE_WORDS,
    REGISTER_BYTES,
};

use crate::mem::{GuestPhysical, Words};
use crate::object::{Queued, Traffic};

use super::{block_until, Answer, Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn receive(
    caller: Caller<'_>,
    port: Handle,
    deadline: Deadline,
    buffer: u64,
    answer: &mut impl Answer,
    effects: &impl Effects,
) -> Outcome {
    match try_receive(caller, port, buffer, answer) {
        Err(Error::QueueEmpty) => wait_for_message(caller, port, deadline, effects),
        result => result.into(),
    }
}

fn try_receive(
    caller: Caller<'_>,
    port: Handle,
    buffer: u64,
    answer: &mut impl Answer,
) -> Result<(), Error> {
    let handles = caller.domain.handles.lock();
    let (port, _) = handles.port(port, Rights::RECEIVE)?;
    let buffer = Buffer::find(caller, buffer)?;
    port.receive(|queued| {
        if !fits_registers(&queued.message) {
            buffer.ok_or(Error::BufferTooSmall)?.store(&queued.message);
        }
        answer.full(&values(queued));
        Ok(())
    })?;
    Traffic::count(&caller.domain.traffic.received);
    Ok(())
}

fn wait_for_message(
    caller: Caller<'_>,
    port: Handle,
    deadline: Deadline,
    effects: &impl Effects,
) -> Outcome {
    if deadline == Deadline::NOW {
        return Outcome::Error(Error::QueueEmpty);
    }
    // An event would not wake the guest out of this call, so it ends the call instead.
    if caller.vcpu.page().ready() != 0 {
        return Outcome::Error(Error::Interrupted);
    }
    let outcome = block_until(deadline, Error::TimedOut, effects);
    if matches!(outcome, Outcome::Block(_)) {
        let handles = caller.domain.handles.lock();
        match handles.port(port, Rights::RECEIVE) {
            Ok((port, _)) if port.block_receiver() => {}
            // A message came meanwhile: the same call again will find it.
            _ => return Outcome::Block(Deadline::NOW),
        }
    }
    outcome
}

fn fits_registers(message: &Message) -> bool {
    u64::from(message.length) <= REGISTER_BYTES
}

fn values(queued: &Queued) -> [u64; MAX_VALUES] {
    let message = &queued.message;
    let in_memory = !fits_registers(message);
    let header = Header {
        length: message.length,
        in_memory,
    };
    let [first, second, third, ..] = if in_memory {
        [0; MESSAGE_WORDS]
    } else {
        message.words
    };
    [header.to_raw(), queued.badge, first, second, third]
}

/// The receiver's buffer: 64 bytes inside one page that it may write.
#[derive(Clone, Copy)]
struct Buffer {
    page: &'static Words,
    first: usize,
}

impl Buffer {
    /// Checks the address before anything is taken off the port; 0 is no buffer.
    fn find(caller: Caller<'_>, address: u64) -> Result<Option<Self>, Error> {
        if address == 0 {
            return Ok(None);
        }
        if !address.is_multiple_of(MESSAGE_BYTES) {
            return Err(Error::BadAddress);
        }
        let address = GuestPhysical(address);
        let page = caller
            .domain
            .space
            .words(address, Rights::READ | Rights::WRITE)
            .ok_or(Error::BadAddress)?;
        let first = (address.page_offset() / 8) as usize;
        Ok(Some(Buffer { page, first }))
    }

    fn store(self, message: &Message) {
        for (target, word) in self.page.iter().skip(self.first).zip(message.words) {
            target.store(word, Relaxed);
        }
    }
}
