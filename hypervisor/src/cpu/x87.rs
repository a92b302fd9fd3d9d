//! x87 state: what XRSTOR does not do with it on some CPUs, and should not do on another.

// UNSAFETY: x87 instructions.
#![allow(unsafe_code)]

use core::arch::asm;

use raw_cpuid::{CpuId, Hypervisor};

/// Words of x87 state at the beginning of an XSAVE area (Intel SDM vol. 1, table 10-2).
pub const WORDS: usize = 20;
/// The control word after a reset.
pub const CONTROL_WORD_RESET: u16 = 0x037F;

/// Behind the control word, FIP and FDP: MXCSR and its mask, which are SSE's.
const MXCSR_WORD: usize = 3;

/// Whether this is QEMU's interpreter with its threads.
///
/// There, loading x87 state on any CPU clears a flag of the first CPU's, IGNNE, without a lock
/// (`cpu_clear_ignne` of QEMU 7.2). The same word says whether interrupts are held back (GIF) and
/// whether addresses are a guest's: what the first CPU changes of it at that moment is lost. Its exit
/// then goes on with the guest's page tables for the host's addresses, and the guest is given the
/// host's registers.
pub fn has_race() -> bool {
    let below = CpuId::new().get_hypervisor_info();
    below.is_some_and(|below| below.identify() == Hypervisor::QEMU)
}

/// Whether saved state is that of a reset, to the last bit.
pub fn is_reset(state: &[u64; WORDS]) -> bool {
    let [first, others @ ..] = state;
    let mut bits = first ^ u64::from(CONTROL_WORD_RESET);
    for (word, value) in (1..).zip(others) {
        if word != MXCSR_WORD {
            bits |= value;
        }
    }
    bits == 0
}

/// Puts the state of a reset into the CPU: registers that are empty and hold zeros, no pointers, no
/// exceptions.
pub fn reset() {
    // SAFETY: the registers hold the last domain's x87 state, which has been saved. FNINIT drops
    // exceptions that are pending, so that nothing can fault. The hypervisor uses no x87 registers.
    unsafe {
        asm!(
            "fninit",
            "fldz",
            "fldz",
            "fldz",
            "fldz",
            "fldz",
            "fldz",
            "fldz",
            "fldz",
            "fninit",
            options(nomem, nostack),
        );
    }
}

/// Puts addresses of the hypervisor, the same for all, where the last domain's x87 instruction and
/// data pointers are. Without an unmasked exception pending, these CPUs neither save nor load them
/// (AMD APM vol. 5, FXRSTOR; CVE-2006-1056).
pub fn clear_pointers() {
    static CONSTANT: u32 = 0;
    // SAFETY: the registers still hold the last domain's x87 state, which has been saved; XRSTOR
    // replaces all of it but the pointers. FNCLEX drops its pending exceptions and FFREE makes room
    // for the number, so that nothing can fault. The hypervisor uses no x87 registers.
    unsafe {
        asm!(
            "fnclex",
            "ffree st(7)",
            "fild dword ptr [{constant}]",
            constant = in(reg) &raw const CONSTANT,
            options(nostack, readonly),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state that FXSAVE finds in this thread's registers.
    fn saved() -> [u64; WORDS] {
        #[repr(align(16))]
        struct Area([u64; 64]);
        let mut area = Area([0; 64]);
        // SAFETY: FXSAVE writes 512 bytes there.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut area.0, options(nostack)) };
        let mut state = [0; WORDS];
        state.copy_from_slice(&area.0[..WORDS]);
        state
    }

    #[test]
    fn after_a_reset_the_state_is_that_of_a_reset() {
        reset();
        assert!(is_reset(&saved()), "{:x?}", saved());
        // SAFETY: a register is filled and emptied again, and keeps its value.
        unsafe { asm!("fldpi", "ffree st(0)", "fincstp", options(nomem, nostack)) };
        assert!(!is_reset(&saved()), "a value in an empty register");
        reset();
        assert!(is_reset(&saved()), "{:x?}", saved());
    }

    #[test]
    fn every_word_but_that_of_mxcsr_counts() {
        let mut state = [0; WORDS];
        state[0] = u64::from(CONTROL_WORD_RESET);
        assert!(is_reset(&state));
        for word in 0..WORDS {
            let mut other = state;
            other[word] ^= 1 << 63;
            assert_eq!(is_reset(&other), word == MXCSR_WORD, "{word}");
        }
    }
}
