//! Loans of those that wait for a busy server, and from one CPU to another.

use alloc::sync::Arc;
use std::vec::Vec;

use nuncio_abi::{Budget, Deadline};
use proptest::prelude::*;

use super::LOOK_NS;
use crate::sched::terms::tests::*;
use crate::sched::{Offers, Priority, VcpuId};

/// The running vcpu calls one that is busy, and sleeps.
fn wait_for(cpu: &mut Cpu, from: u32, to: u32, deadline: Deadline) {
    cpu.scheduler.settle(cpu.now_ns);
    cpu.scheduler.lend_to_busy(VcpuId(from), VcpuId(to));
    cpu.scheduler.block(VcpuId(from), deadline);
    assert_eq!(cpu.scheduler.take_over(), None);
    cpu.scheduler.end_turn(cpu.now_ns);
}

/// One that sleeps becomes ready, and whoever runs is asked to give way.
fn wake(cpu: &mut Cpu, id: u32) {
    assert!(cpu.scheduler.wake(VcpuId(id)));
    cpu.scheduler.give_way(cpu.now_ns, cpu.now_ns);
}

/// Whose turn it is, and with which priority that runs.
fn turn(cpu: &Cpu) -> (u32, Priority) {
    (cpu.scheduler.turn.id.0, cpu.scheduler.turn.priority)
}

fn next(cpu: &mut Cpu) -> (u32, Priority) {
    cpu.next_id().expect("somebody can run");
    turn(cpu)
}

/// The high one sleeps until somebody wakes it; the server is busy with a request of the low one, and the
/// spinner in the middle keeps it from the CPU.
const INVERSION: [(Priority, Option<Budget>); 4] = [
    (HIGH, None),
    (MIDDLE, None),
    (LOW, None),
    (Priority::of_level(5), None),
];
const CALLER: u32 = 0;
const SPINNER: u32 = 1;
const CLIENT: u32 = 2;
const SERVER: u32 = 3;

/// The server is busy, the spinner runs, and the caller has just been woken.
fn inversion(vcpus: &[(Priority, Option<Budget>)]) -> Cpu {
    let mut cpu = with_sleepers(vcpus, &[CALLER, SPINNER, SERVER]);
    assert_eq!(turn(&cpu).0, CLIENT);
    assert!(call(&mut cpu, CLIENT, SERVER, Deadline::NEVER).is_some());
    wake(&mut cpu, SPINNER);
    assert_eq!(next(&mut cpu), (SPINNER, MIDDLE));
    wake(&mut cpu, CALLER);
    assert_eq!(next(&mut cpu), (CALLER, HIGH));
    cpu
}

#[test]
fn a_busy_server_has_the_priority_of_whoever_waits_for_it() {
    let mut cpu = inversion(&INVERSION);
    wait_for(&mut cpu, CALLER, SERVER, Deadline::NEVER);
    assert_eq!(next(&mut cpu), (SERVER, HIGH), "not the spinner");
    // It answers the low one and takes the call that waits.
    cpu.scheduler.hand_back(VcpuId(CLIENT));
    cpu.scheduler.serve(VcpuId(CALLER), None, 0);
    cpu.scheduler.attend();
    cpu.scheduler.settle(0);
    assert_eq!(turn(&cpu), (SERVER, HIGH));
    // It answers that, too, and has nothing more.
    assert_eq!(answer(&mut cpu, SERVER, CALLER), Some(VcpuId(CALLER)));
    cpu.scheduler.block(VcpuId(CALLER), Deadline::NEVER);
    assert_eq!(cpu.scheduler.take_over(), None);
    assert_eq!(next(&mut cpu), (SPINNER, MIDDLE));
    wake(&mut cpu, SERVER);
    assert_eq!(cpu.next_id(), Some(SPINNER), "the loan is over");
}

