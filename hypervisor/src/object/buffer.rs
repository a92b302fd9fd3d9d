//! Where a message arrives: a place in the receiver's memory, and the registers of its reply.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nuncio_abi::{
    CallToken, Error, Header, Message, Rights, MAX_VALUES, MESSAGE_ALIGNMENT, MESSAGE_WORDS,
    REGISTER_WORDS,
};

use crate::mem::{GuestPhysical, Words};

use super::Space;

/// A place in guest memory for one message: 128 bytes inside one page.
#[derive(Clone, Copy)]
pub struct Place {
    page: &'static Words,
    first: usize,
}

impl Place {
    /// Finds the memory at an address that may not be what the guest says.
    ///
    /// # Errors
    /// `BadAddress`.
    #[inline]
    pub fn find(space: &Space, address: u64, access: Rights) -> Result<Self, Error> {
        // A multiple of 128 keeps the whole of it inside one page.
        if !address.is_multiple_of(MESSAGE_ALIGNMENT) {
            return Err(Error::BadAddress);
        }
        let address = GuestPhysical(address);
        let page = space.words(address, access).ok_or(Error::BadAddress)?;
        let first = (address.page_offset() / 8) as usize;
        Ok(Place { page, first })
    }

    /// Finds the memory for what comes in.
    ///
    /// # Errors
    /// `BadAddress`.
    #[inline]
    pub fn for_arrival(space: &Space, address: u64) -> Result<Self, Error> {
        Self::find(space, address, Rights::READ | Rights::WRITE)
    }

    /// The words from the place to the end of its page.
    pub fn words(self) -> impl Iterator<Item = &'static AtomicU64> {
        self.page.iter().skip(self.first)
    }

    /// The words for the bytes of a message.
    fn bytes(self) -> Option<&'static [AtomicU64; MESSAGE_WORDS]> {
        self.page.get(self.first..)?.first_chunk()
    }

    /// Copies the words for the bytes of a message.
    pub fn load(self) -> [u64; MESSAGE_WORDS] {
        let load =
            |words: &[AtomicU64; MESSAGE_WORDS]| words.each_ref().map(|word| word.load(Relaxed));
        self.bytes().map_or([0; MESSAGE_WORDS], load)
    }

    fn store(self, message: &Message) {
        for (target, word) in self.bytes().into_iter().flatten().zip(message.words) {
            target.store(word, Relaxed);
        }
    }

    /// Puts the words for handles behind the bytes of a message.
    pub fn store_handles(self, handles: &[u64]) {
        for (target, word) in self.words().skip(MESSAGE_WORDS).zip(handles) {
            target.store(*word, Relaxed);
        }
    }
}

/// A buffer that a sleeping vcpu has named. Its domain may lose the memory meanwhile, so the place is
/// found anew whenever something is written there.
#[derive(Clone)]
pub struct Buffer {
    space: Arc<Space>,
    address: u64,
}

impl Buffer {
    /// The buffer at an address.
    pub const fn new(space: Arc<Space>, address: u64) -> Self {
        Buffer { space, address }
    }

    /// Its address.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Where it is.
    ///
    /// # Errors
    /// `BadAddress`.
    #[inline]
    pub fn place(&self) -> Result<Place, Error> {
        Place::for_arrival(&self.space, self.address)
    }
}

/// Whether a message and its handles fit into the registers of a reply.
#[inline]
pub fn fits_registers(message: &Message, handles: usize) -> bool {
    let words = usize::from(message.length).div_ceil(8);
    words.saturating_add(handles) <= REGISTER_WORDS
}

/// Delivers the bytes of a message: into the buffer if it does not fit into registers together
/// with its handles. Returns the value registers; handles follow behind the bytes.
///
/// # Errors
/// `BufferTooSmall`.
#[inline(always)]
pub fn deliver(
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
