//! What happens when a CPU is interrupted.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::instructions::halt_for_ever;
use crate::interface::{Interrupt, Line, Signal};
use crate::system::services;
use crate::task;
use crate::trap::VCPUS;

/// How often each CPU was interrupted for each [`Kind`].
static COUNTS: [[AtomicU64; KINDS]; VCPUS] =
    [const { [const { AtomicU64::new(0) }; KINDS] }; VCPUS];

const KINDS: usize = 5;

/// For what, in lists.
pub const KIND_NAMES: [&str; KINDS] = ["timer", "reschedule", "flush", "halt", "console"];

/// Something has arrived at a vector, with interrupts off. Whoever is to run next runs when this returns, which
/// for the interrupted thread may be later.
pub fn arrive(vector: u8) {
    let cpu = task::this_cpu();
    if let Some(irq_chip) = services().irq_chip.get() {
        irq_chip.take(vector, &mut |interrupt| {
            COUNTS[cpu][kind(interrupt)].fetch_add(1, Relaxed);
            handle(interrupt);
        });
    }
    task::preempt();
}

fn kind(interrupt: Interrupt) -> usize {
    match interrupt {
        Interrupt::Timer => 0,
        Interrupt::Signal(signal) => 1 + usize::from(signal.number()),
        Interrupt::Line(Line::Console) => KINDS - 1,
    }
}

fn handle(interrupt: Interrupt) {
    match interrupt {
        Interrupt::Timer => task::timer_has_fired(),
        Interrupt::Signal(Signal::Halt) => halt_for_ever(),
        // `arrive` looks who is to run.
        Interrupt::Signal(Signal::Reschedule) => {}
        Interrupt::Signal(Signal::Flush) | Interrupt::Line(Line::Console) => {}
    }
}

/// How often a CPU was interrupted, in the order of [`KIND_NAMES`].
pub fn counts(cpu: usize) -> [u64; KINDS] {
    COUNTS.get(cpu).map_or([0; KINDS], |counts| {
        counts.each_ref().map(|count| count.load(Relaxed))
    })
}
