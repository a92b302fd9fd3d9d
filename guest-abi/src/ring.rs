//! The ring: a page of the guest's in which calls stand, to be made without an exit for each.
//!
//! Both sides look at the page as 512 words. The guest is the only one that adds entries. The
//! hypervisor trusts nothing in the page; whatever a guest writes there harms only itself.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{RawCall, Reply, MAX_ARGUMENTS, MAX_VALUES};

/// Entries of a ring.
pub const RING_ENTRIES: usize = 31;

const ENTRY_WORDS: usize = 16;

/// A view of a page with calls.
///
/// | word | content | written by |
/// | --- | --- | --- |
/// | 0 | submitted: how many entries have ever been added | guest |
/// | 1 | taken: how many of them are done | hypervisor |
/// | 2 | flags | hypervisor |
/// | 16 + 16 *e* | entry *e*: verb | guest |
/// | 17 + 16 *e* | five arguments | guest |
/// | 22 + 16 *e* | a word of the guest's own | guest |
/// | 24 + 16 *e* | status | hypervisor |
/// | 25 + 16 *e* | five values | hypervisor |
///
/// All other words are reserved. The entry that is added as number *n*, counted from 0, is entry
/// *n* mod 31.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use nuncio_abi::{Call, Deadline, Handle, Reply, RingPage};
///
/// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
/// let ring = RingPage::new(&words);
/// let call = Call::Notify { event: Handle::new(5, 1), bits: 1 };
/// let number = ring.push(&call.encode(), 0).unwrap();
/// assert_eq!(ring.reply(number), None);
///
/// // What the hypervisor does in `submit`.
/// let taken = ring.taken();
/// assert_eq!(ring.outstanding(taken), Some(1));
/// assert_eq!(ring.call(taken), Some(call.encode()));
/// ring.finish(taken, 0, &[0; 5]);
///
/// assert_eq!(ring.reply(number), Some(Reply::Full([0; 5])));
/// ```
#[derive(Clone, Copy)]
pub struct RingPage<'a> {
    words: &'a [AtomicU64; 512],
}

impl<'a> RingPage<'a> {
    /// The word with the number of entries that were added.
    pub const SUBMITTED: usize = 0;
    /// The word with the number of entries that are done.
    pub const TAKEN: usize = 1;
    /// The word with the flags.
    pub const FLAGS: usize = 2;
    /// Of the flags: somebody takes the entries as they come, so they need no `submit`.
    pub const ATTENDED: u64 = 1 << 0;
    /// The first word of entry 0.
    pub const FIRST_ENTRY: usize = 16;
    /// From the words of one entry to those of the next.
    pub const WORDS_PER_ENTRY: usize = ENTRY_WORDS;
    /// The verb, in an entry; the arguments are behind it.
    pub const VERB: usize = 0;
    /// The word of the guest's own, in an entry.
    pub const TAG: usize = 6;
    /// The word of an entry that must be zero.
    pub const RESERVED: usize = 7;
    /// The status, in an entry; the values are behind it.
    pub const STATUS: usize = 8;

    /// Looks at a page as a ring.
    #[inline]
    pub const fn new(words: &'a [AtomicU64; 512]) -> Self {
        RingPage { words }
    }

    /// Adds a call with a word of one's own and gives its number (the guest's side). `None` if the
    /// ring is full: [`RING_ENTRIES`] calls are not done yet.
    ///
    /// It takes the place of the call that was added [`RING_ENTRIES`] calls before, and of its reply.
    /// Only one thread may add calls to a ring at a time.
    pub fn push(self, call: &RawCall, tag: u64) -> Option<u64> {
        let number = self.words[Self::SUBMITTED].load(Ordering::Relaxed);
        // Acquire: the hypervisor has done with the place before the call there is overwritten.
        let taken = self.words[Self::TAKEN].load(Ordering::Acquire);
        if number.wrapping_sub(taken) >= RING_ENTRIES as u64 {
            return None;
        }
        let entry = self.entry(number);
        entry[Self::VERB].store(call.verb, Ordering::Relaxed);
        for (word, argument) in entry[1..].iter().zip(call.arguments) {
            word.store(argument, Ordering::Relaxed);
        }
        entry[Self::TAG].store(tag, Ordering::Relaxed);
        entry[Self::RESERVED].store(0, Ordering::Relaxed);
        // Release: who sees the count sees the entry.
        self.words[Self::SUBMITTED].store(number.wrapping_add(1), Ordering::Release);
        Some(number)
    }

    /// The word of the guest's own that was added with a call.
    pub fn tag(self, number: u64) -> u64 {
        self.entry(number)[Self::TAG].load(Ordering::Relaxed)
    }

    /// The reply to the call of that number; `None` if it is not done yet, or [`RING_ENTRIES`] more
    /// have been added.
    pub fn reply(self, number: u64) -> Option<Reply> {
        let taken = self.words[Self::TAKEN].load(Ordering::Acquire);
        let submitted = self.words[Self::SUBMITTED].load(Ordering::Relaxed);
        let (behind, added) = (taken.wrapping_sub(number), submitted.wrapping_sub(number));
        // The difference to a number that has not been reached wraps round.
        let is_there = (1..=added).contains(&behind) && added <= RING_ENTRIES as u64;
        is_there.then(|| {
            let entry = self.entry(number);
            let word = |index: usize| entry[index].load(Ordering::Relaxed);
            let values = core::array::from_fn(|index| word(Self::STATUS + 1 + index));
            Reply::from_registers(word(Self::STATUS), values)
        })
    }

    /// Whether somebody takes the entries as they come. To be asked after [`RingPage::push`]: if not,
    /// they wait for a `submit`.
    pub fn is_attended(self) -> bool {
        // The count must be out before the flags are looked at, or both sides could miss each other.
        core::sync::atomic::fence(Ordering::SeqCst);
        self.words[Self::FLAGS].load(Ordering::Relaxed) & Self::ATTENDED != 0
    }

