use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::task::SLICE_NS;

fn thread(number: u64) -> Arc<Thread> {
    Arc::new(Thread::new(number, number.to_string(), 0, 0))
}

/// A queue of a CPU that idles (thread 0), and threads 1 to `count`, which are ready.
fn queue(count: u64) -> (Queue, Vec<Arc<Thread>>) {
    let mut queue = Queue::new();
    let threads: Vec<_> = (0..=count).map(thread).collect();
    queue.start(threads[0].clone(), 0);
    for thread in &threads[1..] {
        queue.add(thread.clone());
    }
    (queue, threads)
}

fn shown(turn: Option<Turn>) -> String {
    turn.map_or("-".to_string(), |turn| {
        std::format!("{}>{}", turn.from.name(), turn.to.name())
    })
}

#[test]
fn threads_take_turns_when_their_slices_are_over() {
    let (mut queue, _threads) = queue(2);
    assert_eq!(shown(queue.preempt(0)), "0>1");
    assert_eq!(queue.next_event_ns(), Some(SLICE_NS));
    assert_eq!(shown(queue.preempt(SLICE_NS - 1)), "-");
    assert_eq!(queue.next_event_ns(), Some(SLICE_NS));
    assert_eq!(shown(queue.preempt(SLICE_NS)), "1>2");
    assert_eq!(shown(queue.preempt(2 * SLICE_NS)), "2>1");
    assert_eq!(shown(queue.end(2 * SLICE_NS)), "1>2");
    // Alone it has no end of its slice.
    assert_eq!(queue.next_event_ns(), None);
    assert_eq!(shown(queue.preempt(9 * SLICE_NS)), "-");
}

#[test]
fn who_is_woken_runs_at_once_and_the_other_goes_on_after_it() {
    let (mut queue, threads) = queue(3);
    assert_eq!(shown(queue.preempt(0)), "0>1");
    assert_eq!(shown(queue.park(Some(500), 100)), "1>2");
    assert_eq!(queue.next_event_ns(), Some(500));
    assert_eq!(shown(queue.preempt(499)), "-");
    assert_eq!(shown(queue.preempt(500)), "2>1");
    assert_eq!(shown(queue.park(None, 600)), "1>2");
    assert!(queue.unpark(&threads[1]));
    assert_eq!(shown(queue.give_way(700)), "2>1");
    assert_eq!(shown(queue.park(None, 700)), "1>2");
    // It has used its slice up by and by, and others have their turn.
    assert_eq!(shown(queue.preempt(SLICE_NS + 700)), "2>3");
    assert!(!queue.unpark(&threads[3]), "it runs");
}

#[test]
fn who_is_due_at_once_runs_in_the_order_of_the_times() {
    let (mut queue, threads) = queue(4);
    queue.preempt(0);
    for deadline_ns in [300, 100, 200] {
        queue.park(Some(deadline_ns), 0);
    }
    // Only thread 4 is left, and all others are due when it is interrupted.
    assert_eq!(shown(queue.preempt(1000)), "4>2");
    assert_eq!(shown(queue.park(None, 1000)), "2>3");
    queue.unpark(&threads[2]);
    assert_eq!(shown(queue.park(None, 1000)), "3>1");
    assert_eq!(shown(queue.park(None, 1000)), "1>2");
    assert_eq!(shown(queue.park(None, 1000)), "2>4");
}

#[test]
fn who_sleeps_for_long_wakes_in_its_turn_however_long_it_has_run() {
    let (mut queue, _threads) = queue(3);
    queue.preempt(0);
    // All three have used up their slices before they sleep; the last sleeps too short for another one.
    let sleep = |queue: &mut Queue, at: u64, ns: u64| queue.park(Some(at + ns), at);
    assert_eq!(shown(sleep(&mut queue, SLICE_NS, 3 * SLICE_NS)), "1>2");
    assert_eq!(
        shown(sleep(&mut queue, 2 * SLICE_NS, 2 * SLICE_NS + 1)),
        "2>3"
    );
    assert_eq!(shown(sleep(&mut queue, 3 * SLICE_NS, SLICE_NS - 1)), "3>0");
    assert_eq!(shown(queue.preempt(5 * SLICE_NS)), "0>1");
    assert_eq!(shown(queue.park(None, 5 * SLICE_NS)), "1>2");
    assert_eq!(shown(queue.park(None, 5 * SLICE_NS)), "2>3");
}

