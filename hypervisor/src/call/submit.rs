//! `submit`: make the calls that stand in a ring, one after the other.
//!
//! What is here says which call comes next and where its reply goes. The loop makes the calls,
//! because each of them can put the vcpu to sleep.
//!
//! The place in the ring is counted here. What the page says of it is read once at the beginning, and
//! the guest's count again before each entry. The page is looked up again whenever a CPU would have to:
//! any entry can have taken it away.

use nuncio_abi::{Deadline, Error, RawCall, Rights, RingPage, Verb, MAX_VALUES, RING_ENTRIES};

use crate::mem::GuestPhysical;
use crate::object::Space;

use super::Caller;

/// How far a vcpu has come with the entries of a ring.
#[derive(Clone, Copy)]
pub struct Submission {
    address: GuestPhysical,
    /// What is at the address, as long as the space has this flush number.
    page: RingPage<'static>,
    flushes: u64,
    /// The number of the entry that is made, or comes next.
    number: u64,
    /// Entries that may still be made.
    left: u8,
    done: u8,
    then: Then,
}

/// What the vcpu does when the entries are done.
#[derive(Clone, Copy)]
pub enum Then {
    /// It gets their count.
    Reply,
    /// It sleeps in `wait`.
    Wait(Deadline),
    /// It sleeps in HLT.
    Halt,
}

/// What an entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A call.
    Call(RawCall),
    /// Nothing that can be done in a ring.
    Refused(Error),
}

impl Submission {
    /// Looks at a ring.
    ///
    /// # Errors
    /// `BadAddress`; `BadArgument` if its counts make no sense.
    pub fn begin(caller: Caller<'_>, address: u64, entries: u8, then: Then) -> Result<Self, Error> {
        let space = &caller.domain.space;
        let address = GuestPhysical(address);
        if !address.is_page_aligned() {
            return Err(Error::BadAddress);
        }
        let flushes = space.flushes();
        let page = find(space, address).ok_or(Error::BadAddress)?;
        let number = page.taken();
        page.outstanding(number).ok_or(Error::BadArgument)?;
        Ok(Submission {
            address,
            page,
            flushes,
            number,
            left: entries,
            done: 0,
            then,
        })
    }

    /// The ring that the vcpu page names, if there is one, for a vcpu that is about to sleep.
    #[inline]
    pub fn before_sleep(caller: Caller<'_>, then: Then) -> Option<Self> {
        match caller.vcpu.page().ring() {
            0 => None,
            ring => Self::begin(caller, ring, RING_ENTRIES as u8, then).ok(),
        }
    }

    /// What it does when the entries are done.
    pub const fn then(&self) -> Then {
        self.then
    }

    /// Entries that are done.
    pub const fn done(&self) -> u64 {
        self.done as u64
    }

    /// The entry that comes next; `None` if it was the last one, or the ring has gone.
    #[inline(always)]
    pub fn next(&mut self, space: &Space) -> Option<Entry> {
        if self.left == 0 {
            return None;
        }
        let page = self.page(space)?;
        page.outstanding(self.number).filter(|count| *count > 0)?;
        Some(match page.call(self.number) {
            Some(raw) if raw.verb != Verb::Submit.number() => Entry::Call(raw),
            _ => Entry::Refused(Error::BadArgument),
        })
    }

    /// Writes the reply to that entry, if the ring is still there.
    #[inline(always)]
    pub fn finish(&mut self, space: &Space, status: u64, values: &[u64; MAX_VALUES]) {
        if let Some(page) = self.page(space) {
            page.finish(self.number, status, values);
        }
        self.number = self.number.wrapping_add(1);
        self.left = self.left.saturating_sub(1);
        self.done = self.done.saturating_add(1);
    }

    #[inline(always)]
    fn page(&mut self, space: &Space) -> Option<RingPage<'static>> {
        let flushes = space.flushes();
        if flushes == self.flushes {
            Some(self.page)
        } else {
            self.find_again(space, flushes)
        }
    }

    #[cold]
    fn find_again(&mut self, space: &Space, flushes: u64) -> Option<RingPage<'static>> {
        self.page = find(space, self.address)?;
        self.flushes = flushes;
        Some(self.page)
    }
}

fn find(space: &Space, address: GuestPhysical) -> Option<RingPage<'static>> {
    let words = space.words(address, Rights::READ | Rights::WRITE)?;
    Some(RingPage::new(words))
}
