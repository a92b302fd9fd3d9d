//! Memory of a machine, and what a vcpu without anything to do sleeps on.

use std::cell::Cell;
use std::sync::Arc;

use core::sync::atomic::{set_quiet, AtomicU64};
use hypervisor::mem::{Account, Frame, FramePool, PhysicalMemory, Words};
use hypervisor::nested::NPT;
use hypervisor::object::{Memory, Space, Vcpu, VcpuId};
use shuttle::sync::{Condvar, Mutex};

use crate::Guest;

const FRAMES: u64 = 256;

/// Not 0, which is nobody's.
const FIRST_FRAME: Frame = Frame(0x100);

const LIMIT_BYTES: u64 = 1 << 39;

/// Frames that exist for the rest of the test run. One execution uses them after the other.
struct Arena(Box<[Words]>);

std::thread_local! {
    static ARENA: &'static Arena = Arena::leak();
}

impl Arena {
    fn leak() -> &'static Self {
        let words = |_| std::array::from_fn(|_| AtomicU64::new(0));
        let arena = Box::leak(Box::new(Arena((0..FRAMES).map(words).collect())));
        let addresses = arena.0.as_ptr_range();
        set_quiet(addresses.start.addr()..addresses.end.addr());
        arena
    }
}

impl PhysicalMemory for Arena {
    fn words(&self, frame: Frame) -> Option<&'static Words> {
        // Every arena is leaked, which its own reference does not say.
        let arena = ARENA.with(|arena| *arena);
        let index = frame.0.checked_sub(FIRST_FRAME.0)?;
        arena.0.get(usize::try_from(index).ok()?)
    }
}

/// A machine with so many vcpus, each of which has a CPU of its own.
pub struct Machine {
    arena: &'static Arena,
    pool: Arc<FramePool>,
    account: Arc<Account>,
    bells: Arc<[Bell]>,
    guests: Cell<u32>,
}

/// What wakes a vcpu. A wake-up for a vcpu that does not sleep yet is kept until it does: this is what
/// the objects ask of whoever runs vcpus on several CPUs.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    pub(crate) fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Machine {
    /// A machine for so many vcpus.
    pub fn new(vcpus: usize) -> Self {
        let arena = ARENA.with(|arena| *arena);
        let pool = FramePool::new(arena);
        pool.add(FIRST_FRAME, FRAMES);
        Machine {
            arena,
            account: Account::new(pool.clone(), FRAMES),
            pool,
            bells: (0..vcpus).map(|_| Bell::default()).collect(),
            guests: Cell::new(0),
        }
    }

    /// The account that pays for everything.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Frames that nobody has.
    pub fn free_frames(&self) -> u64 {
        self.pool.free_frames()
    }

    /// Memory of so many pages.
    pub fn memory(&self, pages: u64) -> Arc<Memory> {
        Arc::new(Memory::allocate(&self.account, pages).unwrap())
    }

    /// An empty space.
    pub fn space(&self) -> Arc<Space> {
        Arc::new(Space::new(&self.account, self.arena, &NPT, LIMIT_BYTES).unwrap())
    }

    /// A vcpu with a domain of its own.
    pub fn guest(&self) -> Guest {
        let id = self.guests.replace(self.guests.get() + 1);
        let vcpu = Vcpu::new(VcpuId(id), self.memory(1), self.arena).unwrap();
        Guest::new(self.account.clone(), self.space(), vcpu, self.bells.clone())
    }
}
