//! How threads begin and end.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::stack::ThreadStack;
use super::switch::prepare;
use super::{cpu, Thread, ThreadNumber};
use crate::instructions::{disable_interrupts, enable_interrupts};
use crate::interface::CpuNumber;
use crate::ops;
use crate::sync::IrqLock;
use crate::system;
use crate::trap::VCPUS;

type Main = Box<dyn FnOnce() + Send>;

/// What is kept of a thread until it has ended.
struct Life {
    thread: Arc<Thread>,
    /// Dropped only when it does not run on it any more.
    _stack: ThreadStack,
    main: Option<Main>,
    is_over: bool,
    joining: Vec<Arc<Thread>>,
}

static LIVES: IrqLock<BTreeMap<ThreadNumber, Life>> = IrqLock::new(BTreeMap::new());
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);
static NEXT_CPU: AtomicUsize = AtomicUsize::new(0);
/// The thread that has just ended on each CPU, and still has its stack; 0 for none.
static ENDED: [AtomicU64; VCPUS] = [const { AtomicU64::new(0) }; VCPUS];

/// There is no memory for another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfStacks;

/// A thread that was made.
pub type Spawned = Result<Arc<Thread>, OutOfStacks>;

/// Makes a thread on the CPU whose turn it is.
///
/// # Errors
/// If there is no memory for its stack.
pub fn spawn(name: &str, main: impl FnOnce() + Send + 'static) -> Spawned {
    let online = system::online_cpus();
    spawn_on(NEXT_CPU.fetch_add(1, Relaxed) % online, name, main)
}

/// Makes a thread on a CPU that runs.
///
/// # Errors
/// If there is no memory for its stack.
pub fn spawn_on(cpu: CpuNumber, name: &str, main: impl FnOnce() + Send + 'static) -> Spawned {
    let stack = ThreadStack::take().ok_or(OutOfStacks)?;
    let number = NEXT_NUMBER.fetch_add(1, Relaxed);
    let stack_pointer = prepare(&stack, begin);
    let thread = Arc::new(Thread::new(number, String::from(name), cpu, stack_pointer));
    let life = Life {
        thread: thread.clone(),
        _stack: stack,
        main: Some(Box::new(main)),
        is_over: false,
        joining: Vec::new(),
    };
    LIVES.lock().insert(number, life);
    cpu::add(thread.clone());
    Ok(thread)
}

/// Where a new thread begins.
extern "C" fn begin() -> ! {
    cpu::arrived();
    let number = cpu::current().map_or(0, |thread| thread.number());
    let main = LIVES
        .lock()
        .get_mut(&number)
        .and_then(|life| life.main.take());
    enable_interrupts();
    if let Some(main) = main {
        main();
    }
    disable_interrupts();
    let joining = LIVES.lock().get_mut(&number).map(|life| {
        life.is_over = true;
        core::mem::take(&mut life.joining)
    });
    for thread in joining.into_iter().flatten() {
        cpu::unpark(&thread);
    }
    ENDED[cpu::this_cpu()].store(number, Relaxed);
    cpu::end();
    unreachable!("a thread that has ended runs");
}

/// Whoever has the CPU now frees the stack of the one that has just ended on it.
pub(super) fn bury() {
    let number = ENDED[cpu::this_cpu()].swap(0, Relaxed);
    if number != 0 {
        let life = LIVES.lock().remove(&number);
        drop(life);
    }
}

/// Sleeps until that thread has ended.
pub fn join(thread: &Arc<Thread>) {
    let Some(me) = cpu::current() else {
        return;
    };
    loop {
        {
            let mut lives = LIVES.lock();
            let life = lives.get_mut(&thread.number());
            let Some(life) = life.filter(|life| !life.is_over) else {
                return;
            };
            let is_waiting = life
                .joining
                .iter()
                .any(|other| other.number() == me.number());
            if !is_waiting {
                life.joining.push(me.clone());
            }
        }
        cpu::park();
    }
}

/// Sleeps until the clock says so.
pub fn sleep_until(deadline_ns: u64) {
    while system::now_ns() < deadline_ns {
        cpu::park_until(deadline_ns);
    }
}

/// All threads that have not ended, but for those that idle.
pub fn all() -> Vec<Arc<Thread>> {
    let lives = LIVES.lock();
    lives.values().map(|life| life.thread.clone()).collect()
}

/// What a CPU does that has nothing to do: what runs becomes its idle thread.
pub fn idle() -> ! {
    disable_interrupts();
    loop {
        cpu::preempt();
        ops::idle();
    }
}
