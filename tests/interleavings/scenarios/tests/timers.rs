//! Timers that are armed and given up on other CPUs, while their own one waits for them.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use hypervisor::mem::KernelCharge;
use hypervisor::object::{Event, Timer, Vcpu};
use hypervisor::run::{Due, Timers};
use hypervisor::sched::{Attention, CpuIndex, Place, Told, VcpuId};
use interleavings::{explore, Machine};
use nuncio_abi::Deadline;
use shuttle::sync::Mutex;
use shuttle::thread;

const SLOT: u8 = 3;

/// The CPU of the timers, as `run` has it.
struct Cpu {
    attention: Attention,
    is_interrupted: AtomicBool,
    timers: Mutex<Timers>,
    now_ns: AtomicU64,
}

fn cpu() -> Arc<Cpu> {
    Arc::new(Cpu {
        attention: Attention::default(),
        is_interrupted: AtomicBool::new(false),
        timers: Mutex::new(Timers::new(CpuIndex::BOOT)),
        now_ns: AtomicU64::new(1),
    })
}

impl Cpu {
    /// Arms a timer from another CPU.
    fn arm(&self, timer: &Timer, deadline: Deadline) {
        self.timers.lock().unwrap().arm(timer.id(), deadline);
        if self.attention.tell(Told::TIMER) {
            self.is_interrupted.store(true, Ordering::SeqCst);
        }
    }

    /// Fires what is due.
    fn expire(&self) {
        let now_ns = self.now_ns.load(Ordering::SeqCst);
        loop {
            // Firing takes other locks than that of the timers.
            let due = self.timers.lock().unwrap().take_due(now_ns);
            match due {
                Some(Some(Due::Timer(timer))) => {
                    timer.fire();
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Sleeps until something is due or it is told.
    fn sleep(&self) {
        let earliest = self.timers.lock().unwrap().earliest();
        self.attention.go(Place::Asleep);
        if !self.attention.is_told_by_others() {
            match earliest {
                Some(due_ns) => {
                    self.now_ns.fetch_max(due_ns, Ordering::SeqCst);
                }
                None => {
                    while !self.is_interrupted.swap(false, Ordering::SeqCst) {
                        thread::yield_now();
                    }
                }
            }
        }
        self.attention.come_back();
        self.attention.hear_others();
        self.expire();
    }
}

/// A vcpu, in whose page events show.
struct Bed {
    machine: Machine,
    vcpu: Vcpu,
}

impl Bed {
    fn new() -> Self {
        let machine = Machine::new(1);
        let physical = machine.guest().domain.space.physical();
        let vcpu = Vcpu::new(VcpuId(0), machine.memory(1), physical).unwrap();
        Bed { machine, vcpu }
    }

    fn charge(&self) -> KernelCharge {
        self.machine.account().charge_kernel(&[]).unwrap()
    }

    fn timer(&self, cpu: &Cpu, bits: u64) -> Arc<Timer> {
        let event = Arc::new(Event::new(self.vcpu.target(SLOT), None));
        let mut timers = cpu.timers.lock().unwrap();
        timers.add(event, bits, self.charge()).unwrap()
    }

    fn pending(&self) -> u64 {
        self.vcpu.page().slot(SLOT.into()).unwrap().pending()
    }
}

/// One that is missed leaves the CPU asleep for ever, which shuttle reports.
#[test]
fn a_timer_that_another_cpu_arms_earlier_is_not_slept_through() {
    explore(2000, || {
        let (bed, cpu) = (Bed::new(), cpu());
        let [first, second] = [1, 2].map(|bits| bed.timer(&cpu, bits));
        let armers = [(first.clone(), 50), (second.clone(), 20)].map(|(timer, due_ns)| {
            let cpu = cpu.clone();
            thread::spawn(move || cpu.arm(&timer, Deadline(due_ns)))
        });
        while bed.pending() != 3 {
            cpu.sleep();
        }
        for armer in armers {
            armer.join().unwrap();
        }
        assert_eq!(cpu.now_ns.load(Ordering::SeqCst), 50);
    });
}

/// It is due while it is given up, and its number goes to another one, which nobody has armed.
#[test]
fn a_timer_that_is_given_up_fires_for_nobody_else() {
    explore(2000, || {
        let (bed, cpu) = (Bed::new(), cpu());
        let given_up = bed.timer(&cpu, 1);
        let (last, number) = (bed.timer(&cpu, 4), given_up.id());
        cpu.arm(&given_up, Deadline(10));
        let other = cpu.clone();
        let heir = Arc::new(Event::new(bed.vcpu.target(SLOT), None));
        let charge = bed.charge();
        let closer = thread::spawn(move || {
            other.timers.lock().unwrap().remove(number);
            drop(given_up);
            let heir = other.timers.lock().unwrap().add(heir, 2, charge).unwrap();
            assert_eq!(heir.id(), number);
            other.arm(&last, Deadline(30));
            (heir, last)
        });
        while bed.pending() & 4 == 0 {
            cpu.sleep();
        }
        closer.join().unwrap();
        assert_eq!(bed.pending() & 2, 0, "it was never armed");
    });
}
