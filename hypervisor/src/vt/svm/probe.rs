//! What SVM this CPU has, from CPUID: a pure decision over plain numbers, and the reading of them.

use x86::cpuid::CpuId;

use crate::cpu::msr;
use crate::vt::entry_rules::svm::Limits;
use crate::vt::{Extension, RegisterLimits, Unsupported};

/// VM_CR, bit 4: the firmware has switched SVM off (AMD APM volume 2, section 15.30.1).
const VM_CR: u32 = 0xC001_0114;
const VM_CR_SVM_DISABLED: u64 = 1 << 4;

/// What the CPU says about SVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// CPUID Fn8000_0001 ECX bit 2.
    pub svm: bool,
    /// CPUID Fn8000_000A EDX bit 0.
    pub nested_paging: bool,
    /// CPUID Fn8000_000A EDX bit 3.
    pub next_rip: bool,
    /// CPUID Fn8000_000A EDX bit 6.
    pub flush_by_asid: bool,
    /// CPUID Fn8000_000A EBX.
    pub asids: u32,
    /// VM_CR, where it can be read.
    pub vm_cr: Option<u64>,
    /// What guests may have in registers.
    pub limits: RegisterLimits,
}

/// The features that the SVM code uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The CPU saves the address of the next instruction.
    pub next_rip: bool,
    /// The CPU can flush the translations of one identifier.
    pub flush_by_asid: bool,
    /// Identifiers, the hypervisor's own included.
    pub asids: u32,
    /// What guests may have in registers.
    pub limits: RegisterLimits,
}

/// What a refusal says of it.
pub static EXTENSION: Extension = Extension {
    name: "AMD SVM",
    absent: "no-svm",
    disabled: "svm-disabled",
    too_old: "svm-too-old",
};

impl Findings {
    /// Reads CPUID and VM_CR.
    pub fn read() -> Self {
        let cpuid = CpuId::new();
        let svm = cpuid
            .get_extended_processor_and_feature_identifiers()
            .is_some_and(|features| features.has_svm());
        let details = cpuid.get_svm_info();
        let has =
            |feature: fn(&x86::cpuid::SvmFeatures) -> bool| details.as_ref().is_some_and(feature);
        Findings {
            svm,
            nested_paging: has(|details| details.has_nested_paging()),
            next_rip: has(|details| details.has_nrip()),
            flush_by_asid: has(|details| details.has_flush_by_asid()),
            asids: details
                .as_ref()
                .map_or(0, |details| details.supported_asids()),
            vm_cr: msr::read(VM_CR),
            limits: RegisterLimits {
                cr4: Limits::read().cr4,
                linear_bits: cpuid
                    .get_processor_capacity_feature_info()
                    .map_or(48, |widths| u32::from(widths.linear_address_bits())),
            },
        }
    }

    /// Decides.
    ///
    /// # Errors
    /// What is missing.
    pub const fn features(&self) -> Result<Features, Unsupported> {
        if !self.svm {
            return Err(Unsupported::Absent(&EXTENSION));
        }
        if matches!(self.vm_cr, Some(vm_cr) if vm_cr & VM_CR_SVM_DISABLED != 0) {
            return Err(Unsupported::Disabled(&EXTENSION));
        }
        if !self.nested_paging {
            return Err(Unsupported::Lacks(&EXTENSION, "nested paging (NPT)"));
        }
        if self.asids < 2 {
            return Err(Unsupported::Lacks(
                &EXTENSION,
                "address-space identifiers for guests",
            ));
        }
        Ok(Features {
            next_rip: self.next_rip,
            flush_by_asid: self.flush_by_asid,
            asids: self.asids,
            limits: self.limits,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const GOOD: Findings = Findings {
        svm: true,
        nested_paging: true,
        next_rip: false,
        flush_by_asid: false,
        asids: 16,
        vm_cr: None,
        limits: RegisterLimits {
            cr4: 0x37_07FF,
            linear_bits: 48,
        },
    };

    #[test]
    fn each_missing_feature_is_named() {
        assert!(GOOD.features().is_ok());
        let cases = [
            (
                Findings { svm: false, ..GOOD },
                Unsupported::Absent(&EXTENSION),
            ),
            (
                Findings {
                    vm_cr: Some(1 << 4),
                    ..GOOD
                },
                Unsupported::Disabled(&EXTENSION),
            ),
            (
                Findings {
                    nested_paging: false,
                    ..GOOD
                },
                Unsupported::Lacks(&EXTENSION, "nested paging (NPT)"),
            ),
            (
                Findings { asids: 1, ..GOOD },
                Unsupported::Lacks(&EXTENSION, "address-space identifiers for guests"),
            ),
        ];
        for (findings, expected) in cases {
            assert_eq!(findings.features(), Err(expected));
        }
    }

    #[test]
    fn a_vm_cr_that_cannot_be_read_does_not_matter() {
        assert!(Findings {
            vm_cr: Some(0),
            ..GOOD
        }
        .features()
        .is_ok());
    }
}
