//! The registers that the hypervisor itself never uses and therefore leaves to the guest while it
//! handles an exit: x87, SSE, AVX and whatever else XSAVE knows, XCR0, and DR0 to DR3.
//!
//! They change hands only when another vcpu runs. What the last one left in places that XSAVE does
//! not cover goes at the same moment: x87 pointers on some CPUs, and the branch predictors.
//!
//! A guest may put into XCR0 what the CPU has, even what CPUID hides from it: not every CPU reports
//! its XSETBV, and everything is saved and restored whether the guest was told of it or not.

// UNSAFETY: XSAVE, XRSTOR, XGETBV, XSETBV and moves to debug registers.
#![allow(unsafe_code)]

use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;

use raw_cpuid::native_cpuid::cpuid_count;

use super::{msr, x87};

/// CPUID leaf of the extended state (Intel SDM vol. 2, CPUID; AMD APM vol. 3, E.3.8).
const LEAF: u32 = 0xD;

/// XSAVE's memory operand must lie on this boundary (Intel SDM vol. 1, 13.4).
const AREA_ALIGNMENT: usize = 64;
/// The legacy region and the header, which every area has.
const MINIMUM_AREA_BYTES: usize = 512 + 64;
/// Offsets in the legacy region (Intel SDM vol. 1, table 13-1) and values after a reset.
const CONTROL_WORD_OFFSET: usize = 0;
const MXCSR_OFFSET: usize = 24;
const MXCSR_RESET: u32 = 0x1F80;

/// The bit of x87 state, and XCR0 after a reset, which has it alone.
const XCR0_X87: u32 = 1;
const XCR0_RESET: u64 = XCR0_X87 as u64;

/// CPUID leaf Fn8000_0008, and in its EBX: XSAVE and XRSTOR always handle the x87 pointers; IBPB
/// (AMD APM vol. 3, E.4.7).
const EXTENDED_LEAF: u32 = 0x8000_0008;
const EBX_X87_POINTERS: u32 = 1 << 2;
const EBX_BRANCH_BARRIER: u32 = 1 << 12;
/// CPUID leaf 7, and in its EDX: IBRS and IBPB (Intel SDM vol. 2, CPUID).
const STRUCTURED_LEAF: u32 = 7;
const EDX_BRANCH_BARRIER: u32 = 1 << 26;

/// IA32_PRED_CMD, and the bit that makes the CPU forget where indirect branches went (IBPB).
const PREDICTION_COMMAND: u32 = 0x49;
const BRANCH_BARRIER: u64 = 1;

/// What this CPU can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The bits that XCR0 can have; the hypervisor runs with all of them.
    pub supported: u64,
    /// Bytes of an area that holds all of it.
    pub area_bytes: usize,
    /// XRSTOR always replaces the x87 instruction and data pointers.
    pub restores_x87_pointers: bool,
    /// The CPU can be told to forget its indirect branches.
    pub has_branch_barrier: bool,
    /// XRSTOR should leave x87 state alone where that can be.
    pub has_x87_race: bool,
}

impl Capabilities {
    /// Asks the CPU.
    pub fn detect() -> Self {
        let answer = |leaf: u32| {
            let highest = cpuid_count(leaf & 1 << 31, 0).eax;
            (leaf <= highest).then(|| cpuid_count(leaf, 0))
        };
        let state = cpuid_count(LEAF, 0);
        let extended_ebx = answer(EXTENDED_LEAF).map_or(0, |leaf| leaf.ebx);
        let structured_edx = answer(STRUCTURED_LEAF).map_or(0, |leaf| leaf.edx);
        Capabilities {
            supported: u64::from(state.edx) << 32 | u64::from(state.eax) | XCR0_RESET,
            // ECX: the size for all supported bits, whatever XCR0 is now.
            area_bytes: (state.ecx as usize).max(MINIMUM_AREA_BYTES),
            // Intel's CPUs always do and never say so: their pointers are cleared for nothing.
            restores_x87_pointers: extended_ebx & EBX_X87_POINTERS != 0,
            has_branch_barrier: has_branch_barrier(extended_ebx, structured_edx),
            has_x87_race: false,
        }
    }

    /// Those of a machine in which other CPUs run, too.
    pub fn beside_others(self) -> Self {
        Capabilities {
            has_x87_race: x87::has_race(),
            ..self
        }
    }
}

