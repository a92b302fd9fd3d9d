//! Two CPUs without loops: what a vcpu has on the second is what it had on the first.

use alloc::sync::Arc;
use nuncio_abi::{Budget, BudgetChange};

use super::*;
use crate::sched::{Attention, Change};

const ID: VcpuId = VcpuId(3);
const OTHER: VcpuId = VcpuId(4);
const MS: u64 = 1_000_000;

fn cpu() -> Scheduler {
    Scheduler::new(Arc::new(Attention::default()), Arc::default())
}

fn scheduled(vcpu: VcpuId, level: u8, budget: Option<Budget>) -> Scheduler {
    let mut scheduler = cpu();
    scheduler.reserve(vcpu);
    scheduler.plan(vcpu, Priority::of_level(level), budget);
    scheduler
}

fn run(scheduler: &mut Scheduler, id: VcpuId, now_ns: u64) {
    assert_eq!(scheduler.pick(), Some(id));
    assert!(scheduler.begin(id, now_ns).is_some());
}

#[test]
fn one_that_was_ready_is_ready_with_its_priority() {
    let mut here = scheduled(ID, 9, None);
    here.start(ID);
    here.signal(ID);
    let mut there = scheduled(OTHER, 8, None);
    there.start(OTHER);
    there.attend();
    there.arrive(ID, here.depart(ID, 0));
    assert!(there.attend(), "the CPU looks at it");
    assert_eq!(here.pick(), None);
    assert!(!here.is_known(ID) && !here.wake(ID) && !here.has_upcall(ID));
    assert_eq!(there.ceiling(ID), Priority::of_level(9));
    assert!(there.has_upcall(ID));
    assert_eq!(there.pick(), Some(ID));
}

#[test]
fn one_that_sleeps_sleeps_until_its_deadline() {
    for deadline in [Deadline(5 * MS), Deadline::NEVER] {
        let (mut here, mut there) = (scheduled(ID, 9, None), cpu());
        here.start(ID);
        run(&mut here, ID, 0);
        here.block(ID, deadline);
        there.arrive(ID, here.depart(ID, 0));
        assert_eq!(here.earliest_deadline(), None);
        assert!(there.is_blocked(ID));
        let has_deadline = deadline != Deadline::NEVER;
        let expected = has_deadline.then_some(deadline.0);
        assert_eq!(there.earliest_deadline(), expected);
        there.expire(6 * MS, |id| assert_eq!(id, ID));
        assert_eq!(there.is_blocked(ID), !has_deadline);
        assert!(there.wake(ID));
        assert_eq!(there.pick(), Some(ID));
    }
}

#[test]
fn one_that_was_not_started_waits_for_that() {
    let (mut here, mut there) = (scheduled(ID, 9, None), cpu());
    there.arrive(ID, here.depart(ID, 0));
    assert!(!there.is_known(ID));
    assert_eq!(there.pick(), None);
    there.start(ID);
    assert_eq!(there.pick(), Some(ID));
}

#[test]
fn what_is_used_of_a_budget_is_used_elsewhere_too() {
    let budget = Budget::new(10 * MS, 100 * MS);
    let mut cpus = [scheduled(ID, 9, budget), cpu()];
    cpus[0].start(ID);
    let mut now_ns = 0;
    for moves in 0..5 {
        let [here, there] = &mut cpus;
        run(here, ID, now_ns);
        now_ns += 2 * MS;
        here.give_way(now_ns, now_ns);
        here.end_turn(now_ns);
        let standing = here.depart(ID, now_ns);
        now_ns += MS;
        there.arrive(ID, standing);
        let left_ns = standing.allowance.map(|left| left.end_ns(0));
        assert_eq!(left_ns, Some((8 - 2 * moves) * MS));
        cpus.reverse();
    }
    let here = &mut cpus[0];
    assert_eq!(here.pick(), Some(ID));
    assert_eq!(here.begin(ID, now_ns), None, "it is used up");
    assert_eq!(here.earliest_deadline(), Some(100 * MS));
    // One that waits for its budget waits on.
    let there = &mut cpus[1];
    let mut parked = scheduled(ID, 9, budget);
    std::mem::swap(there, &mut parked);
    let [here, there] = &mut cpus;
    there.arrive(ID, here.depart(ID, now_ns));
    assert_eq!(there.pick(), Some(ID));
    assert_eq!(there.begin(ID, now_ns), None);
    there.expire(100 * MS, |_| unreachable!("it does not sleep"));
    run(there, ID, 100 * MS);
}

#[test]
fn who_has_overdrawn_its_slice_owes_it_elsewhere() {
    let mut here = scheduled(ID, 9, None);
    here.start(ID);
    run(&mut here, ID, 0);
    here.contend(0);
    here.give_way(30 * MS, 5 * MS);
    let mut there = scheduled(OTHER, 9, None);
    there.start(OTHER);
    there.arrive(ID, here.depart(ID, 30 * MS));
    assert_eq!(there.pick(), Some(OTHER));
    there.begin(OTHER, 0).unwrap();
    there.give_way(5 * MS, 5 * MS);
    assert_eq!(there.pick(), Some(ID));
    assert_eq!(there.begin(ID, 5 * MS), None, "it lets a turn pass");
}

#[test]
fn who_pays_and_who_is_paid_for_stay_together() {
    let mut here = scheduled(ID, 9, Budget::new(10 * MS, 100 * MS));
    here.start(ID);
    run(&mut here, ID, 0);
    assert_eq!(here.can_depart(ID), Ok(()));
    for made in [OTHER, VcpuId(5)] {
        here.reserve_made(made);
        assert_eq!(here.can_depart(made), Err(Refused));
        assert_eq!(here.can_depart(ID), Err(Refused));
    }
    // The number is another one's now.
    here.retire(OTHER);
    here.reserve_made(OTHER);
    here.retire(OTHER);
    here.retire(OTHER);
    assert_eq!(here.can_depart(ID), Err(Refused), "there is one more");
    here.retire(VcpuId(5));
    assert_eq!(here.can_depart(ID), Ok(()));
    let change = Change {
        priority: None,
        budget: BudgetChange::Unlimited,
    };
    assert_eq!(here.change(ID, change, 0), Ok(()));
    here.reserve_made(OTHER);
    assert_eq!(here.can_depart(OTHER), Ok(()), "it pays for itself");
    assert_eq!(here.can_depart(ID), Ok(()));
}

#[test]
fn what_was_lent_by_one_who_moves_is_over() {
    let mut here = scheduled(ID, 20, Budget::new(10 * MS, 100 * MS));
    here.reserve(OTHER);
    here.plan(OTHER, Priority::of_level(5), None);
    here.start(OTHER);
    run(&mut here, OTHER, 0);
    here.block(OTHER, Deadline::NEVER);
    here.start(ID);
    run(&mut here, ID, 0);
    assert!(here.hand_over(OTHER));
    here.block(ID, Deadline::NEVER);
    assert_eq!(here.take_over(), Some(OTHER));
    assert!(here.is_charging());
    // It has used three milliseconds of the other one's, who is sent away now.
    let standing = here.depart(ID, 3 * MS);
    let left_ns = standing.allowance.map(|left| left.end_ns(0));
    assert_eq!(left_ns, Some(7 * MS));
    assert!(!here.is_charging());
    here.reserve(VcpuId(5));
    here.plan(VcpuId(5), Priority::of_level(6), None);
    here.start(VcpuId(5));
    assert!(here.is_outranked(), "it has its own priority again");
}