#[test]
fn a_waiting_caller_whose_deadline_passes_lends_no_more() {
    let mut cpu = inversion(&INVERSION);
    wait_for(&mut cpu, CALLER, SERVER, Deadline(3 * MS));
    assert_eq!(next(&mut cpu), (SERVER, HIGH));
    // An event is no answer.
    cpu.scheduler.signal(VcpuId(CALLER));
    cpu.scheduler.suspend(VcpuId(CALLER));
    cpu.scheduler.block(VcpuId(CALLER), Deadline(3 * MS));
    cpu.scheduler.settle(2 * MS);
    assert_eq!(turn(&cpu), (SERVER, HIGH));
    cpu.scheduler.expire(3 * MS, |_| {});
    cpu.scheduler.settle(3 * MS);
    assert_eq!(turn(&cpu), (SERVER, LOW), "that of the one it serves");
}

#[test]
fn of_two_that_wait_the_more_urgent_counts_and_then_the_other() {
    let more = Priority::of_level(35);
    let vcpus = [
        (more, None),
        (HIGH, None),
        (MIDDLE, None),
        (LOW, None),
        (LOW, None),
    ];
    let mut cpu = with_sleepers(&vcpus, &[0, 1, 2, 4]);
    let server = 4;
    assert!(call(&mut cpu, 3, server, Deadline::NEVER).is_some());
    for caller in [1, 0] {
        wake(&mut cpu, caller);
        assert_eq!(cpu.next_id(), Some(caller));
        wait_for(
            &mut cpu,
            caller,
            server,
            Deadline(u64::from(caller + 1) * 10 * MS),
        );
        assert_eq!(next(&mut cpu), (server, vcpus[caller as usize].0));
    }
    cpu.scheduler.expire(10 * MS, |_| {});
    cpu.scheduler.settle(10 * MS);
    assert_eq!(turn(&cpu), (server, HIGH));
    cpu.scheduler.expire(20 * MS, |_| {});
    cpu.scheduler.settle(20 * MS);
    assert_eq!(turn(&cpu).1, LOW);
}

#[test]
fn a_third_that_waits_counts_again_when_its_call_is_the_next() {
    let levels = [40, 39, 38, 9, 5];
    let vcpus = levels.map(|level| (Priority::of_level(level), None));
    let (client, server) = (3, 4);
    let mut cpu = with_sleepers(&vcpus, &[0, 1, 2, server]);
    assert!(call(&mut cpu, client, server, Deadline::NEVER).is_some());
    // The least urgent comes first, and the server keeps no loan of it any more.
    for caller in [2, 1, 0] {
        wake(&mut cpu, caller);
        assert_eq!(cpu.next_id(), Some(caller));
        let deadline = Deadline(if caller == 2 { u64::MAX - 1 } else { 10 * MS });
        wait_for(&mut cpu, caller, server, deadline);
        assert_eq!(cpu.next_id(), Some(server));
    }
    cpu.scheduler.expire(10 * MS, |_| {});
    cpu.scheduler.settle(10 * MS);
    assert_eq!(turn(&cpu).1, Priority::of_level(9), "it is forgotten");
    // A call of one that lends nothing is taken, and the third is the next.
    cpu.scheduler
        .serve(VcpuId(client), Some(VcpuId(2)), 10 * MS);
    cpu.scheduler.settle(10 * MS);
    assert_eq!(turn(&cpu).1, Priority::of_level(38));
}

#[test]
fn the_time_of_a_busy_server_is_charged_to_whoever_waits() {
    let mut vcpus = INVERSION;
    vcpus[CALLER as usize].1 = budget(20, 100);
    let mut cpu = inversion(&vcpus);
    wait_for(&mut cpu, CALLER, SERVER, Deadline::NEVER);
    assert_eq!(next(&mut cpu), (SERVER, HIGH));
    assert_eq!(cpu.scheduler.budget_end_ns(), Some(20 * MS));
    cpu.scheduler.give_way(0, 5 * MS);
    cpu.compute_until(90 * MS);
    let used = cpu.used_ms();
    assert_eq!(used[SERVER as usize], 20, "then the spinner runs: {used:?}");
    // The caller is answered and has nothing left.
    cpu.scheduler.wake(VcpuId(CALLER));
    assert_eq!(cpu.next_id(), Some(SPINNER));
    cpu.scheduler.give_way(90 * MS, 90 * MS);
    cpu.compute_until(120 * MS);
    assert_eq!(cpu.used_ms()[CALLER as usize], 20, "of the next period");
}