/// Each vendor has its own bit.
const fn has_branch_barrier(extended_ebx: u32, structured_edx: u32) -> bool {
    extended_ebx & EBX_BRANCH_BARRIER != 0 || structured_edx & EDX_BRANCH_BARRIER != 0
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
    /// The x87 part is that of a reset, and is put into the CPU without XRSTOR.
    has_reset_x87: bool,
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
                .write(x87::CONTROL_WORD_RESET);
            area.add(MXCSR_OFFSET).cast::<u32>().write(MXCSR_RESET);
        }
        ExtendedState {
            area,
            capabilities,
            xcr0: XCR0_RESET,
            debug: [0; 4],
            has_reset_x87: capabilities.has_x87_race,
        }
    }

    /// The guest's XCR0 as of the last [`ExtendedState::switch`] from it.
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Takes the registers of `from` out of the CPU, if that vcpu still exists, and puts those of `to`
    /// into it.
    ///
    /// XCR0 is read back rather than tracked, because not every CPU reports a guest's XSETBV. Both
    /// halves need every supported bit in it: what a guest has disabled it may enable again.
    pub fn switch(from: Option<&mut Self>, to: &Self) {
        let supported = to.capabilities.supported;
        let xcr0 = enable_all(supported);
        let debug = read_debug_registers();
        if let Some(from) = from {
            from.xcr0 = xcr0;
            from.debug = debug;
            from.save();
        }
        to.restore();
        if to.xcr0 != supported {
            write_xcr0(to.xcr0);
        }
        let pairs = to.debug.into_iter().zip(debug);
        // Four words; comparing them as arrays would be a call.
        if pairs.fold(0, |bits, (to, from)| bits | (to ^ from)) != 0 {
            write_debug_registers(&to.debug);
        }
    }

    /// Takes the registers, which are its own, out of the CPU; another vcpu's are put there before a guest
    /// runs.
    pub fn take_out(&mut self) {
        self.xcr0 = enable_all(self.capabilities.supported);
        self.debug = read_debug_registers();
        self.save();
    }

    #[inline]
    fn save(&mut self) {
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
        if self.capabilities.has_x87_race {
            self.has_reset_x87 = x87::is_reset(self.x87());
        }
    }

    fn x87(&self) -> &[u64; x87::WORDS] {
        // SAFETY: the legacy region begins with it, the area is aligned, and its bytes are initialised.
        unsafe { self.area.cast().as_ref() }
    }

    #[inline]
    fn restore(&self) {
        if self.capabilities.has_branch_barrier {
            forget_branches();
        }
        let mut components = u32::MAX;
        if self.has_reset_x87 {
            x87::reset();
            components &= !XCR0_X87;
        } else if !self.capabilities.restores_x87_pointers {
            x87::clear_pointers();
        }
        // SAFETY: the area was written by XSAVE or by `new`, so its header is valid and XRSTOR
        // does not fault; the hypervisor keeps nothing in these registers.
        unsafe {
            asm!(
                "xrstor64 [{area}]",
                area = in(reg) self.area.as_ptr(),
                in("eax") components,
                in("edx") u32::MAX,
                options(nostack),
            );
        }
    }
}

impl Drop for ExtendedState {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, which follows from `capabilities`.
        unsafe { dealloc(self.area.as_ptr(), layout(&self.capabilities)) };
    }
}

/// Keeps the branches that one domain has trained out of what the next one executes speculatively
/// (AMD, "Indirect Branch Control Extension"; Intel SDM vol. 4, IA32_PRED_CMD).
fn forget_branches() {
    // SAFETY: the register takes commands to the branch predictors, which change only how fast
    // code runs. A CPU that refuses it has lied about it, and nothing else helps there.
    let _ = unsafe { msr::write(PREDICTION_COMMAND, BRANCH_BARRIER) };
}

fn layout(capabilities: &Capabilities) -> Layout {
    // CPUID gives some KiB; a size that overflows with its alignment is no CPU's.
    Layout::from_size_align(capabilities.area_bytes, AREA_ALIGNMENT)
        .unwrap_or(Layout::new::<[u8; MINIMUM_AREA_BYTES]>())
}

/// Puts every bit into XCR0 that it can have. Returns what it was.
#[inline]
fn enable_all(supported: u64) -> u64 {
    let xcr0 = read_xcr0();
    if xcr0 != supported {
        write_xcr0(supported);
    }
    xcr0
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
#[inline]
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
        restores_x87_pointers: true,
        has_branch_barrier: true,
        has_x87_race: false,
    };

    #[test]
    fn the_branch_barrier_is_found_where_either_vendor_announces_it() {
        assert!(has_branch_barrier(1 << 12, 0));
        assert!(has_branch_barrier(0, 1 << 26));
        assert!(!has_branch_barrier(!(1 << 12), !(1 << 26)));
    }

    #[test]
    fn a_new_state_is_that_of_a_reset_cpu() {
        let state = ExtendedState::new(FULL);
        assert_eq!(state.area.as_ptr() as usize % AREA_ALIGNMENT, 0);
        // SAFETY: the area has at least 576 bytes and is initialised.
        let legacy = unsafe { core::slice::from_raw_parts(state.area.as_ptr(), 576) };
        assert_eq!(legacy[MXCSR_OFFSET..][..4], MXCSR_RESET.to_le_bytes());
        assert_eq!(legacy[..2], x87::CONTROL_WORD_RESET.to_le_bytes());
        assert!(legacy[512..].iter().all(|byte| *byte == 0));
        assert_eq!(state.xcr0, 1);
    }
}
