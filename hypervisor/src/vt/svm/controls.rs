//! What guests exit for: the intercepts of a control block (AMD APM volume 2, section 15.9 and
//! appendix B). Every CPU with SVM has all of them.

#![forbid(unsafe_code)]

use crate::mem::HostPhysical;
use crate::vt::event::CAUGHT_EXCEPTIONS;

use super::control_block::{self as vmcb, Vmcb};

/// Writes to DR7, and to DR5, which is another name for it while CR4.DE is off. Guests have no
/// hardware breakpoints: QEMU forgets to disarm them at an exit (section 15.6), so that they would
/// stop the hypervisor, even in its handler of #DB.
const REGISTERS: u64 = (1 << 7 | 1 << 5) << 48;

/// Instruction intercepts, vector 3 (offset 00Ch): INTR, NMI, RDPMC, CPUID, RSM, INVD, HLT,
/// INVLPGA, I/O and MSR permission maps, task switches, FERR freeze, shutdown.
const VECTOR_3: u32 = 1 << 0
    | 1 << 1
    | 1 << 15
    | 1 << 18
    | 1 << 19
    | 1 << 22
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;

/// Vector 4 (offset 010h): VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, WBINVD, MONITOR,
/// MWAIT in both forms, RDPRU, which reads performance counters of the whole CPU.
const VECTOR_4: u32 = 0x7F | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;

/// Writes them into a control block, with the maps of permissions that they go by.
pub fn write(vmcb: Vmcb, io_map: HostPhysical, msr_map: HostPhysical) {
    let exceptions_and_3 = u64::from(CAUGHT_EXCEPTIONS) | u64::from(VECTOR_3) << 32;
    for (field, value) in [
        (vmcb::INTERCEPT_REGISTERS, REGISTERS),
        (vmcb::INTERCEPT_EXCEPTIONS_AND_3, exceptions_and_3),
        (vmcb::INTERCEPT_4_AND_5, u64::from(VECTOR_4)),
    ] {
        vmcb.set(field, value);
    }
    write_maps(vmcb, io_map, msr_map);
}

/// Names the maps of permissions, which are those of the CPU.
pub fn write_maps(vmcb: Vmcb, io_map: HostPhysical, msr_map: HostPhysical) {
    vmcb.set(vmcb::IOPM_BASE, io_map.0);
    vmcb.set(vmcb::MSRPM_BASE, msr_map.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Frame, PhysicalMemory};
    use core::sync::atomic::Ordering::Relaxed;

    #[test]
    fn intercepts_lie_where_the_manual_has_them() {
        let words = Arena::leak(1, 1).words(Frame(1)).unwrap();
        write(Vmcb::new(words), HostPhysical(0x5000), HostPhysical(0x7000));
        let at = |offset: usize| words[offset / 8].load(Relaxed);
        assert_eq!(at(0x000), 0x00A0_0000_0000_0000, "writes to DR5 and DR7");
        assert_eq!(at(0x008), 0xFD4C_8003_0006_0002, "exceptions and vector 3");
        assert_eq!(at(0x010), 0x5E7F, "vector 4");
        assert_eq!((at(0x040), at(0x048)), (0x5000, 0x7000));
    }
}