#[test]
fn a_server_that_has_used_up_its_own_budget_is_paid_by_whoever_waits() {
    let mut vcpus = INVERSION;
    vcpus[SERVER as usize].1 = budget(1, 1000);
    let mut cpu = with_sleepers(&vcpus, &[CALLER, SPINNER, CLIENT]);
    cpu.scheduler.give_way(0, 0);
    cpu.compute_until(5 * MS);
    assert_eq!(cpu.used_ms()[SERVER as usize], 1);
    assert_eq!(cpu.next_id(), None);
    cpu.scheduler.wake(VcpuId(CLIENT));
    assert_eq!(cpu.next_id(), Some(CLIENT));
    wait_for(&mut cpu, CLIENT, SERVER, Deadline::NEVER);
    assert_eq!(next(&mut cpu), (SERVER, LOW));
    assert_eq!(cpu.scheduler.budget_end_ns(), None);
}

#[test]
fn a_chain_to_a_busy_server_lends_along() {
    // The caller calls the client, which calls the server, which is busy.
    let mut cpu = inversion(&INVERSION);
    cpu.scheduler.wake(VcpuId(CLIENT));
    cpu.scheduler.suspend(VcpuId(CLIENT));
    assert_eq!(
        call(&mut cpu, CALLER, CLIENT, Deadline(4 * MS)),
        Some(VcpuId(CLIENT))
    );
    wait_for(&mut cpu, CLIENT, SERVER, Deadline::NEVER);
    assert_eq!(next(&mut cpu), (SERVER, HIGH));
    cpu.scheduler.expire(4 * MS, |_| {});
    cpu.scheduler.settle(4 * MS);
    assert_eq!(
        turn(&cpu).1,
        Priority::of_level(5),
        "the first one waits no more"
    );
}

#[test]
fn who_waits_for_one_that_waits_lends_to_both() {
    // The client waits for the server already when the caller calls it.
    let mut cpu = inversion(&INVERSION);
    cpu.scheduler.lend_to_busy(VcpuId(CALLER), VcpuId(CLIENT));
    cpu.scheduler.lend_to_busy(VcpuId(CLIENT), VcpuId(SERVER));
    cpu.scheduler.block(VcpuId(CALLER), Deadline::NEVER);
    assert_eq!(cpu.scheduler.take_over(), None);
    assert_eq!(next(&mut cpu), (SERVER, HIGH));
    assert_eq!(answer(&mut cpu, SERVER, CLIENT), Some(VcpuId(CLIENT)));
    assert_eq!(turn(&cpu), (CLIENT, HIGH));
    cpu.scheduler.hand_back(VcpuId(SERVER));
    cpu.scheduler.settle(0);
    assert_eq!(turn(&cpu), (CLIENT, HIGH));
    cpu.scheduler.give_way(0, 0);
    cpu.scheduler.suspend(VcpuId(CLIENT));
    assert_eq!(
        next(&mut cpu),
        (SPINNER, MIDDLE),
        "nobody waits for the server"
    );
}

