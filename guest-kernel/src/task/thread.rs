//! A thread.
#![forbid(unsafe_code)]

use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering::Relaxed};

use crate::interface::CpuNumber;

/// The number of a thread, counted from 1; never given twice.
pub type ThreadNumber = u64;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ThreadState {
    /// It could run.
    Ready,
    /// It runs.
    Running,
    /// It waits until it is woken.
    Parked,
    /// It has returned.
    Ended,
}

impl ThreadState {
    /// The word in lists of threads.
    pub const fn name(self) -> &'static str {
        match self {
            ThreadState::Ready => "ready",
            ThreadState::Running => "running",
            ThreadState::Parked => "parked",
            ThreadState::Ended => "ended",
        }
    }
}

/// A thread. All but its number, its name and its CPU changes only under the lock of its CPU's queue; the words
/// are atomics so that others may look.
pub struct Thread {
    number: ThreadNumber,
    name: String,
    cpu: CpuNumber,
    state: AtomicU8,
    /// Whether it was woken before it parked.
    permit: AtomicBool,
    /// Until when it sleeps, or 0.
    deadline_ns: AtomicU64,
    /// What is left of its slice.
    slice_left_ns: AtomicU64,
    /// How long it has run.
    run_ns: AtomicU64,
    /// Where its registers are while it does not run.
    stack_pointer: AtomicU64,
}

impl Thread {
    /// A thread that is ready to run on that CPU.
    pub fn new(number: ThreadNumber, name: String, cpu: CpuNumber, stack_pointer: u64) -> Self {
        Thread {
            number,
            name,
            cpu,
            state: AtomicU8::new(ThreadState::Ready as u8),
            permit: AtomicBool::new(false),
            deadline_ns: AtomicU64::new(0),
            slice_left_ns: AtomicU64::new(super::SLICE_NS),
            run_ns: AtomicU64::new(0),
            stack_pointer: AtomicU64::new(stack_pointer),
        }
    }

    /// Its number.
    pub const fn number(&self) -> ThreadNumber {
        self.number
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its CPU.
    pub const fn cpu(&self) -> CpuNumber {
        self.cpu
    }

    /// What it does.
    pub fn state(&self) -> ThreadState {
        match self.state.load(Relaxed) {
            0 => ThreadState::Ready,
            1 => ThreadState::Running,
            2 => ThreadState::Parked,
            _ => ThreadState::Ended,
        }
    }

    /// How long it has run until it was last switched away from, in nanoseconds.
    pub fn run_ns(&self) -> u64 {
        self.run_ns.load(Relaxed)
    }

    /// The place for its stack pointer.
    pub const fn stack_pointer(&self) -> &AtomicU64 {
        &self.stack_pointer
    }

    pub(super) fn set_state(&self, state: ThreadState) {
        self.state.store(state as u8, Relaxed);
    }

    pub(super) fn give_permit(&self) {
        self.permit.store(true, Relaxed);
    }

    pub(super) fn take_permit(&self) -> bool {
        self.permit.swap(false, Relaxed)
    }

    /// Until when it sleeps, if there is a time; that is forgotten.
    pub(super) fn take_deadline(&self) -> Option<u64> {
        let deadline_ns = self.deadline_ns.swap(0, Relaxed);
        (deadline_ns != 0).then_some(deadline_ns)
    }

    pub(super) fn set_deadline(&self, deadline_ns: u64) {
        self.deadline_ns.store(deadline_ns, Relaxed);
    }

    /// Counts time that it has run.
    pub(super) fn charge(&self, run_ns: u64) {
        self.run_ns
            .store(self.run_ns().wrapping_add(run_ns), Relaxed);
        let left_ns = self.slice_left_ns.load(Relaxed).saturating_sub(run_ns);
        self.slice_left_ns.store(left_ns, Relaxed);
    }

    /// Whether its slice is over; then it gets another one.
    pub(super) fn take_used_up(&self) -> bool {
        let is_used_up = self.slice_left_ns() == 0;
        if is_used_up {
            self.refill_slice();
        }
        is_used_up
    }

    /// It has a whole slice again.
    pub(super) fn refill_slice(&self) {
        self.slice_left_ns.store(super::SLICE_NS, Relaxed);
    }

    pub(super) fn slice_left_ns(&self) -> u64 {
        self.slice_left_ns.load(Relaxed)
    }
}
