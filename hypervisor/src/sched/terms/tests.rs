//! Priorities, budgets and lending, in a time of their own.

use std::vec::Vec;

use nuncio_abi::{Budget, BudgetChange, Deadline};
use proptest::prelude::*;

use super::*;
use crate::sched::slot::State;

pub(in crate::sched) const MS: u64 = 1_000_000;

pub(in crate::sched) const LOW: Priority = Priority::of_level(10);
pub(in crate::sched) const MIDDLE: Priority = Priority::of_level(20);
pub(in crate::sched) const HIGH: Priority = Priority::of_level(30);

pub(in crate::sched) fn budget(budget_ms: u64, period_ms: u64) -> Option<Budget> {
    Budget::new(budget_ms * MS, period_ms * MS)
}

/// A CPU whose guests always compute, and how long each has.
pub(in crate::sched) struct Cpu {
    pub(in crate::sched) scheduler: Scheduler,
    pub(in crate::sched) now_ns: u64,
    pub(in crate::sched) used_ns: Vec<u64>,
    /// By how much every turn is longer than it should be.
    overrun_ns: u64,
}

impl Cpu {
    pub(in crate::sched) fn new(vcpus: &[(Priority, Option<Budget>)]) -> Self {
        let mut scheduler = Scheduler::default();
        for (number, (priority, budget)) in (0..).zip(vcpus) {
            scheduler.add(VcpuId(number));
            scheduler.plan(VcpuId(number), *priority, *budget);
        }
        Cpu {
            scheduler,
            now_ns: 0,
            used_ns: alloc::vec![0; vcpus.len()],
            overrun_ns: 0,
        }
    }

    /// Gives the CPU to the next one that may run. Returns it, and the end of its slice.
    pub(in crate::sched) fn next(&mut self) -> Option<(VcpuId, u64)> {
        self.scheduler.expire(self.now_ns, |_| {});
        loop {
            let id = self.scheduler.pick()?;
            if let Some(slice_ns) = self.scheduler.begin(id, self.now_ns) {
                self.check_nobody_is_more_urgent();
                return Some((id, self.now_ns + slice_ns));
            }
        }
    }

    /// As [`Cpu::next`], but for how long.
    pub(in crate::sched) fn next_id(&mut self) -> Option<u32> {
        self.next().map(|(id, _)| id.0)
    }

    fn check_nobody_is_more_urgent(&self) {
        let slots = (0..).map_while(|number| self.scheduler.slot(VcpuId(number)));
        for slot in slots.filter(|slot| slot.state == State::Ready) {
            assert!(slot.priority <= self.scheduler.turn.priority);
        }
    }

    /// When the timer would fire.
    fn due_ns(&self, slice_end_ns: u64) -> Option<u64> {
        let slice = self.scheduler.has_rival().then_some(slice_end_ns);
        let due = [
            slice,
            self.scheduler.budget_end_ns(),
            self.scheduler.earliest_deadline(),
        ];
        due.into_iter().flatten().min()
    }

    /// Lets everybody compute until then.
    pub(in crate::sched) fn compute_until(&mut self, end_ns: u64) {
        while self.now_ns < end_ns {
            match self.next() {
                Some((id, slice_end_ns)) => {
                    let from_ns = self.now_ns;
                    if self.scheduler.is_newly_contended() {
                        self.scheduler.contend(from_ns);
                    }
                    let due_ns = self.due_ns(slice_end_ns).unwrap_or(end_ns).max(from_ns);
                    self.now_ns = due_ns.min(end_ns) + self.overrun_ns;
                    self.used_ns[id.0 as usize] += self.now_ns - from_ns;
                    self.scheduler.give_way(self.now_ns, slice_end_ns);
                }
                None => {
                    let due_ns = self.scheduler.earliest_deadline();
                    self.now_ns = due_ns.unwrap_or(end_ns).min(end_ns);
                }
            }
        }
    }

    pub(in crate::sched) fn used_ms(&self) -> Vec<u64> {
        self.used_ns.iter().map(|ns| (ns + MS / 2) / MS).collect()
    }
}

