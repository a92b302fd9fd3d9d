//! The vcpu page: event words in memory that the guest and the hypervisor share.
//!
//! Both sides look at the page as 512 words. The hypervisor sets pending bits and trusts nothing
//! that it reads there; whatever a guest writes into its page harms only itself.

use core::sync::atomic::{AtomicU64, Ordering};

/// Event words in a vcpu page.
pub const EVENT_SLOTS: usize = 64;

/// A view of the page through which events reach a vcpu.
///
/// | word | content | written by |
/// | --- | --- | --- |
/// | 0 | ready: bit *s* says that slot *s* has become pending | both |
/// | 1 | upcall vector, 32 to 255, or 0 for none (x86-64 binding) | guest |
/// | 2 | threshold: slots from that number on make no upcall while the vcpu runs; 0 for none | guest |
/// | 3 | guest-physical address of the ring whose calls `wait` and HLT make, or 0 for none | guest |
/// | 4 | run state: the number of a [`RunState`](crate::RunState) | hypervisor |
/// | 5 | stolen: nanoseconds for which the vcpu has been ready | hypervisor |
/// | 6 | ready since: the time since which it is ready, or 0 | hypervisor |
/// | 64 + 2 *s* | pending bits of slot *s* | both |
/// | 65 + 2 *s* | enabled bits of slot *s*; the others pend without waking anybody | guest |
/// | 192 + 2 *s* | count: postings to slot *s* while its next word is not 0 | hypervisor |
/// | 193 + 2 *s* | wake at: the count from which on slot *s* becomes ready; 0 to count nothing | guest |
///
/// All other words are reserved.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use nuncio_abi::{Posted, VcpuPage};
///
/// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
/// let page = VcpuPage::new(&words);
/// let free = page.slot(3).unwrap();
/// free.enable(u64::MAX);
/// assert_eq!(free.post(0b101), Posted::Announced);
/// assert_eq!(free.post(0b001), Posted::Coalesced);
/// assert_eq!(page.ready(), 1 << 3);
/// assert_eq!(free.take(), 0b101);
/// assert_eq!(page.ready(), 0);
/// ```
#[derive(Clone, Copy)]
pub struct VcpuPage<'a> {
    words: &'a [AtomicU64; 512],
}

impl<'a> VcpuPage<'a> {
    /// The word with a bit for each slot that has become pending.
    pub const READY: usize = 0;
    /// The word with the vector of upcalls.
    pub const UPCALL_VECTOR: usize = 1;
    /// The word with the number of slots that make upcalls while the vcpu runs, or 0 for all.
    pub const THRESHOLD: usize = 2;
    /// The word with the address of a ring.
    pub const RING: usize = 3;
    /// The word with the pending bits of slot 0; the word behind it has the enabled bits.
    pub const FIRST_SLOT: usize = 64;
    /// The word with the count of slot 0; the word behind it has the count to wake at.
    pub const FIRST_COUNT: usize = 192;
    /// From the words of one slot to those of the next, here and there.
    pub const WORDS_PER_SLOT: usize = 2;

    /// Looks at a page as a vcpu page.
    #[inline]
    pub const fn new(words: &'a [AtomicU64; 512]) -> Self {
        VcpuPage { words }
    }

    pub(crate) const fn words(self) -> &'a [AtomicU64; 512] {
        self.words
    }

    /// The slots that have become pending since their bits were last taken.
    #[inline]
    pub fn ready(self) -> u64 {
        self.words[Self::READY].load(Ordering::SeqCst)
    }

    /// The vector at which the upcall arrives, or `None` if the guest asked for none.
    #[inline]
    pub fn upcall_vector(self) -> Option<u8> {
        match self.words[Self::UPCALL_VECTOR].load(Ordering::Relaxed) {
            vector @ 32..=255 => Some(vector as u8),
            _ => None,
        }
    }

    /// Asks for upcalls at a vector from 32 to 255; 0 for none. Any other number counts as 0.
    pub fn set_upcall_vector(self, vector: u8) {
        self.words[Self::UPCALL_VECTOR].store(u64::from(vector), Ordering::Relaxed);
    }

    /// Lets only slots below this number make upcalls while the vcpu runs; 0 lets all. Needs no exit.
    ///
    /// Whoever lets more slots than before looks at [`VcpuPage::ready`] afterwards: what has become
    /// ready meanwhile is not announced again.
    pub fn set_threshold(self, slots: usize) {
        self.words[Self::THRESHOLD].store(slots as u64, Ordering::SeqCst);
    }

    /// The guest-physical address of the ring whose calls are made before the vcpu sleeps; 0 for none.
    #[inline]
    pub fn ring(self) -> u64 {
        self.words[Self::RING].load(Ordering::Relaxed)
    }

    /// Names such a ring.
    pub fn set_ring(self, address: u64) {
        self.words[Self::RING].store(address, Ordering::Relaxed);
    }

    /// The event word of a slot, if there is one of that number.
    #[inline]
    pub fn slot(self, slot: usize) -> Option<EventWord<'a>> {
        if slot >= EVENT_SLOTS {
            return None;
        }
        Some(EventWord {
            words: self.words,
            slot,
        })
    }
}

