//! The threads of each CPU, and the switch between them.
// UNSAFETY: a lock is handed from one stack to another.
#![allow(unsafe_code)]

use alloc::string::String;
use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::Mutex;

use super::life;
use super::switch::switch;
use super::{Queue, Thread, Turn};
use crate::interface::{CpuNumber, Signal};
use crate::ops::InterruptsOff;
use crate::system::{now_ns, services};
use crate::trap::{current_vcpu, VCPUS};

/// What one CPU has. Its lock is taken with interrupts off, and never two at a time.
struct Cpu {
    queue: Mutex<Queue>,
    /// For when its timer is set; `NOT_SET` if it is not. Only the CPU itself uses it.
    timer_ns: AtomicU64,
}

const NOT_SET: u64 = u64::MAX;

static CPUS: [Cpu; VCPUS] = [const {
    Cpu {
        queue: Mutex::new(Queue::new()),
        timer_ns: AtomicU64::new(NOT_SET),
    }
}; VCPUS];

/// The CPU that asks. A thread stays on its CPU, so the answer stays right.
pub fn this_cpu() -> CpuNumber {
    current_vcpu()
}

/// What runs on this CPU from now on is its idle thread.
pub fn start_cpu() {
    let cpu = this_cpu();
    let idle = Arc::new(Thread::new(0, String::from("idle"), cpu, 0));
    with_queue(cpu, |queue| queue.start(idle, now_ns()));
}

/// The thread that asks; `None` before the CPU has threads.
pub fn current() -> Option<Arc<Thread>> {
    with_queue(this_cpu(), |queue| queue.current().cloned())
}

/// A new thread can run on its CPU.
pub(super) fn add(thread: Arc<Thread>) {
    let cpu = thread.cpu();
    with_queue(cpu, |queue| queue.add(thread));
    tell(cpu);
}

/// Wakes a thread: it goes on if it is parked, or its next park returns at once.
pub fn unpark(thread: &Arc<Thread>) {
    let cpu = thread.cpu();
    if with_queue(cpu, |queue| queue.unpark(thread)) {
        tell(cpu);
    }
}

/// Does something with the queue of a CPU. The lock is let go before interrupts are let in again: a handler on
/// this CPU would wait for it for ever.
fn with_queue<R>(cpu: CpuNumber, work: impl FnOnce(&mut Queue) -> R) -> R {
    let off = InterruptsOff::new();
    let result = work(&mut CPUS[cpu].queue.lock());
    drop(off);
    result
}

/// Somebody of that CPU has become ready.
fn tell(cpu: CpuNumber) {
    // Also to this CPU: it looks as soon as interrupts are let in.
    if let Some(smp) = services().smp.get() {
        smp.signal(cpu, Signal::Reschedule);
    } else {
        // This one is the only one. It looks when the timer says so: at once.
        let off = InterruptsOff::new();
        set_timer(Some(0));
        drop(off);
    }
}

/// Has the timer of this CPU interrupt it then.
fn set_timer(deadline_ns: Option<u64>) {
    let place = &CPUS[this_cpu()].timer_ns;
    let timer_ns = deadline_ns.unwrap_or(NOT_SET);
    if place.swap(timer_ns, Relaxed) == timer_ns {
        return;
    }
    if let Some(clock_event) = services().clock_event.get() {
        clock_event.set(deadline_ns);
    }
}

/// The timer of this CPU has interrupted it, and is not set any more.
pub fn timer_has_fired() {
    CPUS[this_cpu()].timer_ns.store(NOT_SET, Relaxed);
}

/// Sleeps until somebody wakes the thread.
pub fn park() {
    take_turn(|queue, now_ns| queue.park(None, now_ns));
}

/// Sleeps until somebody wakes the thread, or the time has come.
pub fn park_until(deadline_ns: u64) {
    take_turn(|queue, now_ns| queue.park(Some(deadline_ns), now_ns));
}

/// Lets others run that are ready.
pub fn yield_now() {
    take_turn(Queue::yield_now);
}

/// The thread has returned.
pub(super) fn end() {
    take_turn(Queue::end);
}

/// Looks who is to run, at the end of an interrupt: with interrupts off.
pub fn preempt() {
    take_turn(Queue::preempt);
}

fn take_turn(choose: impl FnOnce(&mut Queue, u64) -> Option<Turn>) {
    let _off = InterruptsOff::new();
    let mut queue = CPUS[this_cpu()].queue.lock();
    let turn = choose(&mut queue, now_ns());
    set_timer(queue.next_event_ns());
    let Some(Turn { from, to }) = turn else {
        return;
    };
    // Whoever goes on lets the lock go: only then are the registers of this one in memory.
    mem::forget(queue);
    let (from_place, to_place) = (Arc::as_ptr(&from), Arc::as_ptr(&to));
    // Both live on: whoever has ended is forgotten only by the one that has the CPU after it.
    drop((from, to));
    // SAFETY: interrupts are off. `to` has switched away on this CPU, or is new, and this CPU's queue has
    // given it to us. Both threads live, as said above.
    unsafe { switch((*from_place).stack_pointer(), (*to_place).stack_pointer()) };
    arrived();
}

/// A thread has got the CPU.
pub(super) fn arrived() {
    // SAFETY: whoever switched to us on this CPU has forgotten its guard.
    unsafe { CPUS[this_cpu()].queue.force_unlock() };
    life::bury();
}
