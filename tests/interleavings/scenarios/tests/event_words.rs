//! The event words of a vcpu page, with all that the orders of its accesses allow.
//!
//! A guest and the hypervisor, or several CPUs that post, share nothing but the page; every way in
//! which their accesses can meet is tried.

use abi_on_loom::{EventWord, Posted, VcpuPage};
use core_on_loom::sync::atomic::AtomicU64;
use interleavings::{explore_orders, shared_page};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

/// More would take minutes with three threads.
const PREEMPTIONS: usize = 4;

/// The slots that the tests use.
const SLOTS: [usize; 2] = [0, 5];

/// A page of which one slot is used, and looked at from several threads.
#[derive(Clone)]
struct Page(Arc<Box<[AtomicU64; 512]>>);

impl Page {
    fn new() -> Self {
        let is_used = |index: usize| {
            let in_slot = |slot: &usize| {
                let pairs = [VcpuPage::FIRST_SLOT, VcpuPage::FIRST_COUNT];
                let firsts = pairs.map(|first| first + VcpuPage::WORDS_PER_SLOT * slot);
                firsts
                    .iter()
                    .any(|first| (*first..first + 2).contains(&index))
            };
            index <= VcpuPage::THRESHOLD || SLOTS.iter().any(in_slot)
        };
        Page(shared_page(|index| is_used(index).then_some(0)))
    }

    fn view(&self) -> VcpuPage<'_> {
        VcpuPage::new(&self.0)
    }

    fn word(&self, slot: usize) -> EventWord<'_> {
        self.view().slot(slot).unwrap()
    }

    fn is_ready(&self, slot: usize) -> bool {
        self.view().ready() & 1 << slot != 0
    }

    /// Another CPU that posts bits.
    fn post(&self, slot: usize, bits: u64) -> JoinHandle<Posted> {
        let page = self.clone();
        thread::spawn(move || page.word(slot).post(bits))
    }
}

#[test]
fn every_bit_is_taken_once_or_pends() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        let word = page.word(0);
        word.enable(0b11);
        let posts = [0b01, 0b10].map(|bits| page.post(0, bits));
        let first = word.take();
        word.enable(0b10);
        let second = word.take();
        for post in posts {
            post.join().unwrap();
        }
        assert_eq!(first & second, 0, "a bit came twice");
        assert_eq!(first & word.pending(), 0, "a bit came twice");
        assert_eq!(second & word.pending(), 0, "a bit came twice");
        assert_eq!(first | second | word.pending(), 0b11);
        assert_eq!(second & !0b10, 0, "it was not enabled");
    });
}

#[test]
fn what_pends_and_is_enabled_is_announced() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        let word = page.word(0);
        word.enable(0b01);
        let posts = [0b01, 0b10].map(|bits| page.post(0, bits));
        word.take();
        word.enable(0b11);
        for post in posts {
            post.join().unwrap();
        }
        if word.pending() & word.enabled() != 0 {
            assert!(page.is_ready(0));
        }
    });
}

#[test]
fn whoever_enables_bits_and_finds_nothing_ready_is_told_of_them() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        let posts = [0b01, 0b10].map(|bits| page.post(0, bits));
        page.word(0).enable(0b11);
        let sleeps = !page.is_ready(0);
        let told = posts.map(|post| post.join().unwrap());
        if sleeps {
            assert!(told.contains(&Posted::Announced), "{told:?}");
        }
    });
}

#[test]
fn whoever_takes_bits_and_finds_nothing_ready_is_told_of_more() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        let word = page.word(0);
        word.enable(0b11);
        let posts = [0b01, 0b10].map(|bits| page.post(0, bits));
        let taken = word.take();
        let sleeps = !page.is_ready(0);
        let told = posts.map(|post| post.join().unwrap());
        if sleeps && taken != 0b11 {
            assert!(told.contains(&Posted::Announced), "{told:?}");
            assert!(page.is_ready(0));
        }
    });
}

#[test]
fn whoever_lets_more_slots_through_finds_them_ready_or_is_told() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        page.word(5).enable(0b1);
        page.view().set_threshold(1);
        let post = page.post(5, 0b1);
        page.view().set_threshold(0);
        let found = page.is_ready(5);
        let told = post.join().unwrap();
        assert!(found || told == Posted::Announced, "{told:?}");
        assert!(page.is_ready(5));
    });
}

#[test]
fn slots_do_not_hide_each_other() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        for slot in SLOTS {
            page.word(slot).enable(0b1);
        }
        let posts = SLOTS.map(|slot| page.post(slot, 0b1));
        let taken = page.word(0).take();
        for post in posts {
            assert_eq!(post.join().unwrap(), Posted::Announced);
        }
        assert!(page.is_ready(5));
        assert!(taken == 0b1 || page.is_ready(0));
    });
}

#[test]
fn whoever_asks_for_a_posting_finds_it_ready_or_is_told() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new();
        let word = page.word(0);
        word.enable(0b11);
        // So far ahead that both count and neither is told of.
        word.wake_at(1 << 40);
        let posts = [0b01, 0b10].map(|bits| page.post(0, bits));
        word.wake_at(2);
        let found = page.is_ready(0);
        let told = posts.map(|post| post.join().unwrap());
        assert_eq!(word.count(), 2);
        assert!(found || told.contains(&Posted::Announced), "{told:?}");
        assert!(page.is_ready(0));
    });
}
