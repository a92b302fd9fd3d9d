//! Threads of the kernel: preempted when their slice is over, on several CPUs, asleep until a time or until
//! somebody wakes them.
//!
//! A [`Thread`] stays on the CPU that it was given. Each CPU has a [`Queue`] of those that are ready and of
//! those that sleep until a time, behind a lock of its own, which is taken with interrupts off and held
//! across a switch: whoever runs next lets it go. So nobody can choose a thread whose registers are not in
//! memory yet.
//!
//! [`park`] and [`unpark`] are all that blocking needs: an `unpark` that comes first makes the next `park`
//! return at once. Everything else ([`crate::sync`]) is built of these two, with a condition that is looked at
//! again.

mod deadlines;
mod queue;
mod thread;

#[cfg(feature = "bare-metal")]
mod cpu;
#[cfg(feature = "bare-metal")]
mod life;
#[cfg(feature = "bare-metal")]
mod stack;
#[cfg(feature = "bare-metal")]
mod switch;

pub use deadlines::Deadlines;
pub use queue::{Queue, Turn};
pub use thread::{Thread, ThreadNumber, ThreadState};

#[cfg(feature = "bare-metal")]
pub use cpu::{
    current, park, park_until, preempt, start_cpu, this_cpu, timer_has_fired, unpark, yield_now,
};
#[cfg(feature = "bare-metal")]
pub use life::{all, idle, join, sleep_until, spawn, spawn_on, OutOfStacks, Spawned};

/// How long a thread runs while others of its CPU are ready.
pub const SLICE_NS: u64 = 10_000_000;
