//! A CPU that runs vcpus in turn and sleeps when none can run, while other CPUs wake them.
//!
//! The CPU does what `run` does, in the same order: it listens, picks, says that it goes into a guest and
//! looks once more, and only puts a vcpu to sleep that has found nothing to do.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hypervisor::sched::{Attention, CpuIndex, Mailboxes, News, Place, Scheduler, Told, VcpuId};
use interleavings::explore;
use nuncio_abi::Deadline;
use shuttle::sync::Arc;
use shuttle::thread;

const HERE: CpuIndex = CpuIndex(0);
const VCPUS: usize = 2;

/// What others see of the CPU.
struct Shared {
    attention: std::sync::Arc<Attention>,
    mailboxes: Mailboxes,
    is_interrupted: AtomicBool,
    /// What is left for each vcpu to do, as an object would leave it.
    work: [AtomicU64; VCPUS],
}

struct Cpu {
    shared: Arc<Shared>,
    scheduler: Scheduler,
    done: [u64; VCPUS],
    upcalls: [u64; VCPUS],
}

fn shared() -> Arc<Shared> {
    let shared = Shared {
        attention: std::sync::Arc::default(),
        mailboxes: Mailboxes::new(1),
        is_interrupted: AtomicBool::new(false),
        work: [const { AtomicU64::new(0) }; VCPUS],
    };
    for id in 0..VCPUS as u32 {
        assert!(shared.mailboxes.open(VcpuId(id), HERE));
    }
    Arc::new(shared)
}

impl Shared {
    /// Leaves something for a vcpu, and wakes it.
    fn leave(&self, vcpu: usize, news: News) {
        self.work[vcpu].fetch_add(1, Ordering::SeqCst);
        let is_news = self.mailboxes.post(VcpuId(vcpu as u32), news).is_some();
        if is_news && self.attention.tell(Told::MAIL) {
            self.is_interrupted.store(true, Ordering::SeqCst);
        }
    }
}

impl Cpu {
    fn new(shared: Arc<Shared>) -> Self {
        let mut scheduler = Scheduler::new(shared.attention.clone(), std::sync::Arc::default());
        (0..VCPUS as u32).for_each(|id| scheduler.add(VcpuId(id)));
        Cpu {
            shared,
            scheduler,
            done: [0; VCPUS],
            upcalls: [0; VCPUS],
        }
    }

    /// Runs until so much has been done for each vcpu.
    fn run_until(&mut self, expected: [u64; VCPUS]) {
        while self.done != expected {
            self.listen();
            match self.scheduler.pick() {
                Some(id) => self.run(id),
                None => self.sleep(),
            }
        }
    }

    fn listen(&mut self) {
        if !self.shared.attention.is_told_by_others() {
            return;
        }
        if !self.shared.attention.hear_others().intersects(Told::MAIL) {
            return;
        }
        let scheduler = &mut self.scheduler;
        self.shared.mailboxes.collect(HERE, |id, news| {
            if news.contains(News::BLOCKED) {
                assert!(scheduler.wake(id));
            }
            if news.contains(News::EVENT) {
                assert!(scheduler.signal(id));
            }
        });
    }

    /// Lets a vcpu run for one entry.
    fn run(&mut self, id: VcpuId) {
        let vcpu = id.0 as usize;
        // No time passes here: it has its turn.
        assert!(self.scheduler.begin(id, 0).is_some());
        loop {
            self.shared.attention.go(Place::Guest);
            if !self.shared.attention.is_told() {
                break;
            }
            self.shared.attention.come_back();
            self.listen();
            self.scheduler.attend();
            if self.scheduler.has_upcall(id) {
                self.scheduler.clear_upcall(id);
                self.upcalls[vcpu] += 1;
            }
        }
        self.shared.attention.come_back();
        // Its call looks for something to do, and ends the turn either way.
        match self.shared.work[vcpu].swap(0, Ordering::SeqCst) {
            0 => self.scheduler.block(id, Deadline::NEVER),
            work => {
                self.done[vcpu] += work;
                self.scheduler.give_way(0, 0);
            }
        }
    }

    fn sleep(&mut self) {
        self.shared.attention.go(Place::Asleep);
        if !self.shared.attention.is_told_by_others() {
            while !self.shared.is_interrupted.swap(false, Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        self.shared.attention.come_back();
    }
}

/// A wake-up that is lost leaves the CPU asleep for ever, which shuttle reports.
#[test]
fn no_wake_up_from_another_cpu_is_lost() {
    explore(3000, || {
        let shared = shared();
        let wakers = [[0, 1], [1, 0]].map(|order| {
            let shared = shared.clone();
            thread::spawn(move || {
                for vcpu in order {
                    shared.leave(vcpu, News::BLOCKED);
                }
            })
        });
        Cpu::new(shared).run_until([2, 2]);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// An event wakes as well, and its upcall reaches the guest before it is done.
#[test]
fn every_event_becomes_an_upcall() {
    explore(3000, || {
        let shared = shared();
        let other = shared.clone();
        let notifier = thread::spawn(move || other.leave(0, News::EVENT));
        let third = shared.clone();
        let waker = thread::spawn(move || third.leave(1, News::BLOCKED));
        let mut cpu = Cpu::new(shared);
        cpu.run_until([1, 1]);
        notifier.join().unwrap();
        waker.join().unwrap();
        cpu.listen();
        let is_told = cpu.upcalls[0] == 1 || cpu.scheduler.has_upcall(VcpuId(0));
        assert!(is_told && cpu.upcalls[1] == 0);
    });
}
