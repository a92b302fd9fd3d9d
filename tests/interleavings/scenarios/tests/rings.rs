//! A ring, with all that the orders of its accesses allow: a guest that adds calls and looks for
//! replies on one CPU, the hypervisor that makes the calls on another one.

use std::array::from_fn;

use abi_on_loom::{RawCall, Reply, RingPage, RING_ENTRIES};
use core_on_loom::sync::atomic::{fence, AtomicU64, Ordering};
use interleavings::{explore_orders, shared_page};
use loom::sync::Arc;
use loom::thread;

/// No execution has as many accesses: all orders are tried.
const PREEMPTIONS: usize = 32;

/// A page of which some entries are used.
#[derive(Clone)]
struct Page(Arc<Box<[AtomicU64; 512]>>);

impl Page {
    /// With counts as if so many entries had been added and none of them was done.
    fn new(submitted: u64, entries: &[usize]) -> Self {
        let is_used = |index: usize| {
            let entry = index.wrapping_sub(RingPage::FIRST_ENTRY) / RingPage::WORDS_PER_ENTRY;
            index <= RingPage::FLAGS || entries.contains(&entry)
        };
        Page(shared_page(|index| match index {
            RingPage::SUBMITTED => Some(submitted),
            index => is_used(index).then_some(0),
        }))
    }

    fn view(&self) -> RingPage<'_> {
        RingPage::new(&self.0)
    }

    /// The hypervisor's side: makes the call of that number if it is there.
    fn make(&self, number: u64) -> bool {
        let ring = self.view();
        if ring.outstanding(number) == Some(0) {
            return false;
        }
        assert_eq!(ring.call(number), Some(call(number)));
        ring.finish(number, 0, &values(number));
        true
    }
}

fn call(number: u64) -> RawCall {
    RawCall {
        verb: number + 1,
        arguments: from_fn(|index| number * 10 + index as u64 + 1),
    }
}

fn values(number: u64) -> [u64; 5] {
    from_fn(|index| number * 100 + index as u64 + 1)
}

#[test]
fn calls_and_replies_are_seen_whole_and_once() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new(0, &[0, 1]);
        let hypervisor = page.clone();
        let maker = thread::spawn(move || {
            let mut made = 0;
            while made < 2 && hypervisor.make(made) {
                made += 1;
            }
            made
        });
        let ring = page.view();
        let numbers = [0, 1].map(|number| {
            assert_eq!(ring.push(&call(number), 7), Some(number));
            number
        });
        for number in numbers {
            let reply = ring.reply(number);
            assert!(reply.is_none() || reply == Some(Reply::Full(values(number))));
        }
        let made = maker.join().unwrap();
        assert_eq!(ring.taken(), made);
        for number in numbers {
            let reply = (number < made).then(|| Reply::Full(values(number)));
            assert_eq!((ring.reply(number), ring.tag(number)), (reply, 7));
        }
    });
}

#[test]
fn an_entry_is_used_again_when_it_is_done_and_not_before() {
    explore_orders(PREEMPTIONS, || {
        // One place is free, and the oldest call stands in the place behind it.
        let last = RING_ENTRIES as u64 - 1;
        let page = Page::new(0, &[0, last as usize]);
        let ring = page.view();
        assert_eq!(ring.push(&call(0), 0), Some(0));
        page.0[RingPage::SUBMITTED].store(last, Ordering::Relaxed);
        let hypervisor = page.clone();
        let maker = thread::spawn(move || assert!(hypervisor.make(0)));
        assert_eq!(ring.push(&call(last), 0), Some(last));
        let pushed = ring.push(&call(last + 1), 0);
        assert!(pushed.is_none() || ring.taken() == 1);
        maker.join().unwrap();
        assert_eq!(
            page.view().outstanding(1),
            Some(last + u64::from(pushed.is_some()))
        );
    });
}

#[test]
fn whoever_stops_taking_entries_and_whoever_adds_one_do_not_miss_each_other() {
    explore_orders(PREEMPTIONS, || {
        let page = Page::new(0, &[0]);
        let flags = |page: &Page, value| {
            page.0[RingPage::FLAGS].store(value, Ordering::Relaxed);
        };
        flags(&page, RingPage::ATTENDED);
        let hypervisor = page.clone();
        let attendant = thread::spawn(move || {
            if hypervisor.make(0) {
                return true;
            }
            flags(&hypervisor, 0);
            fence(Ordering::SeqCst);
            hypervisor.make(0)
        });
        let ring = page.view();
        ring.push(&call(0), 0).unwrap();
        let needs_submit = !ring.is_attended();
        let is_made = attendant.join().unwrap();
        assert!(is_made || needs_submit, "nobody makes the call");
        assert_eq!(ring.reply(0).is_some(), is_made);
    });
}
