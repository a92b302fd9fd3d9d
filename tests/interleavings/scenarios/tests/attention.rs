//! How CPUs tell each other something: mail for vcpus, and translations that are to be forgotten.
//!
//! What a CPU does here between two guests is what `run` does; an interrupt is a flag that it waits for.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hypervisor::sched::{Attention, CpuIndex, Mailboxes, News, Place, Told, VcpuId};
use interleavings::explore;
use shuttle::sync::Arc;
use shuttle::thread;

const HERE: CpuIndex = CpuIndex(0);
const SPACE: u64 = 7;

struct Cpu {
    attention: Attention,
    mailboxes: Mailboxes,
    is_interrupted: AtomicBool,
    /// Grows with every change of the space.
    version: AtomicU64,
    is_freed: AtomicBool,
}

fn cpu() -> Arc<Cpu> {
    Arc::new(Cpu {
        attention: Attention::default(),
        mailboxes: Mailboxes::new(1),
        is_interrupted: AtomicBool::new(false),
        version: AtomicU64::new(0),
        is_freed: AtomicBool::new(false),
    })
}

impl Cpu {
    fn tell(&self, told: Told) {
        if self.attention.tell(told) {
            self.is_interrupted.store(true, Ordering::SeqCst);
        }
    }

    /// Sleeps until it is interrupted, unless it has been told something.
    fn sleep(&self) {
        self.attention.go(Place::Asleep);
        if !self.attention.is_told_by_others() {
            while !self.is_interrupted.swap(false, Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        self.attention.come_back();
    }
}

/// Without an interrupt for what it is told the CPU sleeps for ever, which shuttle reports.
#[test]
fn no_mail_is_slept_through() {
    const VCPUS: u32 = 3;
    explore(2000, || {
        let cpu = cpu();
        (0..VCPUS).for_each(|id| assert!(cpu.mailboxes.open(VcpuId(id), HERE)));
        let posters = [[0, 1], [1, 2]].map(|ids| {
            let cpu = cpu.clone();
            thread::spawn(move || {
                for id in ids {
                    if cpu.mailboxes.post(VcpuId(id), News::EVENT).is_some() {
                        cpu.tell(Told::MAIL);
                    }
                }
            })
        });
        let mut heard = [0; VCPUS as usize];
        while heard.contains(&0) {
            cpu.sleep();
            if cpu.attention.hear_others().intersects(Told::MAIL) {
                cpu.mailboxes.collect(HERE, |id, news| {
                    assert_eq!(news, News::EVENT);
                    heard[id.0 as usize] += 1;
                });
            }
        }
        for poster in posters {
            poster.join().unwrap();
        }
        assert!(heard.iter().all(|times| (1..=2).contains(times)));
    });
}

/// A guest goes in and out; another CPU takes memory out of its space and frees it.
#[test]
fn no_guest_has_what_was_freed() {
    explore(4000, || {
        let cpu = cpu();
        let other = cpu.clone();
        let revoker = thread::spawn(move || {
            other.version.fetch_add(1, Ordering::SeqCst);
            if other.attention.uses_space(SPACE) {
                other.tell(Told::FLUSH);
                while other.attention.is_deaf_to(Told::FLUSH) {
                    thread::yield_now();
                }
            }
            other.is_freed.store(true, Ordering::SeqCst);
        });
        let mut seen = u64::MAX;
        for entry in 0..3 {
            // Another vcpu's space first, as after a switch.
            cpu.attention.use_space(if entry == 0 { 1 } else { SPACE });
            cpu.attention.use_space(SPACE);
            let mut caches_old = seen == 0;
            let version = cpu.version.load(Ordering::SeqCst);
            if version != seen {
                seen = version;
                caches_old = version == 0;
            }
            cpu.attention.go(Place::Guest);
            if cpu.attention.is_told_by_others() {
                cpu.attention.come_back();
                cpu.attention.hear_others();
                continue;
            }
            // The guest: it uses what the CPU has cached until it is interrupted.
            for _ in 0..2 {
                let is_freed = cpu.is_freed.load(Ordering::SeqCst);
                assert!(!(caches_old && is_freed), "freed memory was reached");
            }
            cpu.attention.come_back();
        }
        revoker.join().unwrap();
    });
}
