//! The protocol between `producer` and `consumer`: what a descriptor says and what is checked.
//!
//! Shared memory is cut into slots of 64 KiB. The producer fills a free slot and sends a
//! descriptor; the consumer reads the slot and sets the slot's bit of an event. Neither trusts the
//! other: a descriptor is checked field by field, and a bit counts only for a slot in use.

use nuncio_abi::{Message, REGISTER_BYTES};

/// Bytes in a slot.
pub const SLOT_BYTES: u64 = 64 << 10;
/// A slot for each bit of the event.
pub const MAX_SLOTS: u64 = 64;
/// Without progress for so long, the other side counts as stuck.
pub const STALL_NS: u64 = 10_000_000_000;

/// The slots in shared memory of that size.
pub const fn slots_in(bytes: u64) -> u64 {
    let slots = bytes / SLOT_BYTES;
    if slots < MAX_SLOTS {
        slots
    } else {
        MAX_SLOTS
    }
}

/// What a descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes lie in a slot.
    Data {
        /// The slot.
        slot: u64,
        /// How many bytes, from the start of the slot.
        length: u64,
    },
    /// The stream has ended.
    End {
        /// How many bytes there were in all.
        total_bytes: u64,
    },
    /// The producer only wants to know whether somebody is there.
    Probe,
}

/// A descriptor: three words, so that it travels in registers.
///
/// Word 0 is the sequence number; word 1 the kind in bits 0 to 7 and the slot in bits 8 to 15;
/// word 2 the length or the total. All other bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Counts the descriptors of a stream from 0.
    pub sequence: u64,
    /// What it says.
    pub content: Content,
}

const DATA: u64 = 1;
const END: u64 = 2;
const PROBE: u64 = 3;

/// What is wrong with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The message is not 24 bytes long, or has a reserved bit set or an unknown kind.
    Form,
    /// The slot does not lie in the shared memory.
    Slot,
    /// More bytes than a slot holds, or none.
    Length,
    /// Not the number that comes next.
    Sequence,
    /// The total is not what has been received.
    Total,
}

impl Descriptor {
    /// The words of the message.
    pub const fn to_words(self) -> [u64; 3] {
        let (kind, value) = match self.content {
            Content::Data { slot, length } => (DATA | slot << 8, length),
            Content::End { total_bytes } => (END, total_bytes),
            Content::Probe => (PROBE, 0),
        };
        [self.sequence, kind, value]
    }

    /// Reads a message and checks all that can be checked without knowing the stream.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_message(message: &Message, slots: u64) -> Result<Self, Flaw> {
        if u64::from(message.length) != REGISTER_BYTES {
            return Err(Flaw::Form);
        }
        let [sequence, kind, value, ..] = message.words;
        let content = match kind & 0xFF {
            DATA if kind >> 16 == 0 => Content::Data {
                slot: kind >> 8,
                length: value,
            },
            END if kind == END => Content::End { total_bytes: value },
            PROBE if kind == PROBE && value == 0 => Content::Probe,
            _ => return Err(Flaw::Form),
        };
        match content {
            Content::Data { slot, .. } if slot >= slots => Err(Flaw::Slot),
            Content::Data { length, .. } if length == 0 || length > SLOT_BYTES => Err(Flaw::Length),
            _ => Ok(Descriptor { sequence, content }),
        }
    }
}

/// The consumer's view of a stream: what has come so far.
#[derive(Default)]
pub struct Progress {
    next_sequence: u64,
    received_bytes: u64,
}

impl Progress {
    /// Takes the next descriptor, if it fits to what came before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn accept(&mut self, message: &Message, slots: u64) -> Result<Content, Flaw> {
        let descriptor = Descriptor::from_message(message, slots)?;
        if descriptor.sequence != self.next_sequence {
            return Err(Flaw::Sequence);
        }
        match descriptor.content {
            Content::Data { length, .. } => {
                let received_bytes = self.received_bytes.checked_add(length);
                self.received_bytes = received_bytes.ok_or(Flaw::Length)?;
            }
            Content::End { total_bytes } if total_bytes != self.received_bytes => {
                return Err(Flaw::Total);
            }
            _ => {}
        }
        self.next_sequence = self.next_sequence.checked_add(1).ok_or(Flaw::Sequence)?;
        Ok(descriptor.content)
    }

    /// Bytes received so far.
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(words: [u64; 3]) -> Message {
        let [first, second, third] = words;
        Message {
            length: 24,
            words: [first, second, third, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn each_flaw_is_found() {
        let cases = [
            ([0, DATA | 4 << 8, 1], Flaw::Slot),
            ([0, DATA | 255 << 8, 1], Flaw::Slot),
            ([0, DATA | 1 << 16, 1], Flaw::Form),
            ([0, DATA, 0], Flaw::Length),
            ([0, DATA, SLOT_BYTES + 1], Flaw::Length),
            ([0, DATA, u64::MAX], Flaw::Length),
            ([1, DATA, 1], Flaw::Sequence),
            ([0, END, 1], Flaw::Total),
            ([0, END | 1 << 8, 0], Flaw::Form),
            ([0, PROBE, 1], Flaw::Form),
            ([0, 0, 0], Flaw::Form),
            ([0, 4, 0], Flaw::Form),
        ];
        for (words, flaw) in cases {
            let accepted = Progress::default().accept(&message(words), 4);
            assert_eq!(accepted, Err(flaw), "{words:?}");
        }
        let short = Message {
            length: 23,
            ..message([0, DATA, 1])
        };
        assert_eq!(Progress::default().accept(&short, 4), Err(Flaw::Form));
    }

    #[test]
    fn the_number_of_slots_is_what_fits() {
        assert_eq!(slots_in(SLOT_BYTES - 1), 0);
        assert_eq!(slots_in(3 * SLOT_BYTES + 5), 3);
        assert_eq!(slots_in(u64::MAX), 64);
    }

    proptest! {
        /// Whatever is accepted lies in the memory and encodes to the very same words.
        #[test]
        fn nothing_outside_the_memory_is_accepted(
            sequence in 0u64..2, kind in prop_oneof![0u64..0x5000, any::<u64>()],
            value in prop_oneof![0u64..70_000, any::<u64>()], slots in 0u64..=64,
        ) {
            let words = [sequence, kind, value];
            if let Ok(descriptor) = Descriptor::from_message(&message(words), slots) {
                prop_assert_eq!(descriptor.to_words(), words);
                if let Content::Data { slot, length } = descriptor.content {
                    prop_assert!(slot * SLOT_BYTES + length <= slots * SLOT_BYTES);
                }
            }
        }
    }
}