    /// How many entries are done (the hypervisor's side: where it goes on).
    #[inline]
    pub fn taken(self) -> u64 {
        self.words[Self::TAKEN].load(Ordering::Relaxed)
    }

    /// How many entries there are from number `taken` on; `None` if the guest's count makes no sense.
    #[inline]
    pub fn outstanding(self, taken: u64) -> Option<u64> {
        let submitted = self.words[Self::SUBMITTED].load(Ordering::Acquire);
        let outstanding = submitted.wrapping_sub(taken);
        (outstanding <= RING_ENTRIES as u64).then_some(outstanding)
    }

    /// The call of that number, each word read once; `None` if its reserved word is not zero.
    #[inline]
    pub fn call(self, number: u64) -> Option<RawCall> {
        let entry = self.entry(number);
        let word = |index: usize| entry[index].load(Ordering::Relaxed);
        let arguments: [u64; MAX_ARGUMENTS] = core::array::from_fn(|index| word(1 + index));
        let verb = word(Self::VERB);
        (word(Self::RESERVED) == 0).then_some(RawCall { verb, arguments })
    }

    /// Writes what has become of the call of that number, and counts it as done.
    #[inline]
    pub fn finish(self, number: u64, status: u64, values: &[u64; MAX_VALUES]) {
        let entry = self.entry(number);
        entry[Self::STATUS].store(status, Ordering::Relaxed);
        for (word, value) in entry[Self::STATUS + 1..].iter().zip(values) {
            word.store(*value, Ordering::Relaxed);
        }
        // Release: who sees the count sees the reply.
        self.words[Self::TAKEN].store(number.wrapping_add(1), Ordering::Release);
    }

    #[inline]
    fn entry(self, number: u64) -> &'a [AtomicU64; ENTRY_WORDS] {
        let index = (number % RING_ENTRIES as u64) as usize;
        let (entries, _) = self.words[Self::FIRST_ENTRY..].as_chunks();
        &entries[index]
    }
}

const _: () = assert!(
    RingPage::FIRST_ENTRY + RING_ENTRIES * RingPage::WORDS_PER_ENTRY == 512
        && RingPage::VERB + 1 + MAX_ARGUMENTS == RingPage::TAG
        && RingPage::STATUS + 1 + MAX_VALUES <= RingPage::WORDS_PER_ENTRY
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn page() -> Box<[AtomicU64; 512]> {
        Box::new(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    fn call(verb: u64) -> RawCall {
        RawCall {
            verb,
            arguments: [verb, 2, 3, 4, 5],
        }
    }

    #[test]
    fn an_entry_with_its_reserved_word_set_is_no_call() {
        let words = page();
        let ring = RingPage::new(&words);
        ring.push(&call(3), 9).unwrap();
        assert_eq!((ring.call(0), ring.tag(0)), (Some(call(3)), 9));
        words[RingPage::FIRST_ENTRY + RingPage::RESERVED].store(1, Ordering::Relaxed);
        assert_eq!(ring.call(0), None);
    }

    #[test]
    fn counts_that_make_no_sense_are_no_entries() {
        let words = page();
        let ring = RingPage::new(&words);
        for (submitted, taken, outstanding) in [
            (31, 0, Some(31)),
            (32, 0, None),
            (0, 1, None),
            (3, u64::MAX, Some(4)),
            (u64::MAX, 0, None),
        ] {
            words[RingPage::SUBMITTED].store(submitted, Ordering::Relaxed);
            assert_eq!(ring.outstanding(taken), outstanding, "{submitted} {taken}");
        }
    }

    #[test]
    fn the_flag_says_that_the_ring_is_attended() {
        let words = page();
        let ring = RingPage::new(&words);
        assert!(!ring.is_attended());
        words[RingPage::FLAGS].store(RingPage::ATTENDED, Ordering::Relaxed);
        assert!(ring.is_attended());
    }

    proptest! {
        /// A ring is a queue of 31 calls in which each reply is found until its place is used again.
        #[test]
        fn a_ring_is_a_bounded_queue(start in prop_oneof![Just(0), 0u64..1 << 40],
                                     steps in proptest::collection::vec(any::<bool>(), 0..300)) {
            let words = page();
            words[RingPage::SUBMITTED].store(start, Ordering::Relaxed);
            words[RingPage::TAKEN].store(start, Ordering::Relaxed);
            let ring = RingPage::new(&words);
            let mut waiting = VecDeque::new();
            let mut done: Vec<(u64, u64)> = Vec::new();
            for (number, is_push) in (0u64..).zip(steps) {
                if is_push {
                    let pushed = ring.push(&call(number), number);
                    prop_assert_eq!(pushed.is_some(), waiting.len() < RING_ENTRIES);
                    waiting.extend(pushed.map(|place| (place, number)));
                } else if let Some((place, number)) = waiting.pop_front() {
                    prop_assert_eq!(ring.reply(place), None);
                    prop_assert_eq!((ring.taken(), ring.call(place)), (place, Some(call(number))));
                    prop_assert_eq!(ring.tag(place), number);
                    ring.finish(place, 0, &[number, 1, 2, 3, 4]);
                    done.push((place, number));
                }
                prop_assert_eq!(ring.outstanding(ring.taken()), Some(waiting.len() as u64));
                for (index, (place, number)) in done.iter().rev().enumerate() {
                    let is_kept = index + waiting.len() < RING_ENTRIES;
                    let reply = is_kept.then_some(Reply::Full([*number, 1, 2, 3, 4]));
                    prop_assert_eq!(ring.reply(*place), reply);
                }
            }
        }
    }
}