#[test]
fn nobody_of_a_lower_priority_runs_while_one_of_a_higher_can() {
    let mut cpu = Cpu::new(&[(LOW, None), (HIGH, None), (MIDDLE, None)]);
    cpu.compute_until(100 * MS);
    assert_eq!(cpu.used_ms(), [0, 100, 0]);
    let (id, _) = cpu.next().unwrap();
    cpu.scheduler.block(id, Deadline(150 * MS));
    cpu.compute_until(200 * MS);
    assert_eq!(cpu.used_ms(), [0, 150, 50]);
}

#[test]
fn equals_share() {
    let mut cpu = Cpu::new(&[(LOW, None), (LOW, None), (LOW, None)]);
    cpu.compute_until(300 * MS);
    assert_eq!(cpu.used_ms(), [100, 100, 100]);
}

#[test]
fn who_overdraws_pays_with_his_next_slices() {
    let mut cpu = Cpu::new(&[(LOW, None), (LOW, None)]);
    let (first, slice_end_ns) = cpu.next().unwrap();
    cpu.now_ns = 55 * MS;
    cpu.used_ns[first.0 as usize] += 55 * MS;
    cpu.scheduler.give_way(cpu.now_ns, slice_end_ns);
    cpu.compute_until(200 * MS);
    let [more, less] = [cpu.used_ns[0], cpu.used_ns[1]];
    assert!(more.abs_diff(less) <= 5 * MS, "{more} {less}");
}

#[test]
fn who_has_had_the_cpu_to_itself_owes_nobody_anything() {
    let mut cpu = Cpu::new(&[(LOW, None), (LOW, None)]);
    cpu.scheduler.suspend(VcpuId(1));
    let (first, slice_end_ns) = cpu.next().unwrap();
    cpu.scheduler.wake(VcpuId(1));
    assert!(cpu.scheduler.is_newly_contended());
    cpu.scheduler.contend(50 * MS);
    cpu.now_ns = 50 * MS;
    cpu.scheduler.give_way(50 * MS, slice_end_ns);
    assert_eq!(cpu.next(), Some((VcpuId(1), 55 * MS)));
    cpu.now_ns = 55 * MS;
    cpu.scheduler.give_way(55 * MS, 55 * MS);
    assert_eq!(cpu.next(), Some((first, 60 * MS)));
}

#[test]
fn a_vcpu_can_give_the_cpu_to_one_that_is_less_urgent() {
    let mut cpu = Cpu::new(&[(HIGH, None), (LOW, None)]);
    let (urgent, slice_end_ns) = cpu.next().unwrap();
    cpu.scheduler.give_way(MS, slice_end_ns);
    assert!(cpu.scheduler.give_to(VcpuId(1)) && !cpu.scheduler.give_to(VcpuId(1)));
    assert_eq!(cpu.scheduler.turn.priority, LOW);
    // It does what it has to before it is looked whether it may enter its guest.
    assert!(cpu.scheduler.attend() && cpu.scheduler.is_outranked());
    cpu.scheduler.give_way(MS, slice_end_ns);
    assert_eq!(cpu.next_id(), Some(urgent.0));
}

#[test]
fn who_is_preempted_goes_on_with_the_rest_of_its_slice() {
    let mut cpu = Cpu::new(&[(LOW, None), (LOW, None), (HIGH, None)]);
    let (urgent, _) = cpu.next().unwrap();
    cpu.scheduler.block(urgent, Deadline(2 * MS));
    let (first, slice_end_ns) = cpu.next().unwrap();
    assert_eq!((first, slice_end_ns), (VcpuId(0), 5 * MS));
    cpu.now_ns = 2 * MS;
    assert!(!cpu.scheduler.is_outranked());
    cpu.scheduler.expire(cpu.now_ns, |_| {});
    assert!(cpu.scheduler.is_outranked() && cpu.scheduler.attend());
    cpu.scheduler.give_way(cpu.now_ns, slice_end_ns);
    assert_eq!(cpu.next(), Some((urgent, 7 * MS)));
    cpu.scheduler.block(urgent, Deadline::NEVER);
    assert_eq!(cpu.next(), Some((first, 5 * MS)), "the rest");
    cpu.now_ns = 5 * MS;
    cpu.scheduler.give_way(cpu.now_ns, 5 * MS);
    assert_eq!(cpu.next(), Some((VcpuId(1), 10 * MS)));
}

