//! Waits for an interrupt, and loses none.
// UNSAFETY: instructions at addresses that the interrupt handler knows.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

// STI holds interrupts back for one instruction, so that none comes between it and HLT. Where that is not
// so (QEMU's interpreter loses it when it leaves a guest), one that does come finds RIP at the HLT, and
// goes on behind it: see `step_over`.
global_asm!(
    ".pushsection .text.idle, \"ax\", @progbits",
    "idle_instructions:",
    "sti",
    "idle_halt:",
    "hlt",
    "idle_end:",
    "cli",
    "ret",
    ".popsection",
);

extern "C" {
    static idle_halt: u8;
    static idle_end: u8;
}

/// Waits for an interrupt, with interrupts off before and after.
pub fn idle() {
    // SAFETY: the code above, which lets interrupts in and keeps them out again; handlers save all registers.
    unsafe { asm!("call idle_instructions") }
}

/// Where an interrupt goes back to that came at this address: not to a HLT that waits for what has come.
pub fn step_over(rip: u64) -> u64 {
    let halt = (&raw const idle_halt).addr() as u64;
    if rip == halt {
        (&raw const idle_end).addr() as u64
    } else {
        rip
    }
}