/// Two CPUs, each of which knows all numbers; a vcpu is where it is said.
fn two_cpus(vcpus: &[(Priority, Option<Budget>)], first: &[u32]) -> [Cpu; 2] {
    let offers = Arc::new(Offers::default());
    let numbers = 0..vcpus.len() as u32;
    numbers
        .clone()
        .for_each(|id| assert!(offers.reserve(VcpuId(id))));
    let [mut here, mut there] = [Cpu::new(vcpus), Cpu::new(vcpus)];
    for id in numbers {
        let elsewhere = if first.contains(&id) {
            &mut there
        } else {
            &mut here
        };
        elsewhere.scheduler.retire(VcpuId(id));
    }
    for cpu in [&mut here, &mut there] {
        cpu.scheduler.offers = offers.clone();
        (0..)
            .zip(vcpus)
            .for_each(|(id, _)| cpu.scheduler.publish_known(VcpuId(id)));
    }
    [here, there]
}

impl crate::sched::Scheduler {
    fn publish_known(&self, id: VcpuId) {
        if self.is_known(id) {
            self.publish(id);
        }
    }
}

/// The running vcpu calls one of another CPU, and sleeps; the news arrive. Whether there were any.
fn call_afar(from: &mut Cpu, to: &mut Cpu, [lender, server]: [u32; 2], is_served: bool) -> bool {
    let (lender, server) = (VcpuId(lender), VcpuId(server));
    let is_news = from
        .scheduler
        .offer_afar(lender, server, is_served, from.now_ns);
    from.scheduler.block(lender, Deadline::NEVER);
    assert_eq!(from.scheduler.take_over(), None);
    from.scheduler.end_turn(from.now_ns);
    if is_news {
        to.scheduler.borrow_afar(server, to.now_ns);
    }
    is_news
}

/// The caller has a CPU of its own.
fn afar(caller: (Priority, Option<Budget>)) -> [Cpu; 2] {
    let mut vcpus = INVERSION;
    vcpus[CALLER as usize] = caller;
    let [mut here, mut there] = two_cpus(&vcpus, &[CALLER]);
    assert_eq!(here.next_id(), Some(CALLER));
    there.scheduler.suspend(VcpuId(CLIENT));
    assert_eq!(there.next_id(), Some(SPINNER));
    [here, there]
}

#[test]
fn a_server_of_another_cpu_has_its_callers_priority() {
    for is_served in [true, false] {
        let [mut here, mut there] = afar((HIGH, None));
        assert!(call_afar(
            &mut here,
            &mut there,
            [CALLER, SERVER],
            is_served
        ));
        assert!(there.scheduler.is_outranked() && there.scheduler.attend());
        there.scheduler.give_way(0, 0);
        assert_eq!(next(&mut there), (SERVER, HIGH));
        assert_eq!(there.scheduler.budget_end_ns(), Some(LOOK_NS));
        here.scheduler.wake(VcpuId(CALLER));
        there.scheduler.settle(LOOK_NS);
        assert_eq!(turn(&there).1, Priority::of_level(5), "it waits no more");
        assert!(there.scheduler.is_outranked());
    }
}

#[test]
fn one_of_another_cpu_that_is_no_more_urgent_tells_nobody() {
    let [mut here, mut there] = afar((Priority::of_level(5), None));
    assert!(!call_afar(&mut here, &mut there, [CALLER, SERVER], true));
    let [mut here, mut there] = afar((LOW, None));
    assert!(call_afar(&mut here, &mut there, [CALLER, SERVER], false));
    let [mut here, mut there] = afar((Priority::of_level(5), budget(20, 100)));
    assert!(
        call_afar(&mut here, &mut there, [CALLER, SERVER], true),
        "it pays"
    );
    let [mut here, mut there] = afar((Priority::of_level(5), budget(20, 100)));
    assert!(!call_afar(&mut here, &mut there, [CALLER, SERVER], false));
}