#[test]
fn a_waking_that_comes_first_is_kept() {
    let (mut queue, threads) = queue(1);
    assert_eq!(shown(queue.preempt(0)), "0>1");
    assert!(!queue.unpark(&threads[1]) && !queue.unpark(&threads[1]));
    assert_eq!(shown(queue.park(None, 1)), "-");
    assert_eq!(shown(queue.park(None, 2)), "1>0");
    assert_eq!(
        shown(queue.park(None, 3)),
        "-",
        "the idle thread finds nobody"
    );
}

#[test]
fn a_time_that_has_passed_parks_nobody() {
    let (mut queue, _threads) = queue(1);
    queue.preempt(0);
    assert_eq!(shown(queue.park(Some(5), 5)), "-");
    assert_eq!(queue.next_event_ns(), None);
}

#[test]
fn two_that_wake_each_other_do_not_starve_a_third() {
    let (mut queue, threads) = queue(3);
    queue.preempt(0);
    let (mut now_ns, mut third_ran) = (0, false);
    queue.park(None, 0);
    assert_eq!(queue.current().map(|thread| thread.number()), Some(2));
    for _ in 0..100 {
        now_ns += SLICE_NS / 10;
        let current = queue.current().unwrap().number();
        third_ran |= current == 3;
        match current {
            1 => queue.unpark(&threads[2]),
            2 => queue.unpark(&threads[1]),
            _ => false,
        };
        match current {
            3 => queue.preempt(now_ns),
            _ => queue.park(None, now_ns),
        };
    }
    assert!(third_ran);
}

proptest! {
    /// Whatever happens, nobody is lost and nobody runs twice at once.
    #[test]
    fn every_thread_is_in_one_place(steps in proptest::collection::vec((0u8..7, 0u64..4, 1u64..SLICE_NS), 0..200)) {
        let (mut queue, threads) = queue(4);
        let mut now_ns = 0;
        for (what, number, ns) in steps {
            now_ns += ns;
            let thread = &threads[number as usize + 1];
            let turn = match what {
                0 => queue.park(None, now_ns),
                1 => queue.park(Some(now_ns + ns), now_ns),
                2 => queue.yield_now(now_ns),
                3 => queue.give_way(now_ns),
                4 if !queue.is_idle() => queue.end(now_ns),
                5 if thread.state() != ThreadState::Ended => {
                    queue.unpark(thread);
                    None
                }
                _ => queue.preempt(now_ns),
            };
            if let Some(Turn { from, to }) = turn {
                prop_assert_ne!(from.number(), to.number());
                prop_assert_ne!(from.state(), ThreadState::Running);
            }
            let current = queue.current().unwrap().number();
            for thread in &threads {
                let in_line = queue.ready.iter().filter(|ready| ready.number() == thread.number());
                let places = in_line.count() + usize::from(current == thread.number());
                let expected = match thread.state() {
                    ThreadState::Ready if thread.number() == 0 => 0,
                    ThreadState::Ready | ThreadState::Running => 1,
                    ThreadState::Parked | ThreadState::Ended => 0,
                };
                prop_assert_eq!(places, expected, "thread {}", thread.number());
                let is_running = thread.state() == ThreadState::Running;
                prop_assert_eq!(is_running, current == thread.number());
            }
            let next = queue.next_event_ns();
            prop_assert!(queue.ready.is_empty() || next.is_some(), "whoever is ready gets a turn");
        }
    }
}
