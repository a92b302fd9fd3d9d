//! A port: messages in, messages out.

use nuncio_abi::{
    Call, Deadline, Error, Header, Message, Outgoing, REGISTER_BYTES, REGISTER_WORDS,
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
    /// The number that the manifest gave to the sender's handle.
    pub badge: u64,
}

impl<M: Machine> Port<'_, M> {
    /// Sends a message: in registers if it fits, else through the outgoing buffer.
    ///
    /// # Errors
    /// `QueueFull`; `PeerGone` if nobody is left to receive.
    pub fn send(&self, message: &Message) -> Result<(), Error> {
        let [first, second, third, ..] = message.words;
        let outgoing = if u64::from(message.length) <= REGISTER_BYTES {
            Outgoing::registers(message.length, [first, second, third])
        } else {
            let buffer = &self.object.machine().buffers().outgoing;
            buffer.store(&message.words);
            Outgoing::memory(message.length, buffer.address())
        };
        self.send_outgoing(outgoing)
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
        let [header, badge, first, second, third] = self.object.invoke(Call::Receive {
            port: self.object.handle(),
            deadline,
            buffer: buffer.address(),
        })?;
        let header = Header::from_raw(header)?;
        let message = if header.in_memory {
            buffer.load(header.length)
        } else {
            Message {
                length: header.length,
                words: [first, second, third, 0, 0, 0, 0, 0],
            }
        };
        Ok(Received { message, badge })
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
            prop_assert_eq!(received, Ok(Received { message, badge }));
        }
    }
}
