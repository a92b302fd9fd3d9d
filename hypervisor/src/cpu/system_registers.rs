//! Registers of a guest that the hypervisor itself never uses and that VT-x does not switch: those
//! of SYSCALL and SWAPGS, CR2 and DR6. They change hands when another vcpu is loaded. (VMLOAD and
//! VMSAVE of SVM keep all but one of them, and VMRUN the rest.)

// UNSAFETY: writes to model-specific, control and debug registers.
#![allow(unsafe_code)]

use alloc::sync::Arc;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use x86::msr::{IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GSBASE, IA32_LSTAR, IA32_STAR};

use super::msr;

const MSRS: [u32; 5] = [
    IA32_STAR,
    IA32_LSTAR,
    IA32_CSTAR,
    IA32_FMASK,
    IA32_KERNEL_GSBASE,
];

/// DR6 after a reset.
const DR6_RESET: u64 = 0xFFFF_0FF0;

/// The number of DR6.
pub const DEBUG_STATUS: u8 = 6;

/// One of the registers that a vcpu's guest can be seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SwitchedRegister {
    Star,
    Lstar,
    Cstar,
    Fmask,
    KernelGsBase,
    Cr2,
}

impl SwitchedRegister {
    /// The model-specific register that it is; `None` for CR2.
    const fn held_in(self) -> Option<u32> {
        match self {
            SwitchedRegister::Star => Some(IA32_STAR),
            SwitchedRegister::Lstar => Some(IA32_LSTAR),
            SwitchedRegister::Cstar => Some(IA32_CSTAR),
            SwitchedRegister::Fmask => Some(IA32_FMASK),
            SwitchedRegister::KernelGsBase => Some(IA32_KERNEL_GSBASE),
            SwitchedRegister::Cr2 => None,
        }
    }
}

/// One vcpu's registers while they are not in the CPU. Atomic, so that they can go with it to another CPU;
/// only the one whose it is uses them.
#[derive(Debug)]
pub struct SystemRegisters {
    msrs: [AtomicU64; MSRS.len()],
    cr2: AtomicU64,
    dr6: AtomicU64,
}

impl Default for SystemRegisters {
    /// The values after a reset.
    fn default() -> Self {
        SystemRegisters {
            msrs: Default::default(),
            cr2: AtomicU64::new(0),
            dr6: AtomicU64::new(DR6_RESET),
        }
    }
}

impl SystemRegisters {
    /// Takes the registers out of the CPU.
    fn save(&self) {
        for (index, place) in MSRS.into_iter().zip(&self.msrs) {
            // A CPU without one of them refuses it to guests too.
            place.store(msr::read(index).unwrap_or_default(), Relaxed);
        }
        self.cr2.store(read_cr2(), Relaxed);
        self.dr6.store(read_debug_register(DEBUG_STATUS), Relaxed);
    }

    /// Puts them into the CPU.
    fn restore(&self) {
        for (index, place) in MSRS.into_iter().zip(&self.msrs) {
            write_msr(index, place.load(Relaxed));
        }
        write_cr2(self.cr2.load(Relaxed));
        write_debug_register(DEBUG_STATUS, self.dr6.load(Relaxed));
    }

    fn place(&self, register: SwitchedRegister) -> &AtomicU64 {
        let [star, lstar, cstar, fmask, kernel_gs_base] = &self.msrs;
        match register {
            SwitchedRegister::Star => star,
            SwitchedRegister::Lstar => lstar,
            SwitchedRegister::Cstar => cstar,
            SwitchedRegister::Fmask => fmask,
            SwitchedRegister::KernelGsBase => kernel_gs_base,
            SwitchedRegister::Cr2 => &self.cr2,
        }
    }

    /// A register of the vcpu whose registers the CPU holds: those that were loaded last.
    pub fn get(&self, register: SwitchedRegister) -> u64 {
        match register.held_in() {
            // A CPU without one of them refuses it to guests too.
            _ if cfg!(test) => self.place(register).load(Relaxed),
            Some(msr) => msr::read(msr).unwrap_or_default(),
            None => read_cr2(),
        }
    }

