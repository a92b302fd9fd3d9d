//! Where a memory is mapped, so that its maker can take it back.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::Error;
use spin::Mutex;

use super::{Memory, Space, Wake};

/// Pages of all mappings of one memory together. Taking it back takes time in proportion.
const MOST_MAPPED_PAGES: u64 = 1 << 16;

/// Spaces in which one memory can be mapped at a time.
const MOST_SPACES: usize = 64;

/// What a memory knows of its mappings.
pub(super) struct Lending(Mutex<State>);

struct State {
    is_revoked: bool,
    pages: u64,
    /// Where it may be mapped; a space stays here until it is gone or the place is needed.
    spaces: Vec<Weak<Space>>,
}

/// Bytes that the list takes at most.
pub(super) const LENDING_BYTES: usize = MOST_SPACES.saturating_mul(size_of::<Weak<Space>>());

impl Lending {
    pub(super) fn new() -> Self {
        Lending(Mutex::new(State {
            is_revoked: false,
            pages: 0,
            spaces: Vec::new(),
        }))
    }

    /// So many pages are about to be mapped in the space.
    ///
    /// # Errors
    /// `PeerGone` if it was taken back; `QuotaExhausted` if it is mapped too often.
    pub(super) fn add(&self, space: &Arc<Space>, pages: u64) -> Result<(), Error> {
        let mut state = self.0.lock();
        if state.is_revoked {
            return Err(Error::PeerGone);
        }
        let sum = state.pages.saturating_add(pages);
        if sum > MOST_MAPPED_PAGES {
            return Err(Error::QuotaExhausted);
        }
        let is_here = |known: &Weak<Space>| core::ptr::eq(known.as_ptr(), Arc::as_ptr(space));
        if !state.spaces.iter().any(is_here) {
            if state.spaces.len() >= MOST_SPACES {
                state.spaces.retain(|space| space.strong_count() > 0);
            }
            if state.spaces.len() >= MOST_SPACES {
                return Err(Error::QuotaExhausted);
            }
            state.spaces.push(Arc::downgrade(space));
        }
        state.pages = sum;
        Ok(())
    }

    /// So many pages are not mapped any more.
    pub(super) fn remove(&self, pages: u64) {
        let mut state = self.0.lock();
        state.pages = state.pages.saturating_sub(pages);
    }

    /// Takes the memory out of all spaces, and lets nobody map it again.
    pub(super) fn revoke(&self, memory: &Arc<Memory>, wake: &mut dyn FnMut(Wake)) {
        let spaces = {
            let mut state = self.0.lock();
            state.is_revoked = true;
            core::mem::take(&mut state.spaces)
        };
        for space in spaces.iter().filter_map(Weak::upgrade) {
            space.take_out(memory, wake);
        }
    }
}
