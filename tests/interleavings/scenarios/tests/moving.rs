//! A vcpu that goes from CPU to CPU while others wake it: with the product's mailboxes and schedulers, in the
//! order of `run`.
//!
//! It lies among the arrivals of a CPU before the mailboxes name that one. Mail is taken out, then the arrivals
//! are received, then the mail is read, and what is not for a vcpu of this CPU is sent on.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hypervisor::sched::{
    Attention, CpuIndex, Mailboxes, News, Place, Scheduler, Standing, Told, VcpuId,
};
use interleavings::explore;
use nuncio_abi::Deadline;
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

const CPUS: usize = 2;
const NOMAD: VcpuId = VcpuId(1);

/// What the CPUs see of each other.
struct Shared {
    mailboxes: Mailboxes,
    cpus: [Cpu; CPUS],
    /// What is left for the vcpu, as an object would leave it.
    work: AtomicU64,
    /// What it has done of that, on any CPU.
    done: AtomicU64,
    expected: u64,
}

#[derive(Default)]
struct Cpu {
    attention: std::sync::Arc<Attention>,
    is_interrupted: AtomicBool,
    arrivals: Mutex<Vec<Standing>>,
    /// To which CPU the vcpu is to go, one more than its number; 0 for none.
    request: AtomicU64,
}

fn shared(expected: u64) -> Arc<Shared> {
    let shared = Shared {
        mailboxes: Mailboxes::new(CPUS),
        cpus: Default::default(),
        work: AtomicU64::new(0),
        done: AtomicU64::new(0),
        expected,
    };
    assert!(shared.mailboxes.open(NOMAD, CpuIndex(0)));
    Arc::new(shared)
}

impl Shared {
    fn tell(&self, cpu: CpuIndex, told: Told) {
        let cpu = &self.cpus[cpu.index()];
        if cpu.attention.tell(told) {
            cpu.is_interrupted.store(true, Ordering::SeqCst);
        }
    }

    fn post(&self, news: News) {
        if let Some(cpu) = self.mailboxes.post(NOMAD, news) {
            self.tell(cpu, Told::MAIL);
        }
    }

    /// Leaves something for the vcpu, and wakes it, from a CPU that does not have it.
    fn leave(&self) {
        self.work.fetch_add(1, Ordering::SeqCst);
        self.post(News::BLOCKED);
    }

    /// Asks the CPU that has the vcpu to send it to another one.
    fn move_to(&self, to: usize) {
        let cpu = self.mailboxes.cpu(NOMAD).expect("it has one");
        let request = &self.cpus[cpu.index()].request;
        request.store(to as u64 + 1, Ordering::SeqCst);
        self.tell(cpu, Told::REQUEST);
    }

    fn is_over(&self) -> bool {
        self.done.load(Ordering::SeqCst) == self.expected
    }
}

struct Loop {
    shared: Arc<Shared>,
    index: CpuIndex,
    scheduler: Scheduler,
}

impl Loop {
    fn new(shared: Arc<Shared>, index: u8) -> Self {
        let attention = shared.cpus[usize::from(index)].attention.clone();
        let index = CpuIndex(index);
        Loop {
            scheduler: Scheduler::new(attention, Arc::default()),
            shared,
            index,
        }
    }

    fn cpu(&self) -> &Cpu {
        &self.shared.cpus[self.index.index()]
    }

    /// Until the vcpu has done everything, wherever it is.
    fn run(&mut self) {
        while !self.shared.is_over() {
            self.listen();
            match self.scheduler.pick() {
                Some(id) => self.run_vcpu(id),
                None => self.sleep(),
            }
        }
    }

    fn listen(&mut self) {
        if !self.cpu().attention.is_told_by_others() {
            return;
        }
        let told = self.cpu().attention.hear_others();
        if told.intersects(Told::MAIL) {
            self.read_mail();
        }
        if told.intersects(Told::REQUEST) {
            self.receive_arrivals();
            match self.cpu().request.swap(0, Ordering::SeqCst) {
                0 => {}
                to => self.send_off(CpuIndex(to as u8 - 1)),
            }
        }
    }

