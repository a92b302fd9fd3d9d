//! `program=bad-cr`: reserved bits of CR0, CR4 and EFER. `program=msr-storm`: thousands of MSRs.
//!
//! `bad-cr` prints for each write whether it was #GP; the hypervisor may also end the domain. The
//! exit code is the number of writes that were taken. `case=paging-off` tries that alone. `msr-storm` counts #GPs and returns 0.
// UNSAFETY: writes to control registers and MSRs.
#![allow(unsafe_code)]

use crate::attempt;
use crate::instructions::{control_registers, MSR_EFER};
use crate::machine::Native;
use crate::println;
use crate::programs::{Context, ExitCode};
use crate::trap::attempt::{Fault, GENERAL_PROTECTION};

/// Runs `bad-cr`.
pub(super) fn bad_cr(context: &mut Context<'_, Native>) -> ExitCode {
    if context.words.value("case") == Some("paging-off") {
        return tell("cr0 paging off", turn_paging_off());
    }
    bad_efer() + bad_control_registers()
}

fn bad_efer() -> u64 {
    let (efer, _) = read(MSR_EFER);
    let mut taken = 0;
    for (name, value) in [
        ("efer reserved bit 9", efer | 1 << 9),
        ("efer reserved bit 63", efer | 1 << 63),
        ("efer svme", efer | 1 << 12),
        ("efer without lme", efer & !(1 << 8)),
    ] {
        taken += tell(name, write(MSR_EFER, value));
        write(MSR_EFER, efer);
    }
    taken
}

fn bad_control_registers() -> u64 {
    let [cr0, cr3, cr4] = control_registers();
    // SAFETY: each of these values is refused by every CPU; if one is taken after all, the domain
    // harms itself and nobody else.
    unsafe {
        tell(
            "cr0 bit 32",
            attempt!("mov cr0, rax"; in("rax") cr0 | 1 << 32),
        ) + tell(
            "cr0 nw without cd",
            attempt!("mov cr0, rax"; in("rax") cr0 | 1 << 29),
        ) + tell(
            "cr4 bit 63",
            attempt!("mov cr4, rax"; in("rax") cr4 | 1 << 63),
        ) + tell(
            "cr4 bit 31",
            attempt!("mov cr4, rax"; in("rax") cr4 | 1 << 31),
        ) + tell(
            "cr4 without pae",
            attempt!("mov cr4, rax"; in("rax") cr4 & !(1 << 5)),
        ) + tell(
            "cr3 bit 62",
            attempt!("mov cr3, rax"; in("rax") cr3 | 1 << 62),
        )
    }
}

/// Paging cannot be turned off in 64-bit mode; an emulator that allows it runs into the weeds.
fn turn_paging_off() -> Option<Fault> {
    let [cr0, ..] = control_registers();
    // SAFETY: as above.
    unsafe { attempt!("mov cr0, rax"; in("rax") cr0 & !(1 << 31)) }
}

/// Says what became of a write; 1 if it was not refused.
fn tell(name: &str, fault: Option<Fault>) -> u64 {
    match fault.map(|fault| fault.vector) {
        Some(GENERAL_PROTECTION) => {
            println!("{name}: refused");
            0
        }
        Some(vector) => {
            println!("{name}: FAILED, vector {vector}");
            1
        }
        None => {
            println!("{name}: FAILED, taken");
            1
        }
    }
}

/// First MSR and number of them: the architectural ones, a range that hypervisors use, those of
/// 64-bit mode, those of AMD.
const RANGES: [(u32, u32); 5] = [
    (0x0, 0x1000),
    (0x4B56_4D00, 0x10),
    (0x4000_0000, 0x200),
    (0xC000_0000, 0x400),
    (0xC001_0000, 0x400),
];

/// Runs `msr-storm`.
pub(super) fn msr_storm(_: &mut Context<'_, Native>) -> ExitCode {
    let (mut reads, mut reads_refused, mut writes_refused) = (0u32, 0u32, 0u32);
    for (first, count) in RANGES {
        for register in first..first + count {
            let (value, fault) = read(register);
            reads += 1;
            reads_refused += u32::from(fault.is_some());
            // What can be read is written back, so that the kernel survives its own storm.
            let value = if fault.is_some() { u64::MAX } else { value };
            writes_refused += u32::from(write(register, value).is_some());
        }
    }
    println!("{reads} msrs: {reads_refused} reads refused, {writes_refused} writes refused");
    0
}

fn read(register: u32) -> (u64, Option<Fault>) {
    let (mut low, mut high) = (0u32, 0u32);
    // SAFETY: reading an MSR changes nothing; the fault is taken.
    let fault =
        unsafe { attempt!("rdmsr"; in("ecx") register, inout("eax") low, inout("edx") high) };
    (u64::from(high) << 32 | u64::from(low), fault)
}

fn write(register: u32, value: u64) -> Option<Fault> {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: values that have been read, or that are expected to be refused.
    unsafe { attempt!("wrmsr"; in("ecx") register, in("eax") low, in("edx") high) }
}
