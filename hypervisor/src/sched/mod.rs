//! Scheduling: which vcpu runs next, and which sleeper wakes when.
//!
//! [`RunQueue`] is round robin; [`DeadlineQueue`] holds one deadline for each sleeping vcpu, or
//! for each armed timer. Both know nothing of vcpus and timers but their numbers. [`Scheduler`] puts them together with
//! each vcpu's state; a CPU's run loop owns one.
//!
//! Invariant: after `reserve` no operation allocates, so none can fail.

#![forbid(unsafe_code)]

mod deadlines;
mod run_queue;
mod scheduler;

pub use deadlines::DeadlineQueue;
pub use run_queue::RunQueue;
pub use scheduler::Scheduler;

/// The number of a vcpu, counted from 0 over all domains; never chosen by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VcpuId(pub u32);

/// The number of a timer, counted from 0 over all domains; never chosen by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TimerId(pub u32);

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
        self.0 as usize
    }
}
