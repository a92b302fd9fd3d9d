//! What `send`, `call` and `reply` take from their caller, and what `receive` and the answer to a
//! `call` bring it.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    CallToken, Error, Handle, Header, Message, Outgoing, Rights, Transfer, MAX_VALUES,
    MESSAGE_ALIGNMENT, MESSAGE_HANDLES, MESSAGE_WORDS, REGISTER_WORDS,
};

use crate::mem::{GuestPhysical, Words};
use crate::object::{fits_registers, HandleTable, Held, Space};

/// A message as its sender names it, before its handles are looked up.
pub(super) struct Parcel {
    pub(super) message: Message,
    handles: u8,
    behind: Behind,
}

/// Where the words are that stand for handles.
#[derive(Clone, Copy)]
enum Behind {
    Registers([u64; REGISTER_WORDS]),
    Memory(Place),
}

impl Parcel {
    /// Copies the bytes out of the sender's registers or memory; from here on they cannot change.
    #[inline]
    pub(super) fn fetch(space: &Space, message: Outgoing) -> Result<Self, Error> {
        match message {
            Outgoing::Registers {
                length,
                handles,
                words,
            } => {
                let [first, second, third] = words;
                let message = if handles == 0 {
                    Message {
                        length,
                        words: [first, second, third, 0, 0, 0, 0, 0],
                    }
                } else {
                    Message::from_words(length, words.into_iter()).ok_or(Error::BadArgument)?
                };
                Ok(Parcel {
                    message,
                    handles,
                    behind: Behind::Registers(words),
                })
            }
            Outgoing::Memory {
                length,
                handles,
                address,
            } => {
                let place = Place::find(space, address, Rights::READ)?;
                let words = place.words().map(|word| word.load(Relaxed));
                Ok(Parcel {
                    message: Message::from_words(length, words).ok_or(Error::BadArgument)?,
                    handles,
                    behind: Behind::Memory(place),
                })
            }
        }
    }

    /// Copies of the handles that go with the message. They count as held, until they are put into
    /// a table or closed.
    ///
    /// # Errors
    /// As `grant` for each of them; none of them counts then.
    #[inline]
    pub(super) fn pack(&self, table: &HandleTable) -> Result<Vec<Held>, Error> {
        if self.handles == 0 {
            return Ok(Vec::new());
        }
        match self.behind {
            Behind::Registers(words) => {
                let behind = usize::from(self.message.length).div_ceil(8);
                self.copy_handles(table, words.into_iter().skip(behind))
            }
            Behind::Memory(place) => {
                let words = place.words().skip(MESSAGE_WORDS);
                self.copy_handles(table, words.map(|word| word.load(Relaxed)))
            }
        }
    }

    #[cold]
    fn copy_handles(
        &self,
        table: &HandleTable,
        words: impl Iterator<Item = u64>,
    ) -> Result<Vec<Held>, Error> {
        let handles = words
            .take(usize::from(self.handles))
            .map(|word| {
                let Transfer { handle, rights } = Transfer::from_raw(word)?;
                table.copy(handle, rights)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        for held in &handles {
            held.object.opened(held.rights);
        }
        Ok(handles)
    }
}

/// A place in guest memory for one message: 128 bytes inside one page.
#[derive(Clone, Copy)]
pub(super) struct Place {
    page: &'static Words,
    first: usize,
}

impl Place {
    /// Finds the memory at an address that may not be what the guest says.
    pub(super) fn find(space: &Space, address: u64, access: Rights) -> Result<Self, Error> {
        // A multiple of 128 keeps the whole of it inside one page.
        if !address.is_multiple_of(MESSAGE_ALIGNMENT) {
            return Err(Error::BadAddress);
        }
        let address = GuestPhysical(address);
        let page = space.words(address, access).ok_or(Error::BadAddress)?;
        let first = (address.page_offset() / 8) as usize;
        Ok(Place { page, first })
    }

    /// A buffer for what comes in; address 0 is none.
    pub(super) fn buffer(space: &Space, address: u64) -> Result<Option<Self>, Error> {
        if address == 0 {
            return Ok(None);
        }
        Self::find(space, address, Rights::READ | Rights::WRITE).map(Some)
    }

    fn words(self) -> impl Iterator<Item = &'static core::sync::atomic::AtomicU64> {
        self.page.iter().skip(self.first)
    }

    fn store(self, message: &Message) {
        for (target, word) in self.words().zip(message.words) {
            target.store(word, Relaxed);
        }
    }

    fn store_handles(self, handles: &[u64]) {
        for (target, word) in self.words().skip(MESSAGE_WORDS).zip(handles) {
            target.store(*word, Relaxed);
        }
    }
}

/// Delivers the bytes of a message: into the buffer if it does not fit into registers together
/// with its handles. Returns the value registers; handles follow by [`deliver_handles`].
#[inline]
pub(super) fn deliver(
    message: &Message,
    handles: usize,
    badge: u64,
    token: Option<CallToken>,
    buffer: Option<Place>,
) -> Result<[u64; MAX_VALUES], Error> {
    let in_memory = !fits_registers(message, handles);
    if in_memory {
        buffer.ok_or(Error::BufferTooSmall)?.store(message);
    }
    let header = Header {
        length: message.length,
        in_memory,
        handles: handles as u8,
    };
    let token = token.map_or(0, CallToken::to_header);
    let [first, second, third, ..] = if in_memory {
        [0; MESSAGE_WORDS]
    } else {
        message.words
    };
    Ok([header.to_raw() | token, badge, first, second, third])
}

/// Puts the handles of a delivered message into the table, which has room for them, and their new
/// numbers behind its bytes.
#[cold]
pub(super) fn deliver_handles(
    table: &mut HandleTable,
    handles: Vec<Held>,
    length: u8,
    buffer: Option<Place>,
    values: &mut [u64; MAX_VALUES],
) {
    let in_memory =
        Header::from_raw(values[0] & u64::from(u32::MAX)).is_ok_and(|header| header.in_memory);
    let mut words = [0; MESSAGE_HANDLES];
    let count = handles.len();
    for (word, held) in words.iter_mut().zip(handles) {
        let rights = held.rights;
        *word = table
            .adopt(held)
            .map_or(0, |handle| as_transfer(handle, rights));
    }
    let words = words.get(..count).unwrap_or_default();
    match buffer {
        Some(buffer) if in_memory => buffer.store_handles(words),
        _ => {
            let registers = values.iter_mut().skip(2);
            let behind = registers.skip(usize::from(length).div_ceil(8));
            for (register, word) in behind.zip(words) {
                *register = *word;
            }
        }
    }
}

fn as_transfer(handle: Handle, rights: Rights) -> u64 {
    Transfer { handle, rights }.to_raw()
}
