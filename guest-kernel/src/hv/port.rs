//! A port: messages in, messages out.

use nuncio_abi::{
    Call, CallToken, Deadline, Error, Handle, Header, Message, Outgoing, Transfer, MAX_VALUES,
    MESSAGE_HANDLES, REGISTER_BYTES, REGISTER_WORDS,
};

use super::object::typed_object;
use super::{Machine, Object};

typed_object! {
    /// A bounded queue of messages, to send to or to receive from.
    Port slot
}

/// A message and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Says by which handle it was sent: who made the port has chosen it, or the manifest.
    pub badge: u64,
    /// Names the call, if the sender waits for an answer.
    pub token: Option<CallToken>,
    /// The handles that came with it, and the rights that they have.
    pub handles: Handles,
}

/// Up to four handles that came in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handles {
    transfers: [Option<Transfer>; MESSAGE_HANDLES],
}

impl Handles {
    /// The first so many of these words.
    fn new(words: impl Iterator<Item = u64>, count: u8) -> Result<Self, Error> {
        let mut handles = Handles::default();
        let words = words.take(usize::from(count));
        for (place, word) in handles.transfers.iter_mut().zip(words) {
            *place = Some(Transfer::from_raw(word)?);
        }
        Ok(handles)
    }

    /// The handles in their order.
    pub fn iter(&self) -> impl Iterator<Item = Handle> + '_ {
        self.transfers
            .iter()
            .flatten()
            .map(|transfer| transfer.handle)
    }
}

/// Bytes of the longest call that travels in registers.
const CALL_REGISTER_BYTES: u64 = 16;

impl<'m, M: Machine> Port<'m, M> {
    /// The same port, from that machine.
    #[must_use]
    pub const fn on(&self, machine: &'m M) -> Self {
        Port::new(Object::new(machine, self.object.handle()), self.slot)
    }

    /// Sends a message: in registers if it fits, else through the outgoing buffer.
    ///
    /// # Errors
    /// `QueueFull`; `PeerGone` if nobody is left to receive.
    pub fn send(&self, message: &Message) -> Result<(), Error> {
        self.send_outgoing(self.outgoing(message, REGISTER_BYTES))
    }

    /// Sends a message, waiting for room until the deadline.
    ///
    /// # Errors
    /// `TimedOut` (`QueueFull` for a deadline of now, or if too many wait); `PeerGone` if nobody is
    /// left to receive; `Interrupted` if an event became pending first.
    pub fn send_waiting(&self, message: &Message, deadline: Deadline) -> Result<(), Error> {
        let call = Call::SendWaiting {
            port: self.object.handle(),
            message: self.outgoing(message, CALL_REGISTER_BYTES),
            deadline,
        };
        self.object.invoke(call).map(|_| ())
    }

    /// Sends a message with copies of handles.
    ///
    /// # Errors
    /// As [`Port::send`]; `MissingRight` if a handle may not be passed on.
    pub fn send_with(&self, message: &Message, transfers: &[Transfer]) -> Result<(), Error> {
        let handles = transfers.len();
        if handles > MESSAGE_HANDLES {
            return Err(Error::BadArgument);
        }
        let buffer = &self.object.machine().buffers().outgoing;
        buffer.store(&message.words);
        buffer.store_handles(transfers);
        self.send_outgoing(Outgoing::Memory {
            length: message.length,
            handles: handles as u8,
            address: buffer.address(),
        })
    }

    /// Sends a message and waits for the answer to it.
    ///
    /// # Errors
    /// `QueueFull`; `TimedOut`; `PeerGone` if nobody is left to answer.
    pub fn call(&self, message: &Message, deadline: Deadline) -> Result<Received, Error> {
        let values = self.object.invoke(Call::Call {
            port: self.object.handle(),
            message: self.outgoing(message, CALL_REGISTER_BYTES),
            deadline,
        })?;
        self.received(values, true)
    }

    /// Answers a call that was received from this port.
    ///
    /// # Errors
    /// `PeerGone` if nobody waits for the answer any more; `BadArgument` if it is too long for
    /// the caller.
    pub fn reply(&self, token: CallToken, message: &Message) -> Result<(), Error> {
        self.object
            .invoke(Call::Reply {
                port: self.object.handle(),
                token,
                message: self.outgoing(message, REGISTER_BYTES),
                then_receive: false,
            })
            .map(|_| ())
    }

    /// Answers a call and waits for the next message, in one call. Only messages that fit into
    /// registers can come in then, unless the answer was too long for them.
    ///
    /// # Errors
    /// As [`Port::reply`] and [`Port::receive`].
    #[inline]
    pub fn reply_and_receive(
        &self,
        token: CallToken,
        message: &Message,
    ) -> Result<Received, Error> {
        let values = self.object.invoke(Call::Reply {
            port: self.object.handle(),
            token,
            message: self.outgoing(message, REGISTER_BYTES),
            then_receive: true,
        })?;
        self.received(values, true)
    }

    /// In registers if there are no more bytes than fit, else in the outgoing buffer.
    #[inline]
    fn outgoing(&self, message: &Message, register_bytes: u64) -> Outgoing {
        let [first, second, third, ..] = message.words;
        if u64::from(message.length) <= register_bytes {
            return Outgoing::registers(message.length, [first, second, third]);
        }
        let buffer = &self.object.machine().buffers().outgoing;
        buffer.store(&message.words);
        Outgoing::memory(message.length, buffer.address())
    }