#[test]
fn what_a_server_uses_on_another_cpu_is_charged_to_its_caller() {
    let [mut here, mut there] = afar((HIGH, budget(20, 100)));
    // It has used 3 of its 20 ms when it calls.
    here.now_ns = 3 * MS;
    there.now_ns = 3 * MS;
    assert!(call_afar(&mut here, &mut there, [CALLER, SERVER], true));
    there.scheduler.give_way(3 * MS, 3 * MS);
    there.compute_until(50 * MS);
    assert_eq!(there.used_ms()[SERVER as usize], 17);
    assert_eq!(there.used_ms()[SPINNER as usize], 50 - 3 - 17);
    here.scheduler.wake(VcpuId(CALLER));
    here.now_ns = 50 * MS;
    assert_eq!(here.next_id(), None, "it has nothing left");
    assert_eq!(here.scheduler.earliest_deadline(), Some(100 * MS));
}

#[test]
fn what_was_used_in_other_periods_is_paid_by_these() {
    let [mut here, mut there] = afar((HIGH, budget(20, 100)));
    assert!(call_afar(&mut here, &mut there, [CALLER, SERVER], true));
    there.scheduler.give_way(0, 0);
    // 20 ms of the first period; then nothing is lent any more.
    there.compute_until(230 * MS);
    assert_eq!(there.used_ms()[SERVER as usize], 20);
    here.scheduler.wake(VcpuId(CALLER));
    here.now_ns = 230 * MS;
    assert_eq!(here.next_id(), Some(CALLER));
    assert_eq!(here.scheduler.budget_end_ns(), Some(250 * MS));
}

#[test]
fn who_takes_the_call_of_one_of_another_cpu_is_lent_it_then() {
    let [mut here, mut there] = afar((HIGH, budget(20, 100)));
    assert!(here
        .scheduler
        .offer_afar(VcpuId(CALLER), VcpuId(SERVER), false, 0));
    // The news have not come yet; and when they come, they bring nothing more.
    there.scheduler.block(VcpuId(SPINNER), Deadline::NEVER);
    assert_eq!(there.next_id(), Some(SERVER));
    there.scheduler.serve(VcpuId(CALLER), None, MS);
    there.scheduler.settle(MS);
    assert_eq!(turn(&there), (SERVER, HIGH));
    there.scheduler.settle(11 * MS);
    there.scheduler.borrow_afar(VcpuId(SERVER), 11 * MS);
    there.scheduler.settle(11 * MS);
    assert_eq!(there.scheduler.budget_end_ns(), Some(11 * MS + LOOK_NS));
    there.scheduler.settle(16 * MS);
    assert_eq!(there.scheduler.budget_end_ns(), Some(21 * MS));
}

#[test]
fn a_chain_goes_on_from_one_cpu_to_another_and_pays_back() {
    // The caller calls the server, that calls the client on its own CPU.
    let [mut here, mut there] = afar((HIGH, budget(20, 100)));
    assert!(call_afar(&mut here, &mut there, [CALLER, SERVER], true));
    there.scheduler.give_way(0, 0);
    assert_eq!(next(&mut there), (SERVER, HIGH));
    assert_eq!(
        call(&mut there, SERVER, CLIENT, Deadline::NEVER),
        Some(VcpuId(CLIENT))
    );
    assert_eq!(turn(&there), (CLIENT, HIGH));
    there.now_ns = 4 * MS;
    there.scheduler.end_turn(4 * MS);
    here.scheduler.wake(VcpuId(CALLER));
    here.now_ns = 4 * MS;
    assert_eq!(here.next_id(), Some(CALLER));
    assert_eq!(
        here.scheduler.budget_end_ns(),
        Some(20 * MS),
        "4 of 20 are used"
    );
    there.scheduler.settle(4 * MS);
    assert_eq!(there.scheduler.terms(VcpuId(CLIENT)).priority, LOW);
}

