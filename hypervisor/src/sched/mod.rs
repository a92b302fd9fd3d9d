//! Scheduling: which vcpu runs next, and which sleeper wakes when.
//!
//! [`RunQueue`] is round robin; [`DeadlineQueue`] holds one deadline for each sleeping vcpu. Both
//! are indexed by [`VcpuId`] and know nothing else of vcpus. [`Scheduler`] puts them together with
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

impl VcpuId {
    /// The number as an index.
    const fn index(self) -> usize {
        self.0 as usize
    }
}
