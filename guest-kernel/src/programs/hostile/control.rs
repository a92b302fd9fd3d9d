//! `program=bad-cr`: reserved bits of CR0, CR4 and EFER. `program=msr-storm`: thousands of MSRs.
//!
//! `bad-cr` prints for each write whether it was #GP; the hypervisor may also end the domain. The
//! exit code is the number of writes that were taken. `msr-storm` counts #GPs and returns 0.
// UNSAFETY: writes to control registers and MSRs.
#![allow(unsafe_code)]

use crate::attempt;
use crate::instructions::{control_registers, MSR_EFER};
use crate::machine::Native;
use crate::println;
use crate::programs::{Context, ExitCode};
use crate::trap::attempt::{Fault, GENERAL_PROTECTION};

/// Runs `bad-cr`.
pub(super) fn bad_cr(_: &mut Context<'_, Native>) -> ExitCode {
    let [cr0, cr3, cr4] = control_registers();
    let (efer, _) = read(MSR_EFER);
    let mut taken = 0;
    let mut tell = |name: &str, fault: Option<Fault>| {
        let is_refused = fault.is_some_and(|fault| fault.vector == GENERAL_PROTECTION);
        let text = if is_refused {
            "refused"
        } else {
            "FAILED, taken"
        };
        println!("{name}: {text}");
        taken += u64::from(!is_refused);
    };
    tell("efer reserved bit 9", write(MSR_EFER, efer | 1 << 9));
    tell("efer reserved bit 63", write(MSR_EFER, efer | 1 << 63));
    tell("efer svme", write(MSR_EFER, efer | 1 << 12));
    tell("efer without lme", write(MSR_EFER, efer & !(1 << 8)));
    // SAFETY: each of these values is refused by every CPU; if one is taken after all, the domain
    // harms itself and nobody else. The old value is written back.
    unsafe {
        tell(
            "cr0 bit 32",
            attempt!("mov cr0, rax"; in("rax") cr0 | 1 << 32),
        );
        tell(
            "cr0 paging off",
            attempt!("mov cr0, rax"; in("rax") cr0 & !(1 << 31)),
        );
        tell(
            "cr0 nw without cd",
            attempt!("mov cr0, rax"; in("rax") cr0 | 1 << 29),
        );
        tell(
            "cr4 bit 63",
            attempt!("mov cr4, rax"; in("rax") cr4 | 1 << 63),
        );
        tell(
            "cr4 bit 31",
            attempt!("mov cr4, rax"; in("rax") cr4 | 1 << 31),
        );
        tell(
            "cr4 without pae",
            attempt!("mov cr4, rax"; in("rax") cr4 & !(1 << 5)),
        );
        tell(
            "cr3 bit 62",
            attempt!("mov cr3, rax"; in("rax") cr3 | 1 << 62),
        );
        let _ = attempt!("mov cr4, rax"; in("rax") cr4);
    }
    taken
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
