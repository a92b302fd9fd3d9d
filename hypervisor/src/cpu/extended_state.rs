//! The registers that the hypervisor itself never uses and therefore leaves to the guest while it
//! handles an exit: x87, SSE, AVX and whatever else XSAVE knows, XCR0, and DR0 to DR3.
//!
//! They change hands only when another vcpu runs.

// UNSAFETY: XSAVE, XRSTOR, XGETBV, XSETBV and moves to debug registers.
#![allow(unsafe_code)]

use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;

use raw_cpuid::native_cpuid::cpuid_count;

/// CPUID leaf of the extended state (Intel SDM vol. 2, CPUID; AMD APM vol. 3, E.3.8).
const LEAF: u32 = 0xD;

/// XSAVE's memory operand must lie on this boundary (Intel SDM vol. 1, 13.4).
const AREA_ALIGNMENT: usize = 64;
/// The legacy region and the header, which every area has.
const MINIMUM_AREA_BYTES: usize = 512 + 64;
/// Offsets in the legacy region (Intel SDM vol. 1, table 13-1) and values after a reset.
const CONTROL_WORD_OFFSET: usize = 0;
const CONTROL_WORD_RESET: u16 = 0x037F;
const MXCSR_OFFSET: usize = 24;
const MXCSR_RESET: u32 = 0x1F80;

/// XCR0 after a reset: x87 alone.
const XCR0_RESET: u64 = 1;

/// What this CPU can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The bits that XCR0 can have; the hypervisor runs with all of them.
    pub supported: u64,
    /// Bytes of an area that holds all of it.
    pub area_bytes: usize,
}

impl Capabilities {
    /// Asks the CPU.
    pub fn detect() -> Self {
        let leaf = cpuid_count(LEAF, 0);
        Capabilities {
            supported: u64::from(leaf.edx) << 32 | u64::from(leaf.eax) | XCR0_RESET,
            // ECX: the size for all supported bits, whatever XCR0 is now.
            area_bytes: (leaf.ecx as usize).max(MINIMUM_AREA_BYTES),
        }
    }

    /// Whether XSETBV takes this value, so that a guest's can be checked before it is used
    /// (Intel SDM vol. 1, 13.3).
    pub const fn accepts_xcr0(&self, value: u64) -> bool {
        const X87: u64 = 1 << 0;
        const SSE: u64 = 1 << 1;
        const AVX: u64 = 1 << 2;
        const MPX: u64 = 0b11 << 3;
        const AVX512: u64 = 0b111 << 5;
        const AMX: u64 = 0b11 << 17;
        value & X87 != 0
            && value & !self.supported == 0
            && (value & AVX == 0 || value & SSE != 0)
            && (value & AVX512 == 0 || (value & AVX != 0 && value & AVX512 == AVX512))
            && (value & MPX == 0 || value & MPX == MPX)
            && (value & AMX == 0 || value & AMX == AMX)
    }
}

/// Turns all of it on, for the first restore. Needs CR4.OSXSAVE.
pub fn enable(capabilities: &Capabilities) {
    write_xcr0(capabilities.supported);
}

/// One vcpu's registers while they are not in the CPU.
#[derive(Debug)]
pub struct ExtendedState {
    area: NonNull<u8>,
    capabilities: Capabilities,
    xcr0: u64,
    debug: [u64; 4],
}

// SAFETY: the area belongs to this value alone, like a Box's.
unsafe impl Send for ExtendedState {}

impl ExtendedState {
    /// The state after a reset: empty registers, every exception masked.
    pub fn new(capabilities: Capabilities) -> Self {
        let layout = layout(&capabilities);
        // SAFETY: the layout's size is not 0.
        let Some(area) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        // XSTATE_BV in the header is 0, so XRSTOR puts every component into its initial state and
        // takes only MXCSR from memory (Intel SDM vol. 1, 13.8.1).
        //
        // SAFETY: both offsets lie in the area, which is aligned to 64 bytes.
        unsafe {
            area.add(CONTROL_WORD_OFFSET)
                .cast::<u16>()
                .write(CONTROL_WORD_RESET);
            area.add(MXCSR_OFFSET).cast::<u32>().write(MXCSR_RESET);
        }
        ExtendedState {
            area,
            capabilities,
            xcr0: XCR0_RESET,
            debug: [0; 4],
        }
    }