    fn read_mail(&mut self) {
        let shared = self.shared.clone();
        shared.mailboxes.collect(self.index, |id, news| {
            self.receive_arrivals();
            if shared.mailboxes.cpu(id) != Some(self.index) {
                return shared.post(news);
            }
            self.scheduler.wake(id);
        });
    }

    fn receive_arrivals(&mut self) {
        let arrivals = std::mem::take(&mut *self.cpu().arrivals.lock().unwrap());
        for standing in arrivals {
            self.scheduler.arrive(NOMAD, standing);
        }
    }

    fn send_off(&mut self, to: CpuIndex) {
        match self.shared.mailboxes.cpu(NOMAD) {
            Some(cpu) if cpu == self.index => {}
            // It has gone: whoever has it is asked.
            _ => return self.shared.move_to(to.index()),
        }
        if to == self.index {
            return;
        }
        let standing = self.scheduler.depart(NOMAD, 0);
        let there = &self.shared.cpus[to.index()];
        there.arrivals.lock().unwrap().push(standing);
        self.shared.mailboxes.open(NOMAD, to);
        self.shared.tell(to, Told::REQUEST);
    }

    /// One turn: it does what has been left for it, or goes to sleep.
    fn run_vcpu(&mut self, id: VcpuId) {
        assert!(self.scheduler.begin(id, 0).is_some());
        match self.shared.work.swap(0, Ordering::SeqCst) {
            0 => self.scheduler.block(id, Deadline::NEVER),
            work => {
                let done = self.shared.done.fetch_add(work, Ordering::SeqCst) + work;
                self.scheduler.give_way(0, 0);
                if done == self.shared.expected {
                    (0..CPUS as u8).for_each(|cpu| self.shared.tell(CpuIndex(cpu), Told::OVER));
                }
            }
        }
    }

    fn sleep(&mut self) {
        let shared = self.shared.clone();
        let cpu = &shared.cpus[self.index.index()];
        cpu.attention.go(Place::Asleep);
        // That all is done may have been heard since that was looked at last.
        if !shared.is_over() && !cpu.attention.is_told_by_others() {
            while !cpu.is_interrupted.swap(false, Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        cpu.attention.come_back();
    }
}

/// A wake-up that is lost on the way leaves both CPUs asleep for ever, which shuttle reports.
#[test]
fn no_wake_up_is_lost_while_a_vcpu_moves() {
    explore(3000, || {
        let shared = shared(2);
        let mut first = Loop::new(shared.clone(), 0);
        first.scheduler.add(NOMAD);
        let second = shared.clone();
        let second = thread::spawn(move || Loop::new(second, 1).run());
        let waker = {
            let shared = shared.clone();
            thread::spawn(move || (0..2).for_each(|_| shared.leave()))
        };
        let mover = thread::spawn(move || [1, 0, 1].map(|cpu| shared.move_to(cpu)));
        first.run();
        for other in [second, waker] {
            other.join().unwrap();
        }
        mover.join().unwrap();
    });
}

/// One move and one wake-up, for a vcpu that has gone to sleep mostly: whoever is told where it is finds it there.
#[test]
fn a_wake_up_meets_a_vcpu_that_has_just_come() {
    explore(6000, || {
        let shared = shared(1);
        let mut first = Loop::new(shared.clone(), 0);
        first.scheduler.add(NOMAD);
        first.scheduler.pick();
        first.run_vcpu(NOMAD);
        let second = shared.clone();
        let second = thread::spawn(move || Loop::new(second, 1).run());
        let waker = shared.clone();
        let waker = thread::spawn(move || waker.leave());
        shared.move_to(1);
        first.run();
        second.join().unwrap();
        waker.join().unwrap();
    });
}
