//! Messages: up to 64 bytes and four handles, in registers when they are short, else in memory.

use crate::{Error, Handle, Rights};

/// Words in the longest message.
pub const MESSAGE_WORDS: usize = 8;

/// Bytes in the longest message.
pub const MESSAGE_BYTES: u64 = 64;

/// Words of a message that travels in registers.
pub const REGISTER_WORDS: usize = 3;

/// Bytes of the longest message that travels in registers.
pub const REGISTER_BYTES: u64 = 24;

/// Handles in a message.
pub const MESSAGE_HANDLES: usize = 4;

/// Bytes of a message in memory: its 8 words, and behind them a word for each handle. The address
/// is a multiple of [`MESSAGE_ALIGNMENT`], so it never crosses a page.
pub const MESSAGE_ALIGNMENT: u64 = 128;

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
        for (word, value) in words.iter_mut().zip(source) {
            *word = value;
        }
        let whole = usize::from(length / 8);
        for (index, word) in words.iter_mut().enumerate().skip(whole) {
            *word &= if index == whole { mask(length % 8) } else { 0 };
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

/// The word that describes a message: length in bits 0 to 6, the memory bit in bit 7, the number
/// of handles in bits 8 to 10. All other bits are reserved and zero.
///
/// In a `send` the memory bit says that the message lies in memory; in the values of a `receive`
/// it says that the message was written to the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Length in bytes, 0 to 64.
    pub length: u8,
    /// The message lies in memory, not in registers.
    pub in_memory: bool,
    /// Handles behind the bytes, 0 to 4.
    pub handles: u8,
}

impl Header {
    /// Where the length is.
    pub const LENGTH: u64 = 0x7F;
    /// The bit of a message that lies in memory.
    pub const IN_MEMORY: u64 = 1 << 7;
    /// The lowest bit of the number of handles, which has three.
    pub const HANDLES_SHIFT: u32 = 8;
    /// In the header of a `send`: wait for room.
    pub const WAIT: u64 = 1 << 11;
    /// In the header of a `reply`: the next message is asked for too.
    pub const THEN_RECEIVE: u64 = 1 << 11;
    /// The lowest bit of a call's token.
    pub const TOKEN_SHIFT: u32 = 32;
    const ALL: u64 = 0x7FF;

    /// The header of a message without handles.
    #[inline]
    pub const fn new(length: u8, in_memory: bool) -> Self {
        Header {
            length,
            in_memory,
            handles: 0,
        }
    }

    /// The header as it stands in a register.
    #[inline]
    pub const fn to_raw(self) -> u64 {
        let in_memory = if self.in_memory { Self::IN_MEMORY } else { 0 };
        self.length as u64 | in_memory | (self.handles as u64) << Self::HANDLES_SHIFT
    }

    /// Reads a register; `BadArgument` for a reserved bit, or for more than a message can hold.
    #[inline]
    pub const fn from_raw(raw: u64) -> Result<Self, Error> {
        let header = Header {
            length: (raw & Self::LENGTH) as u8,
            in_memory: raw & Self::IN_MEMORY != 0,
            handles: (raw >> Self::HANDLES_SHIFT & 7) as u8,
        };
        if raw & !Self::ALL != 0 || !header.fits() {
            return Err(Error::BadArgument);
        }
        Ok(header)
    }

    /// What of the header of a `reply` is that of its message.
    #[inline]
    pub(crate) const fn of_reply(raw: u64) -> u64 {
        raw & u32::MAX as u64 & !Self::THEN_RECEIVE
    }

    /// Whether a message of that form can hold as much.
    const fn fits(self) -> bool {
        if self.in_memory {
            self.length as u64 <= MESSAGE_BYTES && self.handles as usize <= MESSAGE_HANDLES
        } else {
            self.words() <= REGISTER_WORDS
        }
    }

    /// Words that bytes and handles take.
    #[inline]
    pub const fn words(self) -> usize {
        Self::words_of(self.length, self.handles)
    }

    #[inline]
    const fn words_of(length: u8, handles: u8) -> usize {
        (length as usize).div_ceil(8) + handles as usize
    }
}

/// A handle in a message, as its sender names it: the receiver gets a copy with these rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The sender's handle, with [`Rights::GRANT`].
    pub handle: Handle,
    /// The rights of the receiver's copy: some of the sender's, none of [`Rights::BOUND`].
    pub rights: Rights,
}

impl Transfer {
    /// The word that stands for it: the handle in the lower half, the rights in the upper one. A
    /// receiver finds its own handle and its rights in the same form.
    #[inline]
    pub const fn to_raw(self) -> u64 {
        self.handle.raw() | self.rights.bits() << 32
    }

    /// Reads a word; `BadArgument` if a bit stands for no right.
    #[inline]
    pub const fn from_raw(raw: u64) -> Result<Self, Error> {
        match (
            Handle::from_raw(raw & 0xFFFF_FFFF),
            Rights::from_bits(raw >> 32),
        ) {
            (Some(handle), Some(rights)) => Ok(Transfer { handle, rights }),
            _ => Err(Error::BadArgument),
        }
    }
}