    /// The guest's XCR0 as of the last [`ExtendedState::save`].
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Takes the registers out of the CPU.
    ///
    /// XCR0 is read back rather than tracked, because not every CPU reports a guest's XSETBV.
    /// Afterwards XCR0 has every supported bit.
    pub fn save(&mut self) {
        self.xcr0 = read_xcr0();
        write_xcr0(self.capabilities.supported);
        // SAFETY: the area is aligned and holds every component that XCR0 enables. The
        // hypervisor is compiled without floating point, so the registers are the guest's.
        unsafe {
            asm!(
                "xsave64 [{area}]",
                area = in(reg) self.area.as_ptr(),
                in("eax") u32::MAX,
                in("edx") u32::MAX,
                options(nostack),
            );
        }
        self.debug = read_debug_registers();
    }

    /// Puts the registers into the CPU.
    pub fn restore(&self) {
        write_xcr0(self.capabilities.supported);
        // SAFETY: the area was written by XSAVE or by `new`, so its header is valid and XRSTOR
        // does not fault; the hypervisor keeps nothing in these registers.
        unsafe {
            asm!(
                "xrstor64 [{area}]",
                area = in(reg) self.area.as_ptr(),
                in("eax") u32::MAX,
                in("edx") u32::MAX,
                options(nostack),
            );
        }
        write_xcr0(self.xcr0);
        write_debug_registers(&self.debug);
    }
}

impl Drop for ExtendedState {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, which follows from `capabilities`.
        unsafe { dealloc(self.area.as_ptr(), layout(&self.capabilities)) };
    }
}

fn layout(capabilities: &Capabilities) -> Layout {
    // CPUID gives some KiB; a size that overflows with its alignment is no CPU's.
    Layout::from_size_align(capabilities.area_bytes, AREA_ALIGNMENT)
        .unwrap_or(Layout::new::<[u8; MINIMUM_AREA_BYTES]>())
}

fn read_xcr0() -> u64 {
    let low: u32;
    let high: u32;
    // SAFETY: XGETBV of register 0 changes nothing but EDX:EAX; CR4.OSXSAVE is on.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a value that came from CPUID or from XCR0 itself, which the CPU therefore accepts.
fn write_xcr0(value: u64) {
    assert!(try_write_xcr0(value).is_some(), "XCR0 refuses {value:#x}");
}

/// Writes XCR0; `None` if the CPU refuses the value (it raised #GP).
pub fn try_write_xcr0(value: u64) -> Option<()> {
    let failed: u32;
    // SAFETY: XCR0 governs registers that the hypervisor does not use; a fault continues after
    // the instruction with `failed` still 1 (fixup.rs).
    unsafe {
        asm!(
            "mov {failed:e}, 1",
            "2: xsetbv",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .fault_fixups, \"a\"",
            ".balign 4",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            failed = out(reg) failed,
            in("ecx") 0,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nomem, nostack),
        );
    }
    (failed == 0).then_some(())
}

fn read_debug_registers() -> [u64; 4] {
    let (dr0, dr1, dr2, dr3): (u64, u64, u64, u64);
    // SAFETY: reading them changes nothing; DR7.GD, which would make it fault, is clear after an
    // exit (Intel SDM vol. 3, 27.5.1; AMD APM vol. 2, 15.6).
    unsafe {
        asm!(
            "mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) dr0, out(reg) dr1, out(reg) dr2, out(reg) dr3,
            options(nomem, nostack),
        );
    }
    [dr0, dr1, dr2, dr3]
}

fn write_debug_registers(&[dr0, dr1, dr2, dr3]: &[u64; 4]) {
    // SAFETY: addresses without DR7, which an exit clears, break nothing.
    unsafe {
        asm!(
            "mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3,
            options(nomem, nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Capabilities = Capabilities {
        supported: 0x602E7,
        area_bytes: 2696,
    };

    #[test]
    fn impossible_combinations_are_refused() {
        for good in [0x1, 0x3, 0x7, 0xE7, 0x2E7, 0x60001] {
            assert!(FULL.accepts_xcr0(good), "{good:#x}");
        }
        for bad in [0, 0x2, 0x5, 0x27, 0xE3, 0x9, 0x1B, 0x20001, 1 << 63 | 1] {
            assert!(!FULL.accepts_xcr0(bad), "{bad:#x}");
        }
    }

    #[test]
    fn a_new_state_is_that_of_a_reset_cpu() {
        let state = ExtendedState::new(FULL);
        assert_eq!(state.area.as_ptr() as usize % AREA_ALIGNMENT, 0);
        // SAFETY: the area has at least 576 bytes and is initialised.
        let legacy = unsafe { core::slice::from_raw_parts(state.area.as_ptr(), 576) };
        assert_eq!(legacy[MXCSR_OFFSET..][..4], MXCSR_RESET.to_le_bytes());
        assert_eq!(legacy[..2], CONTROL_WORD_RESET.to_le_bytes());
        assert!(legacy[512..].iter().all(|byte| *byte == 0));
        assert_eq!(state.xcr0(), 1);
    }
}
