//! Scheduling: which vcpu runs next, and which sleeper wakes when.
//!
//! [`RunQueue`] is round robin for each [`Priority`]; [`DeadlineQueue`] holds one deadline for each sleeping
//! vcpu, or for each armed timer. Both know nothing of vcpus and timers but their numbers. An [`Allowance`] is
//! what a vcpu has left of its budget. [`Scheduler`] puts them together with each vcpu's state; a CPU's run
//! loop owns one. [`Mailboxes`] take news from the loop of one CPU to that of another, and [`Offers`] what
//! vcpus lend from one CPU to another. [`RunStates`] tells guests of their turns.
//!
//! Invariant: after `reserve` no operation allocates, so none can fail.

#![forbid(unsafe_code)]

mod allowance;
mod attention;
mod deadlines;
mod lending;
mod loans;
mod mailbox;
mod moving;
mod numbers;
mod offers;
mod pieces;
mod priority;
mod run_queue;
mod run_state;
mod scheduler;
mod slot;
mod terms;

pub use allowance::Allowance;
pub use attention::{Attention, Place, Told};
pub use deadlines::DeadlineQueue;
pub use mailbox::{Mailboxes, News};
pub use moving::Standing;
pub use numbers::Numbers;
pub use offers::Offers;
pub use pieces::MAX_VCPUS;
pub use priority::Priority;
pub use run_queue::RunQueue;
pub use run_state::{RunStates, Turns};
pub use scheduler::Scheduler;
pub use terms::{Change, Refused};

/// A physical CPU, counted from 0, the one that the machine was booted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CpuIndex(pub u8);

impl CpuIndex {
    /// The CPU that the machine was booted on.
    pub const BOOT: CpuIndex = CpuIndex(0);

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a vcpu, counted from 0 over all domains; never chosen by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VcpuId(pub u32);

/// The number of a timer: the CPU in whose queue it stands, and a number among that CPU's timers of all
/// domains. Never chosen by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TimerId(u32);

/// Bits of a timer's number that count the timers of one CPU; the CPU's stand above.
const TIMER_BITS: u32 = 24;

impl TimerId {
    /// The timer of that number among a CPU's; `None` if that has as many as can be.
    pub fn new(cpu: CpuIndex, number: usize) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        (number < 1 << TIMER_BITS).then_some(TimerId(u32::from(cpu.0) << TIMER_BITS | number))
    }

    /// The CPU in whose queue it stands.
    pub const fn cpu(self) -> CpuIndex {
        CpuIndex((self.0 >> TIMER_BITS) as u8)
    }
}

/// What has a number from 0 on by which it can be found.
pub trait Numbered: Copy + Ord {
    /// The number as an index.
    fn index(self) -> usize;
}

impl Numbered for VcpuId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl Numbered for TimerId {
    fn index(self) -> usize {
        (self.0 & ((1 << TIMER_BITS) - 1)) as usize
    }
}
