//! Which VM-execution, exit and entry controls guests run with: a pure choice from what the
//! capability registers allow (Intel SDM vol. 3, appendix A.3 to A.5).

#![forbid(unsafe_code)]

use crate::mem::HostPhysical;
use crate::vt::entry_rules::vmx::{Capabilities, Groups};
use crate::vt::event::CAUGHT_EXCEPTIONS;

use super::control_block::{self as vmcs, Vmcs};

/// The controls of every guest.
pub type Controls = Groups<u32>;

/// A control that has to be 1, and its name for a refusal.
type Needed = (u32, &'static str);

/// SDM vol. 3, table 24-5.
const PIN: &[Needed] = &[
    (0, "external-interrupt exiting"),
    (3, "NMI exiting"),
    (6, "the VMX-preemption timer"),
];

/// Exits at an instruction that can be interrupted; changes while a guest runs.
pub const INTERRUPT_WINDOW: u32 = 1 << 2;

/// Table 24-6. MOV DR exits because guests have no hardware breakpoints (as on SVM); CR8 has a
/// shadow because it is the task priority of the machine's own APIC otherwise.
const PRIMARY: &[Needed] = &[
    (7, "HLT exiting"),
    (10, "MWAIT exiting"),
    (11, "RDPMC exiting"),
    (21, "the TPR shadow"),
    (23, "MOV-DR exiting"),
    (24, "unconditional I/O exiting"),
    (28, "MSR bitmaps"),
    (29, "MONITOR exiting"),
];
/// Of table 24-6, what has to be 0: without the TRUE capability registers both exit always.
const PRIMARY_OFF: &[Needed] = &[
    (15, "CR3 loads that do not exit"),
    (16, "CR3 stores that do not exit"),
];
const SECONDARY_CONTROLS: Needed = (31, "EPT");

/// Table 24-7.
const SECONDARY: &[Needed] = &[
    (1, "EPT"),
    (7, "unrestricted guests"),
    (6, "WBINVD exiting"),
];
const VPID: u32 = 1 << 5;

/// Table 24-12.
const EXIT: &[Needed] = &[
    (2, "saving debug controls"),
    (9, "a 64-bit host"),
    (19, "loading the host's IA32_PAT"),
    (20, "saving IA32_EFER"),
    (21, "loading the host's IA32_EFER"),
    (22, "saving the VMX-preemption timer"),
];

/// Table 24-14.
const ENTRY: &[Needed] = &[
    (2, "loading debug controls"),
    (9, "64-bit guests"),
    (14, "loading the guest's IA32_PAT"),
    (15, "loading the guest's IA32_EFER"),
];

impl Controls {
    /// Chooses, VPIDs only where they can be flushed too.
    ///
    /// # Errors
    /// The name of the first control that is missing.
    pub fn choose(allowed: &Capabilities, can_flush_vpids: bool) -> Result<Self, &'static str> {
        // First what old CPUs lack, so that a refusal names what matters.
        require(allowed.primary, &[SECONDARY_CONTROLS])?;
        let vpid = if can_flush_vpids { VPID } else { 0 } & (allowed.secondary >> 32) as u32;
        let secondary = require(allowed.secondary, SECONDARY)? | vpid;
        for (bit, name) in PRIMARY_OFF {
            if allowed.primary & 1 << bit != 0 {
                return Err(name);
            }
        }
        let window = require(allowed.primary, &[(2, "interrupt-window exiting")])?;
        let primary = require(allowed.primary, PRIMARY)? | 1 << SECONDARY_CONTROLS.0;
        Ok(Controls {
            pin: require(allowed.pin, PIN)?,
            // Bits that cannot be 0 are in both; the window's own is set when it is wanted.
            primary: primary | window & !INTERRUPT_WINDOW,
            secondary,
            exit: require(allowed.exit, EXIT)?,
            entry: require(allowed.entry, ENTRY)?,
        })
    }

    /// Writes them into a control structure, with the pages that they go by.
    pub fn write(&self, vmcs: &Vmcs, msr_map: HostPhysical, virtual_apic: HostPhysical) {
        vmcs.set_all([
            (vmcs::PIN_CONTROLS, u64::from(self.pin)),
            (vmcs::PRIMARY_CONTROLS, u64::from(self.primary)),
            (vmcs::SECONDARY_CONTROLS, u64::from(self.secondary)),
            (vmcs::EXIT_CONTROLS, u64::from(self.exit)),
            (vmcs::ENTRY_CONTROLS, u64::from(self.entry)),
            (vmcs::EXCEPTION_BITMAP, u64::from(CAUGHT_EXCEPTIONS)),
            (vmcs::MSR_BITMAP, msr_map.0),
            (vmcs::VIRTUAL_APIC, virtual_apic.0),
        ]);
    }

    /// Whether each vcpu has an identifier for its translations.
    pub const fn has_vpid(&self) -> bool {
        self.secondary & VPID != 0
    }
}

