//! What this CPU must and may have, and the control registers that turn it on.

// UNSAFETY: writes CR0, CR4 and EFER.
#![allow(unsafe_code)]

use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};

use super::Refusal;

/// What the hypervisor uses of the CPU, from CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// Pages that cannot be executed.
    pub no_execute: bool,
    /// XSAVE and XCR0.
    pub xsave: bool,
    /// A local APIC.
    pub local_apic: bool,
    /// The local APIC's registers as MSRs.
    pub x2apic: bool,
    /// A local APIC whose timer can wait for the time-stamp counter.
    pub tsc_deadline: bool,
    /// Machine-check exceptions.
    pub machine_check: bool,
    /// No execution of user pages in ring 0.
    pub smep: bool,
    /// No access to user pages in ring 0.
    pub smap: bool,
    /// No SGDT, SIDT, SLDT, SMSW, STR outside ring 0.
    pub umip: bool,
}

impl CpuFeatures {
    /// Asks the CPU.
    pub fn detect() -> Self {
        let cpuid = CpuId::new();
        let basic = cpuid.get_feature_info();
        let structured = cpuid.get_extended_feature_info();
        let extended = cpuid.get_extended_processor_and_feature_identifiers();
        let basic = basic.as_ref();
        let structured = structured.as_ref();
        CpuFeatures {
            no_execute: extended.is_some_and(|leaf| leaf.has_execute_disable()),
            xsave: basic.is_some_and(|leaf| leaf.has_xsave()),
            local_apic: basic.is_some_and(|leaf| leaf.has_apic()),
            x2apic: basic.is_some_and(|leaf| leaf.has_x2apic()),
            tsc_deadline: basic.is_some_and(|leaf| leaf.has_tsc_deadline()),
            machine_check: basic.is_some_and(|leaf| leaf.has_mce()),
            smep: structured.is_some_and(|leaf| leaf.has_smep()),
            smap: structured.is_some_and(|leaf| leaf.has_smap()),
            umip: structured.is_some_and(|leaf| leaf.has_umip()),
        }
    }

    /// Whether the hypervisor can run at all, whoever made the CPU.
    pub fn check(&self) -> Result<(), Refusal> {
        if !self.no_execute {
            return Err(Refusal::new(
                "no-nx",
                "This CPU has no no-execute pages, or the firmware hides them; \
                 turn the execute-disable bit on in the firmware's settings.",
            ));
        }
        if !self.xsave {
            return Err(Refusal::new(
                "no-xsave",
                "This CPU has no XSAVE; Nuncio needs it to keep the floating-point registers \
                 of its domains apart.",
            ));
        }
        if !self.local_apic {
            return Err(Refusal::new(
                "no-apic",
                "This CPU has no local APIC, or the firmware hides it; Nuncio needs its timer.",
            ));
        }
        Ok(())
    }

    /// Whether this CPU has everything that another one has.
    pub fn has_all_of(&self, other: &CpuFeatures) -> bool {
        let mut pairs = self.listed().into_iter().zip(other.listed());
        pairs.all(|(has, must)| has || !must)
    }

    fn listed(&self) -> [bool; 9] {
        let CpuFeatures {
            no_execute,
            xsave,
            local_apic,
            x2apic,
            tsc_deadline,
            machine_check,
            smep,
            smap,
            umip,
        } = *self;
        [
            no_execute,
            xsave,
            local_apic,
            x2apic,
            tsc_deadline,
            machine_check,
            smep,
            smap,
            umip,
        ]
    }

    /// Turns on what [`CpuFeatures::check`] requires and what else there is.
    pub fn enable(&self) {
        let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
            | Cr4Flags::OSFXSR
            | Cr4Flags::OSXMMEXCPT_ENABLE
            | Cr4Flags::OSXSAVE;
        for (present, flag) in [
            (self.machine_check, Cr4Flags::MACHINE_CHECK_EXCEPTION),
            (self.smep, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
            (self.smap, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
            (self.umip, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        ] {
            cr4.set(flag, present);
        }
        let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
            | Cr0Flags::MONITOR_COPROCESSOR
            | Cr0Flags::EXTENSION_TYPE
            | Cr0Flags::NUMERIC_ERROR
            | Cr0Flags::WRITE_PROTECT
            | Cr0Flags::PAGING;
        // SAFETY: paging and long mode stay as they are. No page is a user page, so SMEP and SMAP
        // deny nothing; WP and NX matter only for pages that the tables in use mark, and those of
        // entry.S mark none. Cache control (CR0.CD, NW) ends up on, whatever the firmware left.
        unsafe {
            Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE));
            Cr4::write(cr4);
            Cr0::write(cr0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: CpuFeatures = CpuFeatures {
        no_execute: true,
        xsave: true,
        local_apic: true,
        x2apic: false,
        tsc_deadline: false,
        machine_check: false,
        smep: false,
        smap: false,
        umip: false,
    };

    #[test]
    fn a_cpu_may_have_more_but_not_less() {
        let more = CpuFeatures {
            umip: true,
            ..ENOUGH
        };
        assert!(more.has_all_of(&ENOUGH) && more.has_all_of(&more));
        assert!(!ENOUGH.has_all_of(&more));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(ENOUGH.check(), Ok(()));
        let code = |features: CpuFeatures| features.check().unwrap_err().code;
        assert_eq!(
            code(CpuFeatures {
                no_execute: false,
                ..ENOUGH
            }),
            "no-nx"
        );
        assert_eq!(
            code(CpuFeatures {
                xsave: false,
                ..ENOUGH
            }),
            "no-xsave"
        );
        assert_eq!(
            code(CpuFeatures {
                local_apic: false,
                ..ENOUGH
            }),
            "no-apic"
        );
    }
}