    /// Sets a register of the vcpu whose registers the CPU holds. A value that the CPU refuses leaves it
    /// as it was.
    pub fn set(&self, register: SwitchedRegister, value: u64) {
        match register.held_in() {
            // In host tests there is no such CPU.
            _ if cfg!(test) => self.place(register).store(value, Relaxed),
            Some(msr) => write_msr(msr, value),
            None => write_cr2(value),
        }
    }
}

/// Writes one of [`MSRS`], unless the CPU refuses the value.
fn write_msr(index: u32, value: u64) {
    // SAFETY: a value that the CPU refuses is fixed up; the hypervisor uses neither SYSCALL nor SWAPGS.
    let _ = unsafe { msr::write(index, value) };
}

fn read_cr2() -> u64 {
    let value;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack)) };
    value
}

fn write_cr2(value: u64) {
    // SAFETY: nothing but the handler of a page fault, which is fatal, looks at it.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack)) };
}

/// Whose registers the CPU holds.
#[derive(Debug, Default)]
pub struct LoadedRegisters(Option<Arc<SystemRegisters>>);

impl LoadedRegisters {
    /// Takes them out of the CPU, if it holds any.
    pub fn unload(&mut self) {
        if let Some(loaded) = self.0.take() {
            loaded.save();
        }
    }

    /// Takes these out of the CPU, if it holds them.
    pub fn release(&mut self, registers: &Arc<SystemRegisters>) {
        if self.holds(registers) {
            self.unload();
        }
    }

    /// Puts others into the CPU in their place. Returns false if they are there already.
    pub fn load(&mut self, registers: &Arc<SystemRegisters>) -> bool {
        let is_new = !self.holds(registers);
        if is_new {
            self.unload();
            registers.restore();
            self.0 = Some(registers.clone());
        }
        is_new
    }

    #[inline]
    fn holds(&self, registers: &Arc<SystemRegisters>) -> bool {
        let is_same = |loaded: &Arc<SystemRegisters>| Arc::ptr_eq(loaded, registers);
        self.0.as_ref().is_some_and(is_same)
    }
}

/// Sets bits in DR6, as a debug exception does.
pub fn add_debug_status(bits: u64) {
    write_debug_register(DEBUG_STATUS, read_debug_register(DEBUG_STATUS) | bits);
}

/// One of DR0 to DR3 or DR6, which hold the guest's values while its exits are handled.
pub fn read_debug_register(number: u8) -> u64 {
    let value: u64;
    // SAFETY: reading one changes nothing; DR7.GD is clear after an exit.
    unsafe {
        match number {
            0 => asm!("mov {}, dr0", out(reg) value, options(nomem, nostack)),
            1 => asm!("mov {}, dr1", out(reg) value, options(nomem, nostack)),
            2 => asm!("mov {}, dr2", out(reg) value, options(nomem, nostack)),
            3 => asm!("mov {}, dr3", out(reg) value, options(nomem, nostack)),
            _ => asm!("mov {}, dr6", out(reg) value, options(nomem, nostack)),
        }
    }
    value
}

/// Sets one of DR0 to DR3 or DR6; DR6 takes 32 bits.
pub fn write_debug_register(number: u8, value: u64) {
    // SAFETY: addresses break nothing while DR7 arms none, and an exit clears DR7.
    unsafe {
        match number {
            0 => asm!("mov dr0, {}", in(reg) value, options(nomem, nostack)),
            1 => asm!("mov dr1, {}", in(reg) value, options(nomem, nostack)),
            2 => asm!("mov dr2, {}", in(reg) value, options(nomem, nostack)),
            3 => asm!("mov dr3, {}", in(reg) value, options(nomem, nostack)),
            _ => asm!("mov dr6, {}", in(reg) value & 0xFFFF_FFFF, options(nomem, nostack)),
        }
    }
}