#[test]
fn a_budget_is_a_cap_and_with_a_higher_priority_a_guarantee() {
    let vcpus = [(HIGH, budget(20, 100)), (LOW, None), (LOW, None)];
    let mut cpu = Cpu::new(&vcpus);
    cpu.overrun_ns = 30_000;
    cpu.compute_until(1000 * MS);
    let share_ns = cpu.used_ns[0];
    assert!(share_ns.abs_diff(200 * MS) < 4 * MS, "{share_ns}");
    assert!(cpu.used_ns[1].abs_diff(cpu.used_ns[2]) < 6 * MS);
}

#[test]
fn a_cap_holds_on_an_idle_cpu_which_knows_when_to_look() {
    let mut cpu = Cpu::new(&[(LOW, budget(3, 10))]);
    cpu.compute_until(999 * MS);
    assert_eq!(cpu.used_ms(), [300]);
    assert_eq!(cpu.next(), None);
    assert!(!cpu.scheduler.is_blocked(VcpuId(0)), "it could run");
    assert!(cpu.scheduler.earliest_deadline().is_some());
}

#[test]
fn what_wakes_one_without_a_budget_does_not_let_it_run() {
    let mut cpu = Cpu::new(&[(LOW, budget(3, 10))]);
    cpu.compute_until(5 * MS);
    assert_eq!(cpu.next(), None);
    let only = VcpuId(0);
    assert!(cpu.scheduler.wake(only) && cpu.scheduler.signal(only));
    assert_eq!(cpu.next(), None);
    cpu.scheduler.suspend(only);
    assert!(cpu.scheduler.is_blocked(only));
    assert_eq!(cpu.scheduler.earliest_deadline(), None);
}

/// The running vcpu calls another one and sleeps.
pub(in crate::sched) fn call(
    cpu: &mut Cpu,
    from: u32,
    to: u32,
    deadline: Deadline,
) -> Option<VcpuId> {
    cpu.scheduler.hand_over(VcpuId(to));
    cpu.scheduler.block(VcpuId(from), deadline);
    cpu.scheduler.take_over()
}

/// The running vcpu answers another one and waits for the next call.
pub(in crate::sched) fn answer(cpu: &mut Cpu, from: u32, to: u32) -> Option<VcpuId> {
    cpu.scheduler.hand_back(VcpuId(to));
    cpu.scheduler.block(VcpuId(from), Deadline::NEVER);
    cpu.scheduler.take_over()
}

/// A CPU on which these sleep, and the first of the others runs.
pub(in crate::sched) fn with_sleepers(
    vcpus: &[(Priority, Option<Budget>)],
    sleepers: &[u32],
) -> Cpu {
    let mut cpu = Cpu::new(vcpus);
    for number in sleepers {
        cpu.scheduler.queue.remove(VcpuId(*number));
        cpu.scheduler.block(VcpuId(*number), Deadline::NEVER);
    }
    cpu.next();
    cpu
}

