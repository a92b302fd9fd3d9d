//! Instructions that Rust has no words for, a few lines each.
//!
//! Manuals: Intel SDM 2 and AMD APM 3, by the name of the instruction.
// UNSAFETY: each function is one privileged or otherwise special instruction.
#![allow(unsafe_code)]

use core::arch::asm;

/// The time-stamp counter. The fence keeps earlier loads (of the time page) before it.
#[inline]
pub fn time_stamp_counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Lets interrupts in.
#[inline]
pub fn enable_interrupts() {
    // SAFETY: the interrupt descriptor table is loaded before any program runs.
    unsafe { asm!("sti", options(nostack)) }
}

/// Keeps interrupts out.
#[inline]
pub fn disable_interrupts() {
    // SAFETY: clears a flag.
    unsafe { asm!("cli", options(nostack)) }
}

/// Halts until an interrupt, if any is let in.
#[inline]
pub fn halt() {
    // SAFETY: the CPU goes on at the next instruction.
    unsafe { asm!("hlt", options(nostack)) }
}

/// CR2: the address of the last page fault.
pub fn page_fault_address() -> u64 {
    let address;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) }
    address
}

/// Asks the CPU for a leaf of CPUID: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Halts for ever, for when the domain cannot even be stopped.
pub fn halt_for_ever() -> ! {
    loop {
        disable_interrupts();
        halt();
    }
}

/// EFER.
pub const MSR_EFER: u32 = 0xC000_0080;

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and the value does not take away what Rust code relies on.
pub unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: as promised by the caller.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack));
    }
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists.
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as promised by the caller.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// CR0, CR3, CR4.
pub fn control_registers() -> [u64; 3] {
    let (cr0, cr3, cr4);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4,
            options(nomem, nostack));
    }
    [cr0, cr3, cr4]
}

/// Lets interrupts in and halts; none can come between the two (STI holds them off for one
/// instruction).
pub fn enable_interrupts_and_halt() {
    // SAFETY: as for the two functions above.
    unsafe { asm!("sti", "hlt", options(nostack)) }
}

/// Writes a byte to an I/O port.
///
/// # Safety
/// What the device does with it takes nothing away that Rust code relies on.
pub unsafe fn write_port(port: u16, byte: u8) {
    // SAFETY: as promised by the caller.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") byte, options(nostack, preserves_flags));
    }
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// What the device does at that takes nothing away that Rust code relies on.
pub unsafe fn read_port(port: u16) -> u8 {
    let byte;
    // SAFETY: as promised by the caller.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") byte, options(nostack, preserves_flags));
    }
    byte
}

/// Whether interrupts are let in.
#[inline]
pub fn interrupts_are_enabled() -> bool {
    let flags: u64;
    // SAFETY: reads the flags, by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) }
    flags & 1 << 9 != 0
}
