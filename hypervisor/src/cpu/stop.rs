//! The end of all other CPUs: a CPU that ends the machine or reports a panic is alone.
//!
//! It interrupts them with NMIs, which nothing holds back for long; a CPU that gets one halts in its
//! handler for ever.

#![forbid(unsafe_code)]

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use x86_64::instructions::{hlt, interrupts};

use super::local_apic::{own_apic_id, Command};
use super::per_cpu;
use super::running::RUNNING;

/// How often the others are looked at before they are given up: one that does not stop in this time,
/// some milliseconds at least, will not.
const MAX_POLLS: u32 = 1 << 20;

/// The CPU that stops the others: the identity of its block, 0 for none.
static STOPPER: AtomicUsize = AtomicUsize::new(0);
/// How many have stopped for it.
static STOPPED: AtomicU32 = AtomicU32::new(0);

/// Stops all other CPUs. A second call of the CPU that did it changes nothing; if another CPU was first,
/// this one is stopped.
pub(super) fn others() {
    let own = per_cpu::identity();
    match STOPPER.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(stopper) if stopper == own => return,
        Err(_) => halt(),
    }
    let Some(apic) = per_cpu::current().apic.get() else {
        return;
    };
    // A CPU that breaks before it is let in is not among them.
    let own_apic_id = own_apic_id();
    let mut expected = 0;
    for apic_id in RUNNING.apic_ids().filter(|it| *it != own_apic_id) {
        apic.send(apic_id, Command::Nmi);
        expected += 1;
    }
    for _ in 0..MAX_POLLS {
        if STOPPED.load(Ordering::Acquire) >= expected {
            return;
        }
        spin_loop();
    }
}

/// Called by the handler of NMIs: does not return if another CPU wants this one to stop.
pub(super) fn if_asked() {
    let stopper = STOPPER.load(Ordering::Acquire);
    if stopper != 0 && stopper != per_cpu::identity() {
        halt();
    }
}

fn halt() -> ! {
    STOPPED.fetch_add(1, Ordering::AcqRel);
    halt_for_ever()
}

/// The end of a CPU for which there is no use.
pub(super) fn halt_for_ever() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}
