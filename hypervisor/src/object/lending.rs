//! Where a memory is mapped, so that its maker can take it back.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::Error;

use crate::lock::{rank, Mutex};

use super::{Memory, Space, Wake};

/// Pages of all mappings of one memory together. Taking it back takes time in proportion.
const MOST_MAPPED_PAGES: u64 = 1 << 16;

/// Spaces in which one memory can be mapped at a time.
const MOST_SPACES: usize = 64;

/// What a memory knows of its mappings.
pub(super) struct Lending(Mutex<State, rank::Lending>);

struct State {
    is_revoked: bool,
    pages: u64,
    /// Where it is mapped.
    places: Vec<Place>,
}

/// A space in which pages of the memory are mapped, at least one.
struct Place {
    space: Weak<Space>,
    pages: u64,
}

impl Place {
    fn is_in(&self, space: &Space) -> bool {
        core::ptr::eq(self.space.as_ptr(), space)
    }
}

/// Bytes that the list takes at most.
pub(super) const LENDING_BYTES: usize = MOST_SPACES.saturating_mul(size_of::<Place>());

impl Lending {
    pub(super) fn new() -> Self {
        Lending(Mutex::new(State {
            is_revoked: false,
            pages: 0,
            places: Vec::new(),
        }))
    }

    /// So many pages are about to be mapped in the space.
    ///
    /// # Errors
    /// `PeerGone` if it was taken back; `QuotaExhausted` if it is mapped too often.
    pub(super) fn add(&self, space: &Arc<Space>, pages: u64) -> Result<(), Error> {
        let state = &mut *self.0.lock();
        if state.is_revoked {
            return Err(Error::PeerGone);
        }
        let sum = state.pages.saturating_add(pages);
        if sum > MOST_MAPPED_PAGES {
            return Err(Error::QuotaExhausted);
        }
        let is_full = state.places.len() >= MOST_SPACES;
        match state.places.iter_mut().find(|place| place.is_in(space)) {
            Some(place) => place.pages = place.pages.saturating_add(pages),
            None if is_full => return Err(Error::QuotaExhausted),
            None => state.places.push(Place {
                space: Arc::downgrade(space),
                pages,
            }),
        }
        state.pages = sum;
        Ok(())
    }

    /// So many pages are not mapped in the space any more.
    pub(super) fn remove(&self, space: &Space, pages: u64) {
        let state = &mut *self.0.lock();
        state.pages = state.pages.saturating_sub(pages);
        let mut places = state.places.iter_mut().enumerate();
        // Memory that was taken back is in no list any more.
        if let Some((index, place)) = places.find(|(_, place)| place.is_in(space)) {
            place.pages = place.pages.saturating_sub(pages);
            if place.pages == 0 {
                state.places.swap_remove(index);
            }
        }
    }

    /// Takes the memory out of all spaces, and lets nobody map it again.
    pub(super) fn revoke(&self, memory: &Arc<Memory>, wake: &mut dyn FnMut(Wake)) {
        let places = {
            let mut state = self.0.lock();
            state.is_revoked = true;
            core::mem::take(&mut state.places)
        };
        for space in places.iter().filter_map(|place| place.space.upgrade()) {
            space.take_out(memory, wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Account, GuestPhysical};
    use crate::nested::NPT;
    use crate::object::Mapping;
    use nuncio_abi::Rights;

    const ONE_PAGE: Mapping = Mapping {
        address: GuestPhysical(0),
        offset: 0,
        length: 4096,
        access: Rights::READ,
    };

    #[test]
    fn only_spaces_in_which_it_is_mapped_count() {
        let frames = 8 * MOST_SPACES as u64;
        let arena = Arena::leak(64, frames);
        let account = Account::new(arena.pool(), frames);
        let memory = Arc::new(Memory::create(&account, 1).unwrap());
        let space = || Arc::new(Space::new(&account, arena, &NPT, 1 << 39).unwrap());
        let mut spaces: Vec<_> = core::iter::repeat_with(space).take(MOST_SPACES).collect();
        for space in &spaces {
            space.map(&memory, &ONE_PAGE, &mut |_| ()).unwrap();
        }
        let (last, second) = (
            space(),
            Mapping {
                address: GuestPhysical(4096),
                ..ONE_PAGE
            },
        );
        let full = Err(Error::QuotaExhausted);
        assert_eq!(last.map(&memory, &ONE_PAGE, &mut |_| ()), full);
        spaces[0].map(&memory, &second, &mut |_| ()).unwrap();
        spaces[0].unmap(second.address, 4096, &mut |_| ()).unwrap();
        assert_eq!(
            last.map(&memory, &ONE_PAGE, &mut |_| ()),
            full,
            "it is mapped there once"
        );
        spaces[0]
            .unmap(ONE_PAGE.address, 4096, &mut |_| ())
            .unwrap();
        last.map(&memory, &ONE_PAGE, &mut |_| ()).unwrap();
        assert_eq!(spaces[0].map(&memory, &ONE_PAGE, &mut |_| ()), full);
        drop(spaces.pop());
        spaces[0].map(&memory, &ONE_PAGE, &mut |_| ()).unwrap();
        memory.revoke(&mut |_| ());
        assert!(spaces.iter().all(|space| space.mapped_bytes() == 0));
        assert_eq!(
            last.map(&memory, &ONE_PAGE, &mut |_| ()),
            Err(Error::PeerGone)
        );
    }
}