/// The needed bits and those that cannot be 0.
fn require(allowed: u64, needed: &[Needed]) -> Result<u32, &'static str> {
    let can_be_1 = (allowed >> 32) as u32;
    let mut bits = allowed as u32;
    for (bit, name) in needed {
        if can_be_1 & 1 << bit == 0 {
            return Err(name);
        }
        bits |= 1 << bit;
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: u64 = 0xFFFF_FFFF_0000_0000;
    const FREE: Capabilities = Capabilities {
        pin: ANY,
        primary: ANY,
        secondary: ANY,
        exit: ANY,
        entry: ANY,
    };

    #[test]
    fn what_is_needed_is_set_and_nothing_else() {
        let controls = Controls::choose(&FREE, true).unwrap();
        assert_eq!(controls.pin, 0x49);
        assert_eq!(controls.primary, 0xB1A0_0C80);
        assert_eq!(controls.secondary, 0xE2);
        assert_eq!(controls.exit, 0x78_0204);
        assert_eq!(controls.entry, 0xC204);
        let without = Controls::choose(&FREE, false).unwrap();
        assert_eq!(without.secondary, 0xC2);
    }

    #[test]
    fn bits_that_cannot_be_0_are_set() {
        let allowed = Capabilities {
            pin: ANY | 0x16,
            primary: ANY | 0x0400_6172,
            ..FREE
        };
        let controls = Controls::choose(&allowed, true).unwrap();
        assert_eq!(controls.pin & 0x16, 0x16);
        assert_eq!(controls.primary & 0x0400_6172, 0x0400_6172);
        assert_eq!(controls.primary & INTERRUPT_WINDOW, 0);
    }

    #[test]
    fn each_missing_control_is_named() {
        let clear = |word: &mut u64, bit: u32| *word &= !(1 << (32 + bit));
        for (bit, name) in PIN {
            let mut allowed = FREE;
            clear(&mut allowed.pin, *bit);
            assert_eq!(Controls::choose(&allowed, true), Err(*name));
        }
        for (bit, name) in PRIMARY.iter().chain(&[SECONDARY_CONTROLS]) {
            let mut allowed = FREE;
            clear(&mut allowed.primary, *bit);
            assert_eq!(Controls::choose(&allowed, true), Err(*name));
        }
        for (bit, name) in SECONDARY {
            let mut allowed = FREE;
            clear(&mut allowed.secondary, *bit);
            assert_eq!(Controls::choose(&allowed, true), Err(*name));
        }
        for (bit, name) in EXIT {
            let mut allowed = FREE;
            clear(&mut allowed.exit, *bit);
            assert_eq!(Controls::choose(&allowed, true), Err(*name));
        }
        for (bit, name) in ENTRY {
            let mut allowed = FREE;
            clear(&mut allowed.entry, *bit);
            assert_eq!(Controls::choose(&allowed, true), Err(*name));
        }
        for (bit, name) in PRIMARY_OFF {
            let mut allowed = FREE;
            allowed.primary |= 1 << bit;
            assert_eq!(Controls::choose(&allowed, true), Err(*name));
        }
    }

    #[test]
    fn of_several_the_one_that_dates_a_cpu_is_named() {
        let old = Capabilities {
            primary: 0,
            pin: 0,
            ..FREE
        };
        assert_eq!(Controls::choose(&old, false), Err("EPT"));
    }
}
