//! Messages: up to 64 bytes, in registers when they are short, else in the sender's memory.

use crate::Error;

/// Words in the longest message.
pub const MESSAGE_WORDS: usize = 8;

/// Bytes in the longest message.
pub const MESSAGE_BYTES: u64 = 64;

/// Words of a message that travels in registers.
pub const REGISTER_WORDS: usize = 3;

/// Bytes of the longest message that travels in registers.
pub const REGISTER_BYTES: u64 = 24;

/// A message in flight: its length and its bytes, padded with zeros to whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Length in bytes, 0 to 64.
    pub length: u8,
    /// The bytes, little-endian; words past the length are zero.
    pub words: [u64; MESSAGE_WORDS],
}

impl Message {
    /// A message with these bytes; `None` if there are more than 64.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut buffer = [0u8; MESSAGE_BYTES as usize];
        buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let mut words = [0; MESSAGE_WORDS];
        for (word, chunk) in words.iter_mut().zip(buffer.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Some(Message {
            length: bytes.len() as u8,
            words,
        })
    }

    /// A message of this length whose words are taken from `source` one after the other, cut off
    /// behind the last byte; `None` if it has more than 64 bytes.
    #[inline]
    pub fn from_words(length: u8, source: impl Iterator<Item = u64>) -> Option<Self> {
        if u64::from(length) > MESSAGE_BYTES {
            return None;
        }
        let mut words = [0; MESSAGE_WORDS];
        let mut left = length;
        for (word, value) in words.iter_mut().zip(source) {
            *word = value & mask(left);
            left = left.saturating_sub(8);
            if left == 0 {
                break;
            }
        }
        Some(Message { length, words })
    }

    /// The bytes of all eight words; the first `length` of them are the message.
    pub fn to_bytes(&self) -> [u8; MESSAGE_BYTES as usize] {
        let mut bytes = [0; MESSAGE_BYTES as usize];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }
}

/// The bits of a word that belong to a message which has `left` bytes from that word on.
#[inline]
pub(crate) const fn mask(left: u8) -> u64 {
    match left {
        0 => 0,
        1..=7 => (1 << (left * 8)) - 1,
        _ => u64::MAX,
    }
}

/// The word that describes a message: length in bits 0 to 6, the memory bit in bit 7.
///
/// In a `send` the memory bit says that the message lies in memory; in the values of a `receive`
/// it says that the message was written to the buffer. All other bits are reserved and zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length in bytes, 0 to 64.
    pub length: u8,
    /// The message lies in memory, not in registers.
    pub in_memory: bool,
}

impl Header {
    const IN_MEMORY: u64 = 1 << 7;

    /// The header as it stands in a register.
    #[inline]
    pub const fn to_raw(self) -> u64 {
        self.length as u64 | if self.in_memory { Self::IN_MEMORY } else { 0 }
    }

    /// Reads a register; `BadArgument` for a reserved bit, or a length that does not fit.
    #[inline]
    pub const fn from_raw(raw: u64) -> Result<Self, Error> {
        let length = raw & !Self::IN_MEMORY;
        let in_memory = raw & Self::IN_MEMORY != 0;
        let limit = if in_memory {
            MESSAGE_BYTES
        } else {
            REGISTER_BYTES
        };
        if length > limit {
            return Err(Error::BadArgument);
        }
        Ok(Header {
            length: length as u8,
            in_memory,
        })
    }
}

/// Where the message of a `send` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// In the three registers of the call; bits past the length are zero.
    Registers {
        /// Length in bytes, 0 to 24.
        length: u8,
        /// The words.
        words: [u64; REGISTER_WORDS],
    },
    /// In the sender's memory.
    Memory {
        /// Length in bytes, 0 to 64.
        length: u8,
        /// Guest-physical address of the first byte, a multiple of 64.
        address: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let message = Message::from_bytes(b"hello, world").unwrap();
        assert_eq!(message.length, 12);
        assert_eq!(&message.to_bytes()[..12], b"hello, world");
        assert_eq!(message.words[2..], [0; 6]);
        assert!(Message::from_bytes(&[0; 64]).is_some());
        assert!(Message::from_bytes(&[0; 65]).is_none());
    }

    #[test]
    fn nothing_behind_the_last_byte_gets_into_a_message() {
        for length in 0..=64u8 {
            let message = Message::from_words(length, core::iter::repeat(u64::MAX)).unwrap();
            let bytes = message.to_bytes();
            let (inside, behind) = bytes.split_at(usize::from(length));
            assert!(inside.iter().all(|byte| *byte == 0xFF));
            assert!(behind.iter().all(|byte| *byte == 0));
        }
        assert!(Message::from_words(65, core::iter::repeat(0)).is_none());
    }

    #[test]
    fn a_header_says_what_fits() {
        assert!(Header::from_raw(24).is_ok());
        assert_eq!(Header::from_raw(25), Err(Error::BadArgument));
        assert!(Header::from_raw(64 | 1 << 7).is_ok());
        assert_eq!(Header::from_raw(65 | 1 << 7), Err(Error::BadArgument));
        assert_eq!(Header::from_raw(1 << 8), Err(Error::BadArgument));
    }

    #[test]
    fn a_header_survives_the_register() {
        for raw in (0..=24).chain(128..=192) {
            assert_eq!(Header::from_raw(raw).unwrap().to_raw(), raw);
        }
    }
}
