//! The clock entry of the text page: code that runs in guests and reads the time page.
//!
//! It is copied into the text page, so it may name no address but its own labels. It needs nothing
//! that depends on the vendor, and no stack but the return address.

// UNSAFETY: machine code whose bytes are looked at.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::slice;

use nuncio_abi::TimeWord;

// RDI: the time page. RAX: nanoseconds. Changes RCX, RDX, RSI, R8 to R10 and flags, all of which a
// function of the System V ABI may change.
global_asm!(
    ".pushsection .text.nuncio_clock_entry, \"ax\", @progbits",
    ".balign 16",
    "nuncio_clock_entry:",
    "2:  mov   r8, [rdi + {sequence}]",
    "    test  r8b, 1",
    "    jnz   6f",
    "    mov   r9, [rdi + {base_ticks}]",
    "    mov   rsi, [rdi + {base_ns}]",
    "    mov   r10, [rdi + {multiplier}]",
    "    mov   rcx, [rdi + {shift}]",
    // RDTSC waits for nothing by itself (Intel SDM vol. 2, RDTSC): the first LFENCE keeps it behind
    // the loads before it, the second keeps the load of the sequence behind it.
    "    lfence",
    "    rdtsc",
    "    lfence",
    "    cmp   r8, [rdi + {sequence}]",
    "    jne   6f",
    "    shl   rdx, 32",
    "    or    rax, rdx",
    "    sub   rax, r9",
    "    jae   3f",
    "    xor   eax, eax",
    "3:  mul   r10",
    // SHRD and SHR look at bits 0 to 5 of the count; bit 6 moves the upper half down.
    "    test  cl, 64",
    "    jz    4f",
    "    mov   rax, rdx",
    "    xor   edx, edx",
    "4:  shrd  rax, rdx, cl",
    "    shr   rdx, cl",
    // A shift by 0 leaves the flags as they were.
    "    test  rdx, rdx",
    "    jnz   5f",
    "    add   rax, rsi",
    "    jc    5f",
    "    ret",
    "5:  mov   rax, -1",
    "    ret",
    "6:  pause",
    "    jmp   2b",
    "nuncio_clock_entry_end:",
    ".popsection",
    sequence = const TimeWord::Sequence as usize * 8,
    base_ticks = const TimeWord::BaseTicks as usize * 8,
    base_ns = const TimeWord::BaseNs as usize * 8,
    multiplier = const TimeWord::Multiplier as usize * 8,
    shift = const TimeWord::Shift as usize * 8,
);

extern "C" {
    static nuncio_clock_entry: u8;
    static nuncio_clock_entry_end: u8;
}

/// The bytes of the function.
pub fn clock_entry() -> &'static [u8] {
    let (first, end) = (
        &raw const nuncio_clock_entry,
        &raw const nuncio_clock_entry_end,
    );
    // SAFETY: both labels stand in the assembly above, with nothing but its code between them, in
    // a section that is mapped readable and never written.
    unsafe { slice::from_raw_parts(first, end.addr() - first.addr()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use nuncio_abi::{ClockScale, TimePage};
    use proptest::prelude::*;
    use std::boxed::Box;

    type Words = [AtomicU64; 512];

    fn words() -> Box<Words> {
        Box::new(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Runs the very bytes that guests run.
    fn read_clock(words: &Words) -> u64 {
        // SAFETY: the code is a function of the System V ABI that reads one page.
        unsafe {
            let entry = core::mem::transmute::<*const u8, extern "C" fn(*const Words) -> u64>(
                clock_entry().as_ptr(),
            );
            entry(words)
        }
    }

    fn page(base_ticks: u64, base_ns: u64, multiplier: u64, shift: u32) -> TimePage {
        TimePage {
            base_ticks,
            base_ns,
            scale: ClockScale { multiplier, shift },
            disruption: 0,
            frequency_hz: 0,
        }
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(1),
            Just(u64::MAX),
            any::<u64>(),
            (0..64u32).prop_map(|bit| 1 << bit)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Both read the counter of this machine; the clock grows with it, so the code's answer
        /// lies between those of a reading before and one after it.
        #[test]
        fn the_code_agrees_with_the_arithmetic(
            back in number(), is_ahead: bool, base_ns in number(), multiplier in number(), shift in 0u32..128,
        ) {
            let before = crate::cpu::ticks();
            let base_ticks = if is_ahead { before.saturating_add(back) } else { before.saturating_sub(back) };
            let page = page(base_ticks, base_ns, multiplier, shift);
            let words = words();
            page.publish(&words);
            let now_ns = read_clock(&words);
            let after = crate::cpu::ticks();
            let range = page.ns_at(before)..=page.ns_at(after);
            prop_assert!(range.contains(&now_ns), "{now_ns} is not in {range:?} of {page:?}");
        }
    }

    #[test]
    fn edges_are_exact() {
        for (page, expected) in [
            (page(0, 7, 0, 0), 7),
            (page(u64::MAX, 500, u64::MAX, 0), 500),
            (page(0, 0, u64::MAX, 0), u64::MAX),
            (page(0, u64::MAX, 1 << 63, 63), u64::MAX),
            (page(0, 9, u64::MAX, 127), 9),
        ] {
            let words = words();
            page.publish(&words);
            assert_eq!(read_clock(&words), expected, "{page:?}");
        }
    }

    /// Half of the one page and half of the other would read as 0.
    #[test]
    fn a_page_that_changes_is_read_whole() {
        let pages = [page(0, 1 << 62, 0, 0), page(0, 0, u64::MAX, 0)];
        let words = words();
        pages[0].publish(&words);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for page in pages.iter().cycle() {
                    page.publish(&words);
                    if is_over.load(Relaxed) {
                        break;
                    }
                }
            });
            let mut seen = [0, 0];
            let mut torn = None;
            while torn.is_none() && seen.iter().any(|count| *count < 10_000) {
                match read_clock(&words) {
                    0x4000_0000_0000_0000 => seen[0] += 1,
                    u64::MAX => seen[1] += 1,
                    other => torn = Some(other),
                }
            }
            is_over.store(true, Relaxed);
            assert_eq!(torn, None, "the time of neither page");
        });
    }

    #[test]
    fn the_code_fits_behind_the_call_entry() {
        assert!((64..=512).contains(&clock_entry().len()));
    }
}
