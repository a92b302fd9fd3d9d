//! Waking, sleeping and handing over. What concerns priorities and budgets is in `terms/tests.rs`.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn add<const N: usize>(scheduler: &mut Scheduler) -> [VcpuId; N] {
    let ids = core::array::from_fn(|number| VcpuId(number as u32));
    ids.map(|id| {
        scheduler.add(id);
        id
    })
}

#[test]
fn a_signal_reaches_a_running_vcpu_without_queueing_it_twice() {
    let mut scheduler = Scheduler::default();
    let [only] = add(&mut scheduler);
    assert_eq!(scheduler.pick(), Some(only));
    scheduler.signal(only);
    assert!(scheduler.has_upcall(only));
    assert!(scheduler.queue.is_empty() && scheduler.attention().is_told());
    scheduler.attend();
    scheduler.clear_upcall(only);
    assert!(!scheduler.has_upcall(only));
}

#[test]
fn a_deadline_wakes_once() {
    let mut scheduler = Scheduler::default();
    let [only] = add(&mut scheduler);
    scheduler.pick();
    scheduler.block(only, Deadline(100));
    assert_eq!(scheduler.earliest_deadline(), Some(100));
    scheduler.expire(99, |_| {});
    assert_eq!(scheduler.pick(), None);
    scheduler.expire(100, |_| {});
    assert!(scheduler.attention().is_told());
    assert_eq!(scheduler.pick(), Some(only));
    assert_eq!(scheduler.earliest_deadline(), None);
}

#[test]
fn a_retired_vcpu_stays_away() {
    let mut scheduler = Scheduler::default();
    let [only] = add(&mut scheduler);
    scheduler.retire(only);
    scheduler.wake(only);
    scheduler.signal(only);
    assert_eq!(scheduler.pick(), None);
}

#[test]
fn a_vcpu_that_an_event_has_woken_is_handed_over_to_before_its_turn() {
    let mut scheduler = Scheduler::default();
    let [caller, other, server] = add(&mut scheduler);
    for id in [caller, other, server] {
        assert_eq!(scheduler.pick(), Some(id));
        if id == server {
            scheduler.block(id, Deadline(100));
        } else {
            scheduler.queue_up(id);
        }
    }
    assert_eq!(scheduler.pick(), Some(caller));
    scheduler.signal(server);
    scheduler.hand_over(server);
    scheduler.block(caller, Deadline::NEVER);
    assert_eq!(scheduler.take_over(), Some(server));
    assert!(scheduler.attend(), "the event is still to be looked at");
    assert_eq!(scheduler.pick(), Some(other));
    assert_eq!(scheduler.pick(), None, "the server is not queued any more");
    assert_eq!(scheduler.earliest_deadline(), None);
}

#[test]
fn who_was_handed_over_to_queues_up_if_nobody_goes_to_sleep() {
    let mut scheduler = Scheduler::default();
    let [caller, server] = add(&mut scheduler);
    scheduler.pick();
    scheduler.pick();
    scheduler.block(server, Deadline::NEVER);
    assert!(!scheduler.attention().is_told());
    scheduler.hand_over(server);
    assert!(scheduler.attention().is_told());
    assert!(scheduler.attend() && !scheduler.queue.is_empty());
    scheduler.hand_over(caller);
    scheduler.block(caller, Deadline::NEVER);
    assert_eq!(
        scheduler.take_over(),
        None,
        "who runs is not handed over to"
    );
    assert_eq!(scheduler.pick(), Some(server));
}

#[test]
fn taking_over_leaves_no_news_behind() {
    let mut scheduler = Scheduler::default();
    let [caller, server] = add(&mut scheduler);
    scheduler.pick();
    scheduler.pick();
    scheduler.block(server, Deadline::NEVER);
    scheduler.hand_over(server);
    scheduler.block(caller, Deadline::NEVER);
    assert_eq!(scheduler.take_over(), Some(server));
    assert!(!scheduler.attention().is_told());
}

#[derive(Clone, Debug)]
enum Step {
    Next,
    Requeue,
    Block(u64),
    Wake(u32),
    Expire(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Next),
        Just(Step::Requeue),
        (0u64..50).prop_map(Step::Block),
        (0u32..6).prop_map(Step::Wake),
        (0u64..50).prop_map(Step::Expire),
    ];
    proptest::collection::vec(step, 0..150)
}

proptest! {
    /// The order of running is that of a plain queue, whatever wakes and expires in between.
    #[test]
    fn vcpus_run_in_the_order_of_a_queue(steps in steps()) {
        let mut scheduler = Scheduler::default();
        let mut ready = VecDeque::from(add::<5>(&mut scheduler));
        let mut sleeping: Vec<(u64, usize, VcpuId)> = Vec::new();
        let mut running = None;
        for (time, step) in steps.into_iter().enumerate() {
            match (step, running) {
                (Step::Next, None) => {
                    running = ready.pop_front();
                    prop_assert_eq!(scheduler.pick(), running);
                }
                (Step::Requeue, Some(id)) => {
                    scheduler.queue_up(id);
                    ready.push_back(id);
                    running = None;
                }
                (Step::Block(deadline), Some(id)) => {
                    scheduler.block(id, Deadline(deadline));
                    sleeping.push((deadline, time, id));
                    running = None;
                }
                (Step::Wake(id), _) => {
                    scheduler.wake(VcpuId(id));
                    if let Some(place) = sleeping.iter().position(|entry| entry.2 .0 == id) {
                        ready.push_back(sleeping.remove(place).2);
                    }
                }
                (Step::Expire(now), _) => {
                    scheduler.expire(now, |_| {});
                    sleeping.sort();
                    while sleeping.first().is_some_and(|entry| entry.0 <= now) {
                        ready.push_back(sleeping.remove(0).2);
                    }
                }
                _ => {}
            }
        }
    }
}
