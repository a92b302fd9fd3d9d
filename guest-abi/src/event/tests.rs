use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::time::{Duration, Instant};
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

#[test]
fn a_count_that_has_passed_wakes_until_a_new_one_is_written() {
    let words = page();
    let page = VcpuPage::new(&words);
    let word = page.slot(5).unwrap();
    word.enable(0b1);
    assert_eq!(word.batch(2), 2);
    assert_eq!(word.post(0b1), Posted::Counted);
    // A bit that is not enabled counts, and the one that pends is announced with it.
    assert_eq!(word.post(0b10), Posted::Announced);
    assert_eq!(word.post(0b1), Posted::Coalesced, "ready already");
    assert_eq!(word.take(), 0b1);
    assert_eq!(word.post(0b10), Posted::Masked);
    assert_eq!(word.post(0b1), Posted::Announced);
    assert_eq!((word.take(), word.count()), (0b1, 5));
    assert_eq!(word.batch(1), 6);
    assert_eq!(word.post(0), Posted::Coalesced, "no bits are no posting");
    assert_eq!((word.count(), page.ready()), (5, 0));
    assert_eq!(word.post(0b1), Posted::Announced);
}

#[test]
fn a_guest_that_changes_its_mind_finds_what_has_come() {
    let words = page();
    let page = VcpuPage::new(&words);
    let word = page.slot(9).unwrap();
    word.batch(10);
    word.enable(0b1);
    assert_eq!([word.post(0b1); 1], [Posted::Counted]);
    word.wake_at(2);
    assert_eq!(page.ready(), 0);
    word.wake_at(1);
    assert_eq!(page.ready(), 1 << 9);
    assert_eq!(word.take(), 0b1);
    word.batch(10);
    word.post(0b1);
    word.enable(0b11);
    assert_eq!(page.ready(), 0, "the count is still to come");
    word.wake_at(0);
    assert_eq!(page.ready(), 1 << 9);
}

#[test]
fn a_quiet_slot_counts_quietly() {
    let words = page();
    let page = VcpuPage::new(&words);
    page.set_threshold(4);
    let word = page.slot(4).unwrap();
    word.enable(1);
    word.batch(2);
    assert_eq!(
        [word.post(1), word.post(1)],
        [Posted::Counted, Posted::Quiet]
    );
}

#[test]
fn counts_go_round_and_are_never_zero() {
    let words = page();
    let count = &words[VcpuPage::FIRST_COUNT + 2 * 7];
    let word = VcpuPage::new(&words).slot(7).unwrap();
    word.enable(1);
    count.store(u64::MAX - 1, Ordering::Relaxed);
    assert_eq!(word.batch(2), u64::MAX);
    count.store(u64::MAX - 1, Ordering::Relaxed);
    assert_eq!(word.batch(3), 1);
    let posted: [Posted; 3] = core::array::from_fn(|_| word.post(1));
    assert_eq!(
        posted,
        [Posted::Counted, Posted::Counted, Posted::Announced]
    );
}

/// Whoever of the two comes second announces the slot. What is lost is a matter of nanoseconds, so
/// the two sides meet often, and at a distance that changes.
#[test]
fn a_count_that_is_reached_while_it_is_written_is_not_missed() {
    const ROUNDS: u64 = 60_000;
    const OVER: u64 = u64::MAX;
    let words = page();
    let page = VcpuPage::new(&words);
    let word = page.slot(0).unwrap();
    word.enable(1);
    let (round, finished) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut missed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                if await_round(&round, number) == OVER {
                    return;
                }
                (0..number % 32).for_each(|_| core::hint::spin_loop());
                word.post(1);
                finished.store(number, Ordering::SeqCst);
            }
        });
        let end = Instant::now() + Duration::from_secs(2);
        for number in (1..=ROUNDS).take_while(|_| Instant::now() < end) {
            // Far away before, so that the posting counts.
            word.batch(1 << 20);
            let next = word.count() + 1;
            round.store(number, Ordering::SeqCst);
            (0..number / 32 % 32).for_each(|_| core::hint::spin_loop());
            word.wake_at(next);
            await_round(&finished, number);
            missed += u64::from((page.ready(), word.count()) != (1, next));
            word.take();
        }
        round.store(OVER, Ordering::SeqCst);
    });
    assert_eq!(missed, 0);
}