#[test]
fn who_is_answered_on_its_own_cpu_lends_no_more_elsewhere() {
    for is_taken in [true, false] {
        let [mut here, mut there] = afar((HIGH, None));
        here.scheduler.add(VcpuId(4));
        assert!(call_afar(&mut here, &mut there, [CALLER, SERVER], true));
        assert_eq!(here.next_id(), Some(4));
        if is_taken {
            assert_eq!(answer(&mut here, 4, CALLER), Some(VcpuId(CALLER)));
        } else {
            here.scheduler.hand_back(VcpuId(CALLER));
            here.scheduler.attend();
        }
        let terms = there.scheduler.terms(VcpuId(SERVER));
        assert_eq!(terms.priority, Priority::of_level(5));
    }
}

#[test]
fn who_is_stopped_or_gone_lends_and_borrows_nothing() {
    for end in [
        crate::sched::Scheduler::stop,
        crate::sched::Scheduler::retire,
    ] {
        let [mut here, mut there] = afar((HIGH, None));
        assert!(call_afar(&mut here, &mut there, [CALLER, SERVER], true));
        end(&mut here.scheduler, VcpuId(CALLER));
        assert_eq!(
            there.scheduler.terms(VcpuId(SERVER)).priority,
            Priority::of_level(5)
        );
        let [mut here, mut there] = afar((HIGH, None));
        end(&mut there.scheduler, VcpuId(SERVER));
        call_afar(&mut here, &mut there, [CALLER, SERVER], true);
        there.scheduler.add(VcpuId(SERVER));
        assert!(there.scheduler.loan(VcpuId(SERVER)).is_none());
    }
}

proptest! {
    /// However many wait, for whatever time, and whatever budgets they have: none pays more than its budget,
    /// and the server runs with the priority of the most urgent one that has something left.
    #[test]
    fn nobody_who_waits_pays_more_than_its_budget(
        callers in proptest::collection::vec((6u8..60, 1u64..30, 1u64..200), 1..8),
    ) {
        let mut vcpus: Vec<_> = callers
            .iter()
            .map(|(level, budget_ms, _)| (Priority::of_level(*level), budget(*budget_ms, 1000)))
            .collect();
        let server = vcpus.len() as u32;
        vcpus.push((Priority::of_level(5), None));
        let numbers: Vec<_> = (0..server).collect();
        let mut cpu = with_sleepers(&vcpus, &numbers);
        for (number, (_, _, deadline_ms)) in (0..).zip(&callers) {
            wake(&mut cpu, number);
            // The server may be more urgent by now.
            cpu.scheduler.suspend(VcpuId(server));
            prop_assert_eq!(cpu.next_id(), Some(number));
            wait_for(&mut cpu, number, server, Deadline(deadline_ms * MS));
            cpu.scheduler.suspend(VcpuId(server));
            cpu.scheduler.wake(VcpuId(server));
            cpu.next();
        }
        let best = callers.iter().map(|(level, ..)| *level).max().unwrap();
        prop_assert_eq!(turn(&cpu), (server, Priority::of_level(best)));
        let is_best = |level: u8| callers.iter().filter(|it| it.0 >= level).count() == 1;
        cpu.scheduler.give_way(0, 0);
        // Nobody else runs: those whose deadline has passed go to sleep again.
        let mut now_ms = 0;
        while now_ms < 200 {
            now_ms += 1;
            cpu.scheduler.expire(cpu.now_ns, |_| {});
            numbers.iter().for_each(|it| cpu.scheduler.suspend(VcpuId(*it)));
            cpu.compute_until(now_ms * MS);
        }
        for (number, (level, budget_ms, deadline_ms)) in (0..).zip(&callers) {
            let payer = cpu.scheduler.slot(VcpuId(number)).unwrap().payer.unwrap();
            let allowance = cpu.scheduler.allowance(payer).unwrap();
            let left_ns = allowance.end_ns(0);
            let paid_ns = budget_ms * MS - left_ns;
            let most_ns = deadline_ms.min(budget_ms) * MS;
            prop_assert!(paid_ns <= most_ns, "{paid_ns} of {most_ns}");
            prop_assert!(!is_best(*level) || paid_ns == most_ns, "{paid_ns} of {most_ns}");
        }
    }
}
