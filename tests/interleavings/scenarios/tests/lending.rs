//! What vcpus lend from one CPU to another: the borrower's CPU uses an offer that stands and no other, and all it
//! has used is charged.

use hypervisor::sched::{
    Attention, CpuIndex, Mailboxes, News, Offers, Priority, Scheduler, VcpuId,
};
use interleavings::explore;
use nuncio_abi::{Budget, Deadline};
use shuttle::sync::Arc;
use shuttle::thread;

const HERE: CpuIndex = CpuIndex(0);
const THERE: CpuIndex = CpuIndex(1);
const LENDER: VcpuId = VcpuId(0);
const SERVER: VcpuId = VcpuId(1);
const SPINNER: VcpuId = VcpuId(2);
const THIRD: VcpuId = VcpuId(3);
const LOW: Priority = Priority::of_level(10);
const MIDDLE: Priority = Priority::of_level(20);
const HIGH: Priority = Priority::of_level(30);
const MS: u64 = 1_000_000;
/// What the server uses of each loan.
const USE_NS: u64 = MS;
const BUDGET_NS: u64 = 20 * MS;
const CALLS: u64 = 2;

struct Shared {
    mailboxes: Mailboxes,
    offers: std::sync::Arc<Offers>,
}

fn shared() -> Arc<Shared> {
    let shared = Shared {
        mailboxes: Mailboxes::new(2),
        offers: std::sync::Arc::default(),
    };
    for (id, cpu) in [
        (LENDER, HERE),
        (SERVER, THERE),
        (SPINNER, THERE),
        (THIRD, THERE),
    ] {
        assert!(shared.offers.reserve(id) && shared.mailboxes.open(id, cpu));
    }
    Arc::new(shared)
}

fn scheduler(shared: &Shared, vcpus: &[(VcpuId, Priority, Option<Budget>)]) -> Scheduler {
    let attention = std::sync::Arc::new(Attention::default());
    let mut scheduler = Scheduler::new(attention, shared.offers.clone());
    for (id, priority, budget) in vcpus {
        scheduler.reserve(*id);
        scheduler.plan(*id, *priority, *budget);
        scheduler.start(*id);
    }
    scheduler
}

/// The server's CPU: the spinner runs whenever the server has no loan. It answers so many calls.
fn serve(shared: &Shared) {
    let mut cpu = scheduler(shared, &[(SERVER, LOW, None), (SPINNER, MIDDLE, None)]);
    let mut now_ns = 0;
    let mut answered = 0;
    while answered < CALLS {
        shared.mailboxes.collect(THERE, |id, news| {
            if news.contains(News::LOAN) {
                cpu.borrow_afar(id, now_ns);
            }
        });
        let Some(id) = cpu.pick().filter(|id| cpu.begin(*id, now_ns).is_some()) else {
            continue;
        };
        if id == SERVER {
            now_ns += USE_NS;
            // The answer, and then the end of the turn.
            shared.offers.end(LENDER);
            shared.mailboxes.post(LENDER, News::BLOCKED);
            cpu.give_way(now_ns, 0);
            answered += 1;
        } else {
            cpu.give_way(now_ns, 0);
            thread::yield_now();
        }
    }
}

/// A call that lends nothing would wait for ever behind the spinner, which shuttle reports; and what the server
/// has used is missing from the caller's budget, whenever it was reported.
#[test]
fn every_call_gets_its_server_and_all_that_was_used_is_charged() {
    explore(800, || {
        let shared = shared();
        let other = shared.clone();
        let server = thread::spawn(move || serve(&other));
        let budget = Budget::new(BUDGET_NS, 100 * MS);
        let mut cpu = scheduler(&shared, &[(LENDER, HIGH, budget)]);
        for _ in 0..CALLS {
            let id = cpu.pick().unwrap();
            assert!(cpu.begin(id, 0).is_some());
            assert!(cpu.offer_afar(LENDER, SERVER, false, 0));
            shared.mailboxes.post(SERVER, News::LOAN);
            cpu.block(LENDER, Deadline::NEVER);
            cpu.end_turn(0);
            let mut is_awake = false;
            while !is_awake {
                shared.mailboxes.collect(HERE, |id, news| {
                    is_awake = news.contains(News::BLOCKED);
                    assert!(cpu.wake(id));
                });
                thread::yield_now();
            }
        }
        server.join().unwrap();
        // What was reported after it woke up is charged with the next call.
        let id = cpu.pick().unwrap();
        assert!(cpu.begin(id, 0).is_some());
        assert!(cpu.offer_afar(LENDER, SERVER, false, 0));
        assert_eq!(cpu.budget_end_ns(), Some(BUDGET_NS - CALLS * USE_NS));
    });
}

/// Whoever reads an offer while its lender ends it and makes another one finds one of the two, or none: the server
/// is offered a budget with a priority in the middle, and somebody else a high one alone.
#[test]
fn no_offer_is_half_another_one() {
    const OTHER: VcpuId = SPINNER;
    const BETWEEN: Priority = Priority::of_level(25);
    explore(2000, || {
        let shared = shared();
        let other = shared.clone();
        let reader = thread::spawn(move || {
            let vcpus = [
                (SERVER, LOW, None),
                (OTHER, LOW, None),
                (THIRD, BETWEEN, None),
            ];
            let mut cpu = scheduler(&other, &vcpus);
            for _ in 0..3 {
                for id in [SERVER, OTHER] {
                    cpu.borrow_afar(id, 0);
                }
                let mut is_urgent = true;
                while let Some(id) = cpu.pick() {
                    if cpu.begin(id, 0).is_none() {
                        continue;
                    }
                    match id {
                        THIRD => is_urgent = false,
                        SERVER => assert!(!is_urgent, "it has been offered less"),
                        _ => assert!(!cpu.is_charging(), "it has been offered no budget"),
                    }
                    cpu.block(id, Deadline::NEVER);
                    cpu.end_turn(0);
                }
                for id in [SERVER, OTHER, THIRD] {
                    cpu.wake(id);
                }
            }
        });
        let budget = Budget::new(BUDGET_NS, 100 * MS);
        let mut cpu = scheduler(&shared, &[(LENDER, MIDDLE, budget)]);
        for round in 0..4 {
            let (to, priority, budget) = match round % 2 {
                0 => (SERVER, MIDDLE, budget),
                _ => (OTHER, HIGH, None),
            };
            cpu.plan(LENDER, priority, budget);
            assert_eq!(cpu.pick(), Some(LENDER));
            assert!(cpu.begin(LENDER, 0).is_some());
            assert!(cpu.offer_afar(LENDER, to, true, 0));
            cpu.end_lending(LENDER);
            cpu.give_way(0, 0);
        }
        reader.join().unwrap();
    });
}
