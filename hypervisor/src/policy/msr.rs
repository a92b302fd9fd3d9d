//! Model-specific registers: which ones guests have, and what they may write to EFER.

use crate::vt::ControlRegisters;

/// The extended-feature-enable register.
pub const EFER: u32 = x86::msr::IA32_EFER;
/// The time-stamp counter.
pub const TSC: u32 = x86::msr::IA32_TIME_STAMP_COUNTER;

/// The page-attribute table.
pub const PAGE_ATTRIBUTES: u32 = x86::msr::IA32_PAT;

/// Registers that guests use without an exit, because every world switch keeps them apart.
pub const PASSED: [u32; 10] = [
    x86::msr::IA32_SYSENTER_CS,
    x86::msr::IA32_SYSENTER_ESP,
    x86::msr::IA32_SYSENTER_EIP,
    x86::msr::IA32_STAR,
    x86::msr::IA32_LSTAR,
    x86::msr::IA32_CSTAR,
    x86::msr::IA32_FMASK,
    x86::msr::IA32_FS_BASE,
    x86::msr::IA32_GS_BASE,
    x86::msr::IA32_KERNEL_GSBASE,
];

const SYSCALL: u64 = 1 << 0;
const LONG_MODE_ENABLE: u64 = 1 << 8;
const LONG_MODE_ACTIVE: u64 = 1 << 10;
const NO_EXECUTE: u64 = 1 << 11;
const CR0_PAGING: u64 = 1 << 31;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// EFER becomes this.
    Efer(u64),
    /// The page-attribute table becomes this.
    PageAttributes(u64),
    /// The guest gets #GP.
    Refused,
}

/// What a read gives; `None` is #GP.
pub fn read(index: u32, control: &ControlRegisters, ticks: u64) -> Option<u64> {
    match index {
        EFER => Some(control.efer),
        PAGE_ATTRIBUTES => Some(control.page_attributes),
        TSC => Some(ticks),
        _ => None,
    }
}

/// What a write does.
pub fn write(index: u32, value: u64, control: &ControlRegisters) -> Write {
    match index {
        EFER => write_efer(value, control),
        PAGE_ATTRIBUTES if are_page_attributes(value) => Write::PageAttributes(value),
        _ => Write::Refused,
    }
}

/// Intel SDM volume 3, section 2.2.1, and AMD APM volume 2, section 3.1.7: reserved bits fault,
/// LMA is the CPU's, and LME does not change while paging is on.
fn write_efer(value: u64, control: &ControlRegisters) -> Write {
    let writable = SYSCALL | LONG_MODE_ENABLE | NO_EXECUTE;
    let paging = control.cr0 & CR0_PAGING != 0;
    let toggles_long_mode = (value ^ control.efer) & LONG_MODE_ENABLE != 0;
    if value & !(writable | LONG_MODE_ACTIVE) != 0 || (paging && toggles_long_mode) {
        return Write::Refused;
    }
    Write::Efer(value & writable | control.efer & LONG_MODE_ACTIVE)
}

/// Whether all eight entries are types that exist: 2, 3 and all from 8 on are reserved (AMD APM
/// volume 2, section 7.8.1). The CPU enters no guest whose table has another.
fn are_page_attributes(value: u64) -> bool {
    value
        .to_le_bytes()
        .iter()
        .all(|entry| matches!(entry, 0 | 1 | 4..=7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUNNING: ControlRegisters = ControlRegisters {
        cr0: CR0_PAGING,
        cr4: 0,
        efer: SYSCALL | LONG_MODE_ENABLE | LONG_MODE_ACTIVE | NO_EXECUTE,
        page_attributes: 0x0007_0406_0007_0406,
    };

    #[test]
    fn page_attributes_must_be_types_that_exist() {
        let now = read(PAGE_ATTRIBUTES, &RUNNING, 0);
        assert_eq!(now, Some(RUNNING.page_attributes));
        let good = 0x0001_0405_0607_0406;
        let done = write(PAGE_ATTRIBUTES, good, &RUNNING);
        assert_eq!(done, Write::PageAttributes(good));
        for entry in [2, 3, 8, 0x86] {
            let bad = good | entry << 56;
            assert_eq!(write(PAGE_ATTRIBUTES, bad, &RUNNING), Write::Refused);
        }
        assert!(!PASSED.contains(&PAGE_ATTRIBUTES));
    }

    #[test]
    fn efer_keeps_long_mode_while_paging_is_on() {
        assert_eq!(
            write(EFER, RUNNING.efer, &RUNNING),
            Write::Efer(RUNNING.efer)
        );
        assert_eq!(write(EFER, 0, &RUNNING), Write::Refused);
        let without_syscall = RUNNING.efer & !SYSCALL;
        assert_eq!(
            write(EFER, without_syscall, &RUNNING),
            Write::Efer(without_syscall)
        );
        assert_eq!(
            write(EFER, RUNNING.efer | 1 << 12, &RUNNING),
            Write::Refused,
            "SVME"
        );
    }

    #[test]
    fn a_state_page_can_set_the_same_bits_of_efer() {
        assert_eq!(RUNNING.efer, crate::vt::state::EFER_BITS);
        let off = ControlRegisters { cr0: 0, ..RUNNING };
        assert_eq!(write(EFER, RUNNING.efer, &off), Write::Efer(RUNNING.efer));
    }

    proptest! {
        #[test]
        fn no_write_sets_a_bit_that_is_not_the_guests(value: u64, cr0: u64, old in 0u64..1 << 12) {
            let control = ControlRegisters { cr0, efer: old & RUNNING.efer, ..RUNNING };
            if let Write::Efer(new) = write(EFER, value, &control) {
                prop_assert_eq!(new & !RUNNING.efer, 0);
                prop_assert_eq!((new ^ control.efer) & LONG_MODE_ACTIVE, 0);
            }
        }

        #[test]
        fn every_other_register_is_refused(index: u32, value: u64) {
            if index != EFER && index != PAGE_ATTRIBUTES {
                prop_assert_eq!(write(index, value, &RUNNING), Write::Refused);
                prop_assert!(index == TSC || read(index, &RUNNING, 0).is_none());
            }
        }
    }
}