#[test]
fn a_callee_has_its_callers_priority_as_long_as_that_waits_even_if_preempted() {
    let vcpus = [(HIGH, None), (MIDDLE, None), (LOW, None)];
    let mut cpu = with_sleepers(&vcpus, &[2]);
    assert_eq!(call(&mut cpu, 0, 2, Deadline(8 * MS)), Some(VcpuId(2)));
    assert_eq!(cpu.scheduler.turn.priority, HIGH);
    assert!(!cpu.scheduler.is_outranked());
    cpu.scheduler.give_way(MS, 5 * MS);
    assert_eq!(cpu.next_id(), Some(2), "before the one in the middle");
    // An event is no answer, and ends no call.
    cpu.scheduler.signal(VcpuId(0));
    cpu.scheduler.attend();
    cpu.scheduler.settle(2 * MS);
    cpu.scheduler.queue.remove(VcpuId(0));
    cpu.scheduler.block(VcpuId(0), Deadline(8 * MS));
    assert_eq!(cpu.scheduler.turn.priority, HIGH);
    // The deadline ends it.
    cpu.scheduler.expire(8 * MS, |_| {});
    cpu.scheduler.settle(8 * MS);
    assert_eq!(cpu.scheduler.turn.priority, LOW);
    cpu.scheduler.give_way(8 * MS, 12 * MS);
    let order: Vec<_> = core::iter::from_fn(|| cpu.next_id()).collect();
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn a_callee_with_a_higher_priority_keeps_it() {
    let mut cpu = with_sleepers(&[(LOW, None), (HIGH, None)], &[1]);
    assert_eq!(call(&mut cpu, 0, 1, Deadline::NEVER), Some(VcpuId(1)));
    assert_eq!(cpu.scheduler.turn.priority, HIGH);
    assert_eq!(answer(&mut cpu, 1, 0), Some(VcpuId(0)));
    assert_eq!(cpu.scheduler.turn.priority, LOW);
}

#[test]
fn an_answer_does_not_bring_its_caller_before_somebody_more_urgent() {
    let vcpus = [(LOW, None), (HIGH, None), (MIDDLE, None)];
    let mut cpu = with_sleepers(&vcpus, &[1, 2]);
    assert_eq!(call(&mut cpu, 0, 1, Deadline::NEVER), Some(VcpuId(1)));
    cpu.scheduler.wake(VcpuId(2));
    assert_eq!(answer(&mut cpu, 1, 0), None);
    assert_eq!([cpu.next_id(), cpu.next_id()], [Some(2), Some(0)]);
}

#[test]
fn a_chain_of_calls_lasts_no_longer_than_its_first_caller_waits() {
    let vcpus = [(HIGH, budget(20, 100)), (LOW, None), (LOW, None)];
    let mut cpu = with_sleepers(&vcpus, &[1, 2]);
    assert!(call(&mut cpu, 0, 1, Deadline(5 * MS)).is_some());
    assert!(call(&mut cpu, 1, 2, Deadline::NEVER).is_some());
    assert_eq!(cpu.scheduler.turn.priority, HIGH);
    assert_eq!(cpu.scheduler.budget_end_ns(), Some(20 * MS));
    cpu.scheduler.expire(5 * MS, |_| {});
    cpu.scheduler.settle(5 * MS);
    assert_eq!(cpu.scheduler.turn.priority, LOW);
    assert_eq!(cpu.scheduler.budget_end_ns(), None);
    cpu.scheduler.give_way(5 * MS, 5 * MS);
    cpu.now_ns = 5 * MS;
    assert_eq!(cpu.next_id(), Some(0));
    assert_eq!(
        cpu.scheduler.budget_end_ns(),
        Some(20 * MS),
        "it has paid 5 of 20"
    );
}

#[test]
fn a_server_is_paid_by_its_caller_and_falls_back_on_its_own() {
    let vcpus = [(HIGH, budget(20, 100)), (LOW, budget(50, 100))];
    let mut cpu = with_sleepers(&vcpus, &[1]);
    assert!(call(&mut cpu, 0, 1, Deadline::NEVER).is_some());
    cpu.now_ns = 2 * MS;
    cpu.scheduler.give_way(2 * MS, 5 * MS);
    cpu.compute_until(19 * MS);
    assert_eq!(cpu.scheduler.turn.priority, HIGH);
    // Of its caller's 20 ms 2 were used before; then 50 of its own, then nothing.
    cpu.compute_until(99 * MS);
    assert_eq!(cpu.scheduler.turn.priority, LOW);
    assert_eq!(cpu.used_ms()[1], 18 + 50);
    assert!(!cpu.scheduler.is_blocked(VcpuId(1)));
}

#[test]
fn who_is_answered_without_a_budget_waits_for_it() {
    let vcpus = [(HIGH, budget(20, 100)), (LOW, None)];
    let mut cpu = with_sleepers(&vcpus, &[1]);
    assert!(call(&mut cpu, 0, 1, Deadline::NEVER).is_some());
    cpu.scheduler.give_way(21 * MS, 22 * MS);
    cpu.now_ns = 21 * MS;
    assert_eq!(cpu.next_id(), Some(1), "on its own time");
    assert_eq!(answer(&mut cpu, 1, 0), None);
    assert_eq!(cpu.next_id(), None);
    assert_eq!(cpu.scheduler.earliest_deadline(), Some(100 * MS));
}

#[test]
fn what_a_capped_vcpu_makes_is_capped_with_it() {
    let mut cpu = Cpu::new(&[(HIGH, budget(20, 100)), (LOW, None)]);
    let (maker, made, other) = (VcpuId(0), VcpuId(2), VcpuId(1));
    cpu.used_ns.push(0);
    let (id, slice_end_ns) = cpu.next().unwrap();
    assert_eq!(id, maker);
    cpu.scheduler.reserve_made(made);
    assert_eq!(cpu.scheduler.ceiling(made), HIGH);
    let change = Change {
        priority: None,
        budget: BudgetChange::Unlimited,
    };
    assert_eq!(cpu.scheduler.change(made, change, 0), Err(Refused));
    cpu.scheduler.start(made);
    cpu.scheduler.give_way(0, slice_end_ns);
    cpu.compute_until(1000 * MS);
    let together = cpu.used_ns[0] + cpu.used_ns[2];
    assert!(together.abs_diff(200 * MS) < 4 * MS, "{together}");
    assert_eq!(cpu.used_ns[0].abs_diff(cpu.used_ns[2]) / MS, 0);
    // It cannot be held against whoever gets the number of the maker next.
    cpu.scheduler.retire(maker);
    cpu.scheduler.add(maker);
    cpu.scheduler.plan(maker, LOW, budget(1, 1000));
    cpu.scheduler.retire(other);
    cpu.compute_until(1100 * MS);
    assert!(cpu.used_ns[2] > 190 * MS, "{}", cpu.used_ns[2]);
}

#[test]
fn a_change_takes_effect_whatever_the_vcpu_does() {
    let mut cpu = Cpu::new(&[(MIDDLE, None), (MIDDLE, None), (MIDDLE, None)]);
    let change = |level: Priority| Change {
        priority: Some(level),
        budget: BudgetChange::Keep,
    };
    let (first, slice_end_ns) = cpu.next().unwrap();
    cpu.scheduler.change(VcpuId(2), change(HIGH), 0).unwrap();
    assert!(cpu.scheduler.is_outranked() && cpu.scheduler.attend());
    cpu.scheduler.give_way(0, slice_end_ns);
    assert_eq!(cpu.next_id(), Some(2));
    cpu.scheduler.change(VcpuId(2), change(LOW), 0).unwrap();
    assert!(cpu.scheduler.is_outranked() && cpu.scheduler.attend());
    cpu.scheduler.give_way(0, 5 * MS);
    let limited = Change {
        priority: None,
        budget: BudgetChange::Limited(budget(1, 10).unwrap()),
    };
    cpu.scheduler.change(first, limited, 0).unwrap();
    cpu.compute_until(100 * MS);
    assert_eq!(cpu.used_ms(), [10, 90, 0]);
    let unlimited = Change {
        priority: Some(HIGH),
        budget: BudgetChange::Unlimited,
    };
    cpu.scheduler.change(first, unlimited, 100 * MS).unwrap();
    cpu.compute_until(200 * MS);
    assert_eq!(cpu.used_ms(), [110, 90, 0]);
}

proptest! {
    /// Whatever priorities and budgets there are: nobody gets more than its budget, and who has a budget
    /// gets it if there is room for it beside those that are as urgent or more.
    #[test]
    fn budgets_are_kept(
        vcpus in proptest::collection::vec((0u8..8, 1u64..10, 10u64..40), 1..8),
        overrun_ns in 0u64..20_000,
    ) {
        let planned: Vec<_> = vcpus
            .iter()
            .map(|(level, budget_ms, period_ms)| {
                (Priority::of_level(*level), budget(*budget_ms, *period_ms))
            })
            .collect();
        let mut cpu = Cpu::new(&planned);
        cpu.overrun_ns = overrun_ns;
        cpu.compute_until(2000 * MS);
        let share = |(_, budget_ms, period_ms): &(u8, u64, u64)| {
            *budget_ms as f64 / *period_ms as f64
        };
        for (number, own) in vcpus.iter().enumerate() {
            let allowed = share(own) * 2e9;
            let used = cpu.used_ns[number] as f64;
            // A period that has begun may have its whole budget already.
            let begun = own.1 as f64 * 1e6 + 50_000.0;
            prop_assert!(used <= allowed * 1.02 + begun, "{used} of {allowed}");
            let rivals = vcpus.iter().filter(|other| other.0 >= own.0);
            let wanted: f64 = rivals.map(share).sum();
            if wanted < 0.3 {
                prop_assert!(used >= allowed * 0.98 - begun, "{used} of {allowed}");
            }
        }
    }
}