/// What became of bits that were posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// An enabled bit became pending that was not: the vcpu has to be told.
    Announced,
    /// The same in a slot beyond the threshold: the vcpu has to be told if it sleeps.
    Quiet,
    /// Bits became pending, none of them enabled: they wait to be enabled.
    Masked,
    /// Every bit was pending already, or the slot is ready.
    Coalesced,
    /// The posting was counted, and the count has not come to where the vcpu wants to be told.
    Counted,
}

/// One event word of a vcpu page.
#[derive(Clone, Copy)]
pub struct EventWord<'a> {
    words: &'a [AtomicU64; 512],
    /// Below [`EVENT_SLOTS`]. The remainder below says so once more, where no bound is checked then.
    slot: usize,
}

impl<'a> EventWord<'a> {
    const fn of_slot(self, first: usize) -> &'a AtomicU64 {
        &self.words[first + VcpuPage::WORDS_PER_SLOT * (self.slot % EVENT_SLOTS)]
    }

    const fn pending_word(self) -> &'a AtomicU64 {
        self.of_slot(VcpuPage::FIRST_SLOT)
    }

    const fn enabled_word(self) -> &'a AtomicU64 {
        self.of_slot(VcpuPage::FIRST_SLOT + 1)
    }

    const fn count_word(self) -> &'a AtomicU64 {
        self.of_slot(VcpuPage::FIRST_COUNT)
    }

    const fn wake_at_word(self) -> &'a AtomicU64 {
        self.of_slot(VcpuPage::FIRST_COUNT + 1)
    }

    const fn ready_bit(self) -> u64 {
        1 << (self.slot % EVENT_SLOTS)
    }

    fn ready_word(self) -> &'a AtomicU64 {
        &self.words[VcpuPage::READY]
    }

    /// Sets pending bits (the hypervisor's side of `notify`).
    #[inline]
    pub fn post(self, bits: u64) -> Posted {
        match self.post_uncounted(bits) {
            Some(posted) => posted,
            None => self.post_counted(bits),
        }
    }

    /// The part of [`EventWord::post`] that is short. `None` if postings are counted:
    /// [`EventWord::post_counted`] has to be called then, with the same bits.
    #[inline]
    pub fn post_uncounted(self, bits: u64) -> Option<Posted> {
        // The pending bits come before the ready bit and `take` goes the other way round, so a
        // bit that arrives between its two steps is either taken or announced. They also come before
        // the look at where to wake: what is not counted is announced if it is fresh.
        let before = self.pending_word().fetch_or(bits, Ordering::SeqCst);
        if self.wake_at_word().load(Ordering::SeqCst) != 0 {
            return None;
        }
        let fresh = bits & !before;
        Some(if fresh & self.enabled_word().load(Ordering::SeqCst) != 0 {
            self.ready_word()
                .fetch_or(self.ready_bit(), Ordering::SeqCst);
            self.announced()
        } else if fresh != 0 {
            Posted::Masked
        } else {
            Posted::Coalesced
        })
    }

    /// The rest of [`EventWord::post`] while postings are counted.
    ///
    /// Nothing is lost between this and [`EventWord::wake_at`]: this adds to the count and then reads
    /// where to wake, that writes where to wake and then reads the count, all in one order. So one of
    /// the two finds that the count has come far enough, and sets the ready bit. Bits are pending
    /// before they are counted, so whoever finds that finds the bits of every posting up to there.
    #[cold]
    #[inline(never)]
    pub fn post_counted(self, bits: u64) -> Posted {
        if bits == 0 {
            return Posted::Coalesced;
        }
        self.count_word().fetch_add(1, Ordering::SeqCst);
        if !self.has_come() {
            return Posted::Counted;
        }
        // Those of another posting, too, that was counted before this one and came too early.
        let pending = self.pending_word().load(Ordering::SeqCst);
        if pending & self.enabled_word().load(Ordering::SeqCst) == 0 {
            return Posted::Masked;
        }
        let before = self
            .ready_word()
            .fetch_or(self.ready_bit(), Ordering::SeqCst);
        if before & self.ready_bit() != 0 {
            return Posted::Coalesced;
        }
        self.announced()
    }

    /// The slot has become ready.
    #[inline]
    fn announced(self) -> Posted {
        // 0 lets all slots through, and so has to be the largest number here.
        let last = self.words[VcpuPage::THRESHOLD]
            .load(Ordering::SeqCst)
            .wrapping_sub(1);
        if self.slot as u64 <= last {
            Posted::Announced
        } else {
            Posted::Quiet
        }
    }

    /// Whether the count has come to where the vcpu wants to be told, or does not matter.
    pub fn has_come(self) -> bool {
        let wake_at = self.wake_at_word().load(Ordering::SeqCst);
        let count = self.count_word().load(Ordering::SeqCst);
        wake_at == 0 || count.wrapping_sub(wake_at) as i64 >= 0
    }

    /// Takes the enabled bits that are pending and clears them.
    pub fn take(self) -> u64 {
        self.ready_word()
            .fetch_and(!self.ready_bit(), Ordering::SeqCst);
        let enabled = self.enabled_word().load(Ordering::SeqCst);
        self.pending_word().fetch_and(!enabled, Ordering::SeqCst) & enabled
    }

    /// Lets these bits wake the vcpu, and no others. Needs no exit.
    ///
    /// Bits that were pending all along are announced now, unless the count of [`EventWord::wake_at`]
    /// is still to come.
    pub fn enable(self, bits: u64) {
        self.enabled_word().store(bits, Ordering::SeqCst);
        self.look();
    }

    /// Lets the slot become ready only when its count has come so far; 0 counts no more, and lets
    /// every fresh bit make it ready. Needs no exit.
    ///
    /// The count goes up by one for each posting of bits, whichever they are; a message that is
    /// queued on a port is one. It goes round at 2⁶⁴, and "so far" is less than 2⁶³ ahead of it. From
    /// there on every posting announces the slot, unless it is ready: so a count that has passed wakes
    /// until a new one is written. If it has passed already the slot becomes ready now. The bits that
    /// pend can be taken at any time.
    ///
    /// ```
    /// use core::sync::atomic::AtomicU64;
    /// use nuncio_abi::{Posted, VcpuPage};
    ///
    /// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
    /// let page = VcpuPage::new(&words);
    /// let arrivals = page.slot(3).unwrap();
    /// arrivals.enable(1);
    /// arrivals.wake_at(2);
    /// assert_eq!(arrivals.post(1), Posted::Counted);
    /// assert_eq!((page.ready(), arrivals.pending()), (0, 1));
    /// assert_eq!(arrivals.post(1), Posted::Announced);
    /// assert_eq!((page.ready(), arrivals.count()), (1 << 3, 2));
    /// ```
    pub fn wake_at(self, count: u64) {
        self.wake_at_word().store(count, Ordering::SeqCst);
        self.look();
    }

    /// Lets the slot become ready with the posting that is so many ahead, 1 being the next.
    ///
    /// What is posted meanwhile counts. Returns the count that was written.
    ///
    /// ```
    /// use core::sync::atomic::AtomicU64;
    /// use nuncio_abi::{Posted, VcpuPage};
    ///
    /// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
    /// let word = VcpuPage::new(&words).slot(0).unwrap();
    /// word.enable(u64::MAX);
    /// word.batch(16);
    /// let posted: [Posted; 16] = core::array::from_fn(|bit| word.post(1 << bit));
    /// assert_eq!(posted[..15], [Posted::Counted; 15]);
    /// assert_eq!(posted[15], Posted::Announced);
    /// assert_eq!(word.take(), 0xFFFF);
    /// ```
    pub fn batch(self, postings: u64) -> u64 {
        let count = match self.count().wrapping_add(postings) {
            // That would count nothing; one posting too early loses nothing.
            0 => u64::MAX,
            count => count,
        };
        self.wake_at(count);
        count
    }

    /// How many postings have been counted.
    pub fn count(self) -> u64 {
        self.count_word().load(Ordering::SeqCst)
    }

    /// Makes the slot ready if there is something to take and the count has come far enough: what was
    /// posted before the guest changed its mind is not posted again.
    fn look(self) {
        let pending = self.pending_word().load(Ordering::SeqCst) & self.enabled();
        if pending != 0 && self.has_come() {
            self.ready_word()
                .fetch_or(self.ready_bit(), Ordering::SeqCst);
        }
    }

    /// The pending bits, enabled or not, without taking them.
    pub fn pending(self) -> u64 {
        self.pending_word().load(Ordering::SeqCst)
    }

    /// The enabled bits.
    pub fn enabled(self) -> u64 {
        self.enabled_word().load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