/// Where the message of a `send`, `call` or `reply` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// In the registers of the call: the bytes, zeros up to the next word, a word for each handle
    /// ([`Transfer`]), and zeros.
    Registers {
        /// Length in bytes.
        length: u8,
        /// Handles behind the bytes.
        handles: u8,
        /// The words.
        words: [u64; REGISTER_WORDS],
    },
    /// In the sender's memory: 8 words for the bytes, and behind them one for each handle.
    Memory {
        /// Length in bytes, 0 to 64.
        length: u8,
        /// Handles behind the bytes, 0 to 4.
        handles: u8,
        /// Guest-physical address of the first byte, a multiple of [`MESSAGE_ALIGNMENT`].
        address: u64,
    },
}

impl Outgoing {
    /// Bytes in registers, without handles.
    #[inline]
    pub const fn registers(length: u8, words: [u64; REGISTER_WORDS]) -> Self {
        Outgoing::Registers {
            length,
            handles: 0,
            words,
        }
    }

    /// Bytes in memory, without handles.
    #[inline]
    pub const fn memory(length: u8, address: u64) -> Self {
        Outgoing::Memory {
            length,
            handles: 0,
            address,
        }
    }

    /// Its header and the three registers that follow it.
    pub(crate) const fn encode(self) -> (Header, [u64; REGISTER_WORDS]) {
        match self {
            Outgoing::Registers {
                length,
                handles,
                words,
            } => {
                let header = Header {
                    length,
                    in_memory: false,
                    handles,
                };
                (header, words)
            }
            Outgoing::Memory {
                length,
                handles,
                address,
            } => {
                let header = Header {
                    length,
                    in_memory: true,
                    handles,
                };
                (header, [address, 0, 0])
            }
        }
    }

    /// Reads a header and the registers that follow it; `BadArgument` for a bit in a place that
    /// must be zero.
    #[inline(always)]
    pub(crate) fn decode(header: u64, words: [u64; REGISTER_WORDS]) -> Result<Self, Error> {
        let Header {
            length,
            in_memory,
            handles,
        } = Header::from_raw(header)?;
        let [first, second, third] = words;
        if in_memory {
            return if second | third == 0 {
                Ok(Outgoing::Memory {
                    length,
                    handles,
                    address: first,
                })
            } else {
                Err(Error::BadArgument)
            };
        }
        if handles != 0 {
            check_transfers(length, handles, &words)?;
        } else {
            let behind = first & !mask(length)
                | second & !mask(length.saturating_sub(8))
                | third & !mask(length.saturating_sub(16));
            if behind != 0 {
                return Err(Error::BadArgument);
            }
        }
        Ok(Outgoing::Registers {
            length,
            handles,
            words,
        })
    }

    /// As [`Outgoing::decode`], for `call`, which has a register less for the message.
    #[inline(always)]
    pub(crate) fn decode_two_words(header: u64, [first, second]: [u64; 2]) -> Result<Self, Error> {
        let message = Self::decode(header, [first, second, 0])?;
        match message {
            Outgoing::Registers {
                length, handles, ..
            } if Header::words_of(length, handles) > 2 => Err(Error::BadArgument),
            _ => Ok(message),
        }
    }
}

/// Checks registers in which handles follow the bytes.
#[cold]
fn check_transfers(length: u8, handles: u8, words: &[u64; REGISTER_WORDS]) -> Result<(), Error> {
    let mut left = length;
    let mut handles_left = handles;
    for word in words {
        if left > 0 {
            if word & !mask(left) != 0 {
                return Err(Error::BadArgument);
            }
            left = left.saturating_sub(8);
        } else if handles_left > 0 {
            Transfer::from_raw(*word)?;
            handles_left -= 1;
        } else if *word != 0 {
            return Err(Error::BadArgument);
        }
    }
    Ok(())
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
        for raw in [
            1 << 11,
            1 << 31,
            1 << 32,
            5 << 8 | 1 << 7,
            1 << 8 | 24,
            4 << 8,
        ] {
            assert_eq!(Header::from_raw(raw), Err(Error::BadArgument), "{raw:#x}");
        }
        assert!(Header::from_raw(1 << 8 | 16).is_ok());
        assert!(Header::from_raw(4 << 8 | 1 << 7 | 64).is_ok());
    }

    #[test]
    fn handles_stand_behind_the_bytes() {
        let transfer = Transfer {
            handle: Handle::new(3, 1),
            rights: Rights::SEND,
        };
        let word = transfer.to_raw();
        assert_eq!(Transfer::from_raw(word), Ok(transfer));
        let decode = |length, handles, words| {
            let header = Header {
                length,
                in_memory: false,
                handles,
            };
            Outgoing::decode(header.to_raw(), words)
        };
        assert!(decode(0, 3, [word, word, word]).is_ok());
        assert!(decode(9, 1, [u64::MAX, 0xFF, word]).is_ok());
        let bad = [
            decode(0, 1, [word, 1, 0]),
            decode(1, 1, [0x100, word, 0]),
            decode(8, 1, [1, 1 << 63, 0]),
            decode(9, 1, [1, 0x100, word]),
        ];
        for decoded in bad {
            assert_eq!(decoded, Err(Error::BadArgument));
        }
    }

    #[test]
    fn a_header_survives_the_register() {
        for raw in (0..=24).chain(128..=192) {
            assert_eq!(Header::from_raw(raw).unwrap().to_raw(), raw);
        }
    }
}
