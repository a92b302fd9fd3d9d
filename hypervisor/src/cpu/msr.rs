//! Model-specific registers, probed without fear: one that does not exist is `None`, no panic.

// UNSAFETY: RDMSR and WRMSR.
#![allow(unsafe_code)]

use core::arch::asm;

/// The content of an MSR; `None` if the CPU has no such MSR (it raised #GP).
pub fn read(index: u32) -> Option<u64> {
    let low: u32;
    let high: u32;
    let failed: u32;
    // SAFETY: RDMSR writes EDX:EAX and nothing else; a fault continues after it with `failed`
    // still 1 (fixup.rs).
    unsafe {
        asm!(
            "mov {failed:e}, 1",
            "2: rdmsr",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .fault_fixups, \"a\"",
            ".balign 4",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            failed = out(reg) failed,
            in("ecx") index,
            inout("eax") 0 => low,
            inout("edx") 0 => high,
            options(nomem, nostack),
        );
    }
    (failed == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes an MSR; `None` if the CPU refused (it raised #GP).
///
/// # Safety
///
/// The value must not change how the hypervisor's own code and memory work.
pub unsafe fn write(index: u32, value: u64) -> Option<()> {
    let failed: u32;
    // SAFETY: what the write does is the caller's promise; a fault continues after it with
    // `failed` still 1 (fixup.rs). The compiler must assume that memory changes: no `nomem`.
    unsafe {
        asm!(
            "mov {failed:e}, 1",
            "2: wrmsr",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .fault_fixups, \"a\"",
            ".balign 4",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            failed = out(reg) failed,
            in("ecx") index,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack),
        );
    }
    (failed == 0).then_some(())
}
