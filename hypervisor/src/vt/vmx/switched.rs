//! Registers of a guest that neither the control structure nor the world switch keeps: the
//! hypervisor uses none of them, so they change hands only when another vcpu is loaded.

// UNSAFETY: writes to model-specific registers.
#![allow(unsafe_code)]

use core::cell::Cell;

use x86::msr::{IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GSBASE, IA32_LSTAR, IA32_STAR};

use crate::cpu::msr;

use super::insn;

const MSRS: [u32; 5] = [
    IA32_STAR,
    IA32_LSTAR,
    IA32_CSTAR,
    IA32_FMASK,
    IA32_KERNEL_GSBASE,
];

/// DR6 after a reset.
const START_DR6: u64 = 0xFFFF_0FF0;
const STATUS: u8 = 6;

/// One vcpu's values while another one is loaded.
#[derive(Debug)]
pub struct Switched {
    msrs: [Cell<u64>; MSRS.len()],
    cr2: Cell<u64>,
    dr6: Cell<u64>,
}

impl Switched {
    /// The values after a reset.
    pub fn new() -> Self {
        Switched {
            msrs: Default::default(),
            cr2: Cell::new(0),
            dr6: Cell::new(START_DR6),
        }
    }

    /// Takes the registers out of the CPU.
    pub fn save(&self) {
        for (index, place) in MSRS.into_iter().zip(&self.msrs) {
            // A CPU without one of them refuses it to guests too.
            place.set(msr::read(index).unwrap_or_default());
        }
        self.cr2.set(insn::read_cr2());
        self.dr6.set(insn::read_debug_register(STATUS));
    }

    /// Puts them into the CPU.
    pub fn restore(&self) {
        for (index, place) in MSRS.into_iter().zip(&self.msrs) {
            // SAFETY: the values were the guest's, which the CPU has checked; the hypervisor uses
            // neither SYSCALL nor SWAPGS.
            let _ = unsafe { msr::write(index, place.get()) };
        }
        insn::write_cr2(self.cr2.get());
        insn::write_debug_register(STATUS, self.dr6.get());
    }
}
