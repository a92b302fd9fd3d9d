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
/// | 64 + 2 *s* | pending bits of slot *s* | both |
/// | 65 + 2 *s* | enabled bits of slot *s*; the others pend without waking anybody | guest |
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
    /// From the words of one slot to those of the next.
    pub const WORDS_PER_SLOT: usize = 2;

    /// Looks at a page as a vcpu page.
    #[inline]
    pub const fn new(words: &'a [AtomicU64; 512]) -> Self {
        VcpuPage { words }
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
        let first = Self::FIRST_SLOT + Self::WORDS_PER_SLOT * slot;
        Some(EventWord {
            ready: &self.words[Self::READY],
            pending: self.words.get(first)?,
            enabled: self.words.get(first + 1)?,
            threshold: &self.words[Self::THRESHOLD],
            ready_bit: 1 << slot,
            slot: slot as u64,
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
    /// Every bit was pending already.
    Coalesced,
}

/// One event word of a vcpu page.
#[derive(Clone, Copy)]
pub struct EventWord<'a> {
    ready: &'a AtomicU64,
    pending: &'a AtomicU64,
    enabled: &'a AtomicU64,
    threshold: &'a AtomicU64,
    ready_bit: u64,
    slot: u64,
}

impl EventWord<'_> {
    /// Sets pending bits (the hypervisor's side of `notify`).
    #[inline]
    pub fn post(self, bits: u64) -> Posted {
        // The pending bits come before the ready bit and `take` goes the other way round, so a
        // bit that arrives between its two steps is either taken or announced.
        let before = self.pending.fetch_or(bits, Ordering::SeqCst);
        let fresh = bits & !before;
        if fresh & self.enabled.load(Ordering::SeqCst) != 0 {
            self.ready.fetch_or(self.ready_bit, Ordering::SeqCst);
            // 0 lets all slots through, and so has to be the largest number here.
            let last = self.threshold.load(Ordering::SeqCst).wrapping_sub(1);
            if self.slot <= last {
                Posted::Announced
            } else {
                Posted::Quiet
            }
        } else if fresh != 0 {
            Posted::Masked
        } else {
            Posted::Coalesced
        }
    }

    /// Takes the enabled bits that are pending and clears them.
    pub fn take(self) -> u64 {
        self.ready.fetch_and(!self.ready_bit, Ordering::SeqCst);
        let enabled = self.enabled.load(Ordering::SeqCst);
        self.pending.fetch_and(!enabled, Ordering::SeqCst) & enabled
    }

    /// Lets these bits wake the vcpu, and no others. Needs no exit.
    ///
    /// Bits that were pending all along are announced now.
    pub fn enable(self, bits: u64) {
        self.enabled.store(bits, Ordering::SeqCst);
        if self.pending.load(Ordering::SeqCst) & bits != 0 {
            self.ready.fetch_or(self.ready_bit, Ordering::SeqCst);
        }
    }

    /// The pending bits, enabled or not, without taking them.
    pub fn pending(self) -> u64 {
        self.pending.load(Ordering::SeqCst)
    }

    /// The enabled bits.
    pub fn enabled(self) -> u64 {
        self.enabled.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec::Vec;

    fn page() -> Box<[AtomicU64; 512]> {
        Box::new(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    #[test]
    fn a_disabled_bit_pends_and_is_announced_when_enabled() {
        let words = page();
        let page = VcpuPage::new(&words);
        let word = page.slot(0).unwrap();
        assert_eq!(word.post(0b10), Posted::Masked);
        assert_eq!(word.post(0b10), Posted::Coalesced);
        assert_eq!((page.ready(), word.take()), (0, 0));
        word.enable(0b10);
        assert_eq!((page.ready(), word.take()), (1, 0b10));
    }

    #[test]
    fn slots_beyond_the_threshold_become_ready_quietly() {
        let words = page();
        let page = VcpuPage::new(&words);
        for (threshold, slot, posted) in [
            (0, 0, Posted::Announced),
            (0, 63, Posted::Announced),
            (4, 3, Posted::Announced),
            (4, 4, Posted::Quiet),
            (64, 63, Posted::Announced),
            (usize::MAX, 63, Posted::Announced),
        ] {
            page.set_threshold(threshold);
            let word = page.slot(slot).unwrap();
            word.enable(1);
            assert_eq!(word.post(1), posted, "{threshold} {slot}");
            assert_eq!(page.ready(), 1 << slot);
            assert_eq!(word.take(), 1);
        }
    }

    #[test]
    fn vectors_of_exceptions_are_no_upcall_vectors() {
        let words = page();
        let page = VcpuPage::new(&words);
        for (vector, expected) in [(0, None), (31, None), (32, Some(32)), (255, Some(255))] {
            page.set_upcall_vector(vector);
            assert_eq!(page.upcall_vector(), expected);
        }
        words[VcpuPage::UPCALL_VECTOR].store(0x1_0000_0020, Ordering::Relaxed);
        assert_eq!(page.upcall_vector(), None);
    }

    #[test]
    fn there_are_64_slots() {
        let words = page();
        assert!(VcpuPage::new(&words).slot(63).is_some());
        assert!(VcpuPage::new(&words).slot(64).is_none());
        assert!(VcpuPage::new(&words).slot(usize::MAX).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Post(usize, u64),
        Take(usize),
        Enable(usize, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..4usize, 0..8u64).prop_map(|(slot, bits)| Step::Post(slot, bits)),
            (0..4usize).prop_map(Step::Take),
            (0..4usize, 0..8u64).prop_map(|(slot, bits)| Step::Enable(slot, bits)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// No bit is lost or invented, and a slot with something to take is always announced.
        #[test]
        fn words_agree_with_a_model(steps in steps()) {
            let words = page();
            let page = VcpuPage::new(&words);
            let mut pending = [0u64; 4];
            let mut enabled = [0u64; 4];
            for step in steps {
                match step {
                    Step::Post(slot, bits) => {
                        let fresh = bits & !pending[slot];
                        let expected = match (fresh, fresh & enabled[slot]) {
                            (0, _) => Posted::Coalesced,
                            (_, 0) => Posted::Masked,
                            _ => Posted::Announced,
                        };
                        prop_assert_eq!(page.slot(slot).unwrap().post(bits), expected);
                        pending[slot] |= bits;
                    }
                    Step::Take(slot) => {
                        let taken = page.slot(slot).unwrap().take();
                        prop_assert_eq!(taken, pending[slot] & enabled[slot]);
                        pending[slot] &= !enabled[slot];
                    }
                    Step::Enable(slot, bits) => {
                        page.slot(slot).unwrap().enable(bits);
                        enabled[slot] = bits;
                    }
                }
                for slot in 0..4 {
                    if pending[slot] & enabled[slot] != 0 {
                        prop_assert!(page.ready() & 1 << slot != 0);
                    }
                }
            }
        }
    }
}
