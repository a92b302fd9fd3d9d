//! Where a message arrives: a place in the receiver's memory, and the registers of its reply.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nuncio_abi::{
    CallToken, Error, Header, Message, Rights, MAX_VALUES, MESSAGE_ALIGNMENT, MESSAGE_HANDLES,
    MESSAGE_WORDS, REGISTER_WORDS,
};

use crate::mem::{GuestPhysical, Words};

use super::Space;

/// A place in guest memory for one message: 128 bytes inside one page, that may not be there. It is
/// looked up whenever something is read or written, and the space is locked as long as that takes:
/// other CPUs can take memory away at any time.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    space: &'a Space,
    address: GuestPhysical,
}

impl<'a> Place<'a> {
    /// The place at an address.
    ///
    /// # Errors
    /// `BadAddress` if it is misaligned.
    #[inline]
    pub fn new(space: &'a Space, address: u64) -> Result<Self, Error> {
        // A multiple of 128 keeps the whole of it inside one page.
        if !address.is_multiple_of(MESSAGE_ALIGNMENT) {
            return Err(Error::BadAddress);
        }
        let address = GuestPhysical(address);
        Ok(Place { space, address })
    }

    /// Whether something that comes in could be written there at the moment.
    ///
    /// # Errors
    /// `BadAddress`.
    #[inline(never)]
    pub fn check(self) -> Result<(), Error> {
        self.with(ARRIVAL, |_| ())
    }

    /// Copies the words for the bytes of a message.
    ///
    /// # Errors
    /// `BadAddress`.
    pub fn load(self) -> Result<[u64; MESSAGE_WORDS], Error> {
        self.with(Rights::READ, copy)
    }

    /// Copies the words for handles, which are behind those for bytes.
    ///
    /// # Errors
    /// `BadAddress`.
    pub fn load_handles(self) -> Result<[u64; MESSAGE_HANDLES], Error> {
        self.with(Rights::READ, |words| {
            copy(words.get(MESSAGE_WORDS..).unwrap_or_default())
        })
    }

    // Not inlined: most messages fit into registers, and the look-up would take those of their path.
    #[inline(never)]
    fn store(self, message: &Message) -> Result<(), Error> {
        self.with(ARRIVAL, |words| {
            let bytes = words.first_chunk::<MESSAGE_WORDS>();
            for (target, word) in bytes.into_iter().flatten().zip(message.words) {
                target.store(word, Relaxed);
            }
        })
    }

    /// Puts the words for handles behind the bytes of a message.
    ///
    /// # Errors
    /// `BadAddress`.
    pub fn store_handles(self, handles: &[u64]) -> Result<(), Error> {
        self.with(ARRIVAL, |words| {
            for (target, word) in words.iter().skip(MESSAGE_WORDS).zip(handles) {
                target.store(*word, Relaxed);
            }
        })
    }

    /// Does something with the words from the place to the end of its page.
    #[inline]
    fn with<R>(self, access: Rights, act: impl FnOnce(&[AtomicU64]) -> R) -> Result<R, Error> {
        let first = (self.address.page_offset() / 8) as usize;
        let act = |page: &Words| act(page.get(first..).unwrap_or_default());
        let done = self.space.with_page(self.address, access, act);
        done.ok_or(Error::BadAddress)
    }
}

/// What a guest needs to be allowed where something comes in.
const ARRIVAL: Rights = Rights::from_set(&[Rights::READ, Rights::WRITE]);

/// The first words.
#[inline]
fn copy<const COUNT: usize>(words: &[AtomicU64]) -> [u64; COUNT] {
    let load = |words: &[AtomicU64; COUNT]| words.each_ref().map(|word| word.load(Relaxed));
    words.first_chunk().map_or([0; COUNT], load)
}

/// A buffer that a sleeping vcpu has named. Its domain may lose the memory meanwhile, so the place is
/// looked up whenever something is written there.
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
    /// `BadAddress` if it is misaligned.
    #[inline]
    pub fn place(&self) -> Result<Place<'_>, Error> {
        Place::new(&self.space, self.address)
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
/// `BufferTooSmall`; `BadAddress` if the buffer is not there, even if it is not needed. Then nothing
/// is delivered.
#[inline(always)]
pub fn deliver(
    message: &Message,
    handles: usize,
    badge: u64,
    token: Option<CallToken>,
    buffer: Option<Place<'_>>,
) -> Result<[u64; MAX_VALUES], Error> {
    let in_memory = !fits_registers(message, handles);
    match buffer {
        Some(buffer) if in_memory => buffer.store(message)?,
        Some(buffer) => buffer.check()?,
        None if in_memory => return Err(Error::BufferTooSmall),
        None => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Account, Frame, PhysicalMemory};
    use crate::nested::NPT;
    use crate::object::{Mapping, Memory};

    const ADDRESS: u64 = 0x10_0000;
    const LONG: Message = Message {
        length: 64,
        words: [7; MESSAGE_WORDS],
    };

    /// A space with a page, and its frame.
    fn space(arena: &'static Arena) -> (Arc<Space>, Frame) {
        let account = Account::new(arena.pool(), 16);
        let memory = Arc::new(Memory::allocate(&account, 1).unwrap());
        let space = Arc::new(Space::new(&account, arena, &NPT, 1 << 39).unwrap());
        let mapping = Mapping {
            address: GuestPhysical(ADDRESS),
            offset: 0,
            length: 0x1000,
            access: ARRIVAL,
        };
        space.map(&memory, &mapping, &mut |_| ()).unwrap();
        (space, memory.frame(0).unwrap())
    }

    #[test]
    fn what_is_taken_away_after_it_was_checked_is_not_written() {
        let arena = Arena::leak(1, 16);
        let (space, frame) = space(arena);
        let place = Place::new(&space, ADDRESS + 128).unwrap();
        assert_eq!(place.check(), Ok(()));
        assert!(deliver(&LONG, 0, 0, None, Some(place)).is_ok());
        assert_eq!(place.load(), Ok(LONG.words));
        // What another CPU may do between the check and the delivery.
        let address = GuestPhysical(ADDRESS);
        space.unmap(address, 0x1000, &mut |_| ()).unwrap();
        for word in arena.words(frame).unwrap() {
            word.store(0, Relaxed);
        }
        let short = Message { length: 8, ..LONG };
        for message in [LONG, short] {
            let delivered = deliver(&message, 0, 0, None, Some(place));
            assert_eq!(delivered, Err(Error::BadAddress));
        }
        assert_eq!(place.store_handles(&[7]), Err(Error::BadAddress));
        assert_eq!(place.load(), Err(Error::BadAddress));
        assert_eq!(place.load_handles(), Err(Error::BadAddress));
        assert!(arena.holds(frame, 0), "it is somebody else's now");
    }

    #[test]
    fn the_handles_stand_behind_the_bytes_of_their_own_message() {
        let arena = Arena::leak(1, 16);
        let (space, _) = space(arena);
        let [first, second] =
            [ADDRESS, ADDRESS + 0xF80].map(|address| Place::new(&space, address).unwrap());
        second.store(&LONG).unwrap();
        second.store_handles(&[1, 2, 3, 4]).unwrap();
        assert_eq!(second.load_handles(), Ok([1, 2, 3, 4]));
        assert_eq!(second.load(), Ok(LONG.words));
        assert_eq!(first.load(), Ok([0; MESSAGE_WORDS]));
        assert!(Place::new(&space, ADDRESS + 64).is_err());
    }
}