    /// Sends a message of three words.
    ///
    /// # Errors
    /// As [`Port::send`].
    #[inline]
    pub fn send_words(&self, words: [u64; REGISTER_WORDS]) -> Result<(), Error> {
        self.send_outgoing(Outgoing::registers(REGISTER_BYTES as u8, words))
    }

    #[inline]
    fn send_outgoing(&self, message: Outgoing) -> Result<(), Error> {
        let port = self.object.handle();
        self.object.invoke(Call::Send { port, message }).map(|_| ())
    }

    /// Takes the next message, waiting for one until the deadline.
    ///
    /// # Errors
    /// `TimedOut` (`QueueEmpty` for a deadline of now); `PeerGone` if the port is empty and nobody
    /// is left to send; `Interrupted` if an event became pending first.
    pub fn receive(&self, deadline: Deadline) -> Result<Received, Error> {
        let buffer = &self.object.machine().buffers().incoming;
        let values = self.object.invoke(Call::Receive {
            port: self.object.handle(),
            deadline,
            buffer: buffer.address(),
        })?;
        self.received(values, false)
    }

    /// What the values say; `is_answer`: a long message lies where the outgoing one was.
    #[inline]
    fn received(&self, values: [u64; MAX_VALUES], is_answer: bool) -> Result<Received, Error> {
        let [raw_header, badge, registers @ ..] = values;
        let header = Header::from_raw(raw_header & u64::from(u32::MAX))?;
        let buffers = self.object.machine().buffers();
        let buffer = if is_answer {
            &buffers.outgoing
        } else {
            &buffers.incoming
        };
        let (message, handles) = if header.in_memory {
            let words = buffer.load_handles().into_iter();
            (
                buffer.load(header.length),
                Handles::new(words, header.handles)?,
            )
        } else if header.handles == 0 {
            let [first, second, third] = registers;
            let message = Message {
                length: header.length,
                words: [first, second, third, 0, 0, 0, 0, 0],
            };
            (message, Handles::default())
        } else {
            let words = registers.into_iter();
            let behind = words.clone().skip(usize::from(header.length).div_ceil(8));
            let message = Message::from_words(header.length, words).ok_or(Error::BadArgument)?;
            (message, Handles::new(behind, header.handles)?)
        };
        Ok(Received {
            message,
            badge,
            token: CallToken::from_header(raw_header),
            handles,
        })
    }

    /// The slot in the vcpu page at which bit 0 says that a message has come.
    pub const fn slot(&self) -> usize {
        self.slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::fake::Script;
    use nuncio_abi::{Handle, Reply};
    use proptest::prelude::*;

    const PORT: Handle = Handle::new(5, 1);

    fn port(machine: &Script) -> Port<'_, Script> {
        Port::new(Object::new(machine, PORT), 0)
    }

    #[test]
    fn a_short_message_travels_in_registers() {
        let message = Message::from_bytes(b"0123456789").unwrap();
        let [first, second, ..] = message.words;
        let expected = Call::Send {
            port: PORT,
            message: Outgoing::registers(10, [first, second, 0]),
        };
        let machine = Script::new([(expected, Reply::Done)]);
        assert_eq!(port(&machine).send(&message), Ok(()));
        machine.assert_finished();
    }

    #[test]
    fn a_full_queue_is_told() {
        let message = Message::from_bytes(&[7; 64]).unwrap();
        let machine = Script::new([]);
        let address = machine.buffers().outgoing.address();
        let expected = Call::Send {
            port: PORT,
            message: Outgoing::memory(64, address),
        };
        machine.expect(expected, Reply::Error(Error::QueueFull));
        assert_eq!(port(&machine).send(&message), Err(Error::QueueFull));
        assert_eq!(machine.buffers().outgoing.load(64), message);
    }

    #[test]
    fn a_header_out_of_its_range_is_no_message() {
        let machine = Script::new([]);
        machine.expect(receive_call(&machine), Reply::Full([65, 0, 1, 2, 3]));
        let received = port(&machine).receive(Deadline::NOW);
        assert_eq!(received, Err(Error::BadArgument));
    }

    fn receive_call(machine: &Script) -> Call {
        Call::Receive {
            port: PORT,
            deadline: Deadline::NOW,
            buffer: machine.buffers().incoming.address(),
        }
    }

    proptest! {
        #[test]
        fn what_comes_in_registers_or_memory_is_the_message(
            bytes in proptest::collection::vec(any::<u8>(), 0..=64), badge: u64, memory: bool,
        ) {
            let message = Message::from_bytes(&bytes).unwrap();
            let in_memory = memory || bytes.len() > 24;
            let header = Header::new(message.length, in_memory);
            let machine = Script::new([]);
            let mut values = [header.to_raw(), badge, 0, 0, 0];
            if in_memory {
                machine.buffers().incoming.store(&message.words);
            } else {
                values[2..].copy_from_slice(&message.words[..3]);
            }
            machine.expect(receive_call(&machine), Reply::Full(values));
            let received = port(&machine).receive(Deadline::NOW);
            let (token, handles) = (None, Handles::default());
            prop_assert_eq!(received, Ok(Received { message, badge, token, handles }));
        }
    }
}