/// Waits for the other thread, which may have no CPU of its own.
fn await_round(place: &AtomicU64, number: u64) -> u64 {
    for turn in 1u64.. {
        let found = place.load(Ordering::SeqCst);
        if found >= number {
            return found;
        }
        match turn % 300 {
            0 => std::thread::yield_now(),
            _ => core::hint::spin_loop(),
        }
    }
    unreachable!("turns have gone round");
}

#[derive(Clone, Debug)]
enum Step {
    Post(usize, u64),
    Take(usize),
    Enable(usize, u64),
    WakeAt(usize, u64),
    Batch(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4usize, 0..8u64).prop_map(|(slot, bits)| Step::Post(slot, bits)),
        2 => (0..4usize).prop_map(Step::Take),
        2 => (0..4usize, 0..8u64).prop_map(|(slot, bits)| Step::Enable(slot, bits)),
        1 => (0..4usize, 0..12u64).prop_map(|(slot, count)| Step::WakeAt(slot, count)),
        1 => (0..4usize, 1..5u64).prop_map(|(slot, postings)| Step::Batch(slot, postings)),
    ];
    proptest::collection::vec(step, 0..90)
}

/// A slot as the specification has it.
#[derive(Clone, Copy, Default)]
struct Slot {
    pending: u64,
    enabled: u64,
    count: u64,
    wake_at: u64,
    ready: bool,
}

impl Slot {
    fn has_come(&self) -> bool {
        self.wake_at == 0 || self.count >= self.wake_at
    }

    fn look(&mut self) {
        self.ready |= self.pending & self.enabled != 0 && self.has_come();
    }

    fn post(&mut self, bits: u64) -> Posted {
        let fresh = bits & !self.pending;
        self.pending |= bits;
        if self.wake_at == 0 {
            self.ready |= fresh & self.enabled != 0;
            return match (fresh, fresh & self.enabled) {
                (0, _) => Posted::Coalesced,
                (_, 0) => Posted::Masked,
                _ => Posted::Announced,
            };
        }
        self.count += u64::from(bits != 0);
        let was_ready = self.ready;
        match (bits, self.pending & self.enabled) {
            (0, _) => Posted::Coalesced,
            _ if !self.has_come() => Posted::Counted,
            (_, 0) => Posted::Masked,
            _ => {
                self.ready = true;
                if was_ready {
                    Posted::Coalesced
                } else {
                    Posted::Announced
                }
            }
        }
    }
}

proptest! {
    /// No bit is lost or invented, and a slot with something to take is announced as soon as its
    /// count has come.
    #[test]
    fn words_agree_with_a_model(steps in steps()) {
        let words = page();
        let page = VcpuPage::new(&words);
        let mut slots = [Slot::default(); 4];
        for step in steps {
            match step {
                Step::Post(slot, bits) => {
                    let posted = page.slot(slot).unwrap().post(bits);
                    prop_assert_eq!(posted, slots[slot].post(bits));
                }
                Step::Take(slot) => {
                    let taken = page.slot(slot).unwrap().take();
                    let slot = &mut slots[slot];
                    prop_assert_eq!(taken, slot.pending & slot.enabled);
                    slot.pending &= !slot.enabled;
                    slot.ready = false;
                }
                Step::Enable(slot, bits) => {
                    page.slot(slot).unwrap().enable(bits);
                    slots[slot].enabled = bits;
                    slots[slot].look();
                }
                Step::WakeAt(slot, count) => {
                    page.slot(slot).unwrap().wake_at(count);
                    slots[slot].wake_at = count;
                    slots[slot].look();
                }
                Step::Batch(slot, postings) => {
                    let written = page.slot(slot).unwrap().batch(postings);
                    let slot = &mut slots[slot];
                    slot.wake_at = slot.count + postings;
                    prop_assert_eq!(written, slot.wake_at);
                    slot.look();
                }
            }
            for (number, slot) in slots.iter().enumerate() {
                let word = page.slot(number).unwrap();
                prop_assert_eq!(page.ready() >> number & 1 != 0, slot.ready);
                prop_assert_eq!((word.pending(), word.count()), (slot.pending, slot.count));
                if slot.pending & slot.enabled != 0 && slot.has_come() {
                    prop_assert!(slot.ready);
                }
            }
        }
    }
}
