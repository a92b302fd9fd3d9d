//! `submit`: make the calls that stand in a ring, one after the other.
//!
//! What is here says which call comes next and where its reply goes. The loop makes the calls,
//! because each of them can put the vcpu to sleep.
//!
//! The place in the ring is counted here. What the page says of it is read once at the beginning, and
//! the guest's count again before each entry. The page is looked up for each entry, once: any entry, and
//! any other CPU, can have taken it away.

use nuncio_abi::{Deadline, Error, RawCall, Rights, RingPage, Verb, MAX_VALUES, RING_ENTRIES};

use crate::mem::GuestPhysical;
use crate::object::Space;

use super::Caller;

/// How far a vcpu has come with the entries of a ring.
#[derive(Clone, Copy)]
pub struct Submission {
    address: GuestPhysical,
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
    /// The call that was read, which is not moved with this: it is some fifty bytes.
    Call,
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
        let taken = |page: RingPage<'_>| {
            let number = page.taken();
            page.outstanding(number).map(|_| number)
        };
        let number = with_ring(space, address, taken).ok_or(Error::BadAddress)?;
        let number = number.ok_or(Error::BadArgument)?;
        Ok(Submission {
            address,
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

    /// Reads the entry that comes next into `call`; `None` if it was the last one, or the ring has gone.
    pub fn next(&self, space: &Space, call: &mut RawCall) -> Option<Entry> {
        with_ring(space, self.address, |page| self.read(page, call)).flatten()
    }

    /// Writes the reply to that entry, if the ring is still there, and reads the entry that comes next,
    /// as [`Submission::next`] does.
    #[inline(always)]
    pub fn finish(
        &mut self,
        space: &Space,
        status: u64,
        values: &[u64; MAX_VALUES],
        call: &mut RawCall,
    ) -> Option<Entry> {
        let number = self.number;
        self.number = self.number.wrapping_add(1);
        self.left = self.left.saturating_sub(1);
        self.done = self.done.saturating_add(1);
        let finish_and_read = |page: RingPage<'_>| {
            page.finish(number, status, values);
            self.read(page, call)
        };
        with_ring(space, self.address, finish_and_read).flatten()
    }

    #[inline(always)]
    fn read(&self, page: RingPage<'_>, call: &mut RawCall) -> Option<Entry> {
        if self.left == 0 {
            return None;
        }
        page.outstanding(self.number).filter(|count| *count > 0)?;
        Some(match page.call(self.number) {
            Some(raw) if raw.verb != Verb::Submit.number() => {
                *call = raw;
                Entry::Call
            }
            _ => Entry::Refused(Error::BadArgument),
        })
    }
}

/// Does something with the ring, if the page is there.
#[inline(always)]
fn with_ring<R>(
    space: &Space,
    address: GuestPhysical,
    act: impl FnOnce(RingPage<'_>) -> R,
) -> Option<R> {
    let access = Rights::READ | Rights::WRITE;
    space.with_page(address, access, |words| act(RingPage::new(words)))
}
