//! What VT-x this CPU has, from CPUID and the capability registers: a pure decision over plain
//! numbers, and the reading of them.

use x86::cpuid::CpuId;
use x86::msr::IA32_FEATURE_CONTROL;

use crate::cpu::msr;
use crate::vt::entry_rules::vmx::{capability::*, Limits};
use crate::vt::{Extension, RegisterLimits, Unsupported};

use super::controls::Controls;

/// IA32_FEATURE_CONTROL (Intel SDM vol. 3, 23.7): locked until the next reset; VMXON allowed.
pub(super) const FEATURE_LOCKED: u64 = 1 << 0;
pub(super) const FEATURE_VMXON: u64 = 1 << 2;

/// What the CPU says about VT-x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// CPUID leaf 1, ECX bit 5.
    pub vmx: bool,
    /// IA32_FEATURE_CONTROL, where it can be read.
    pub feature_control: Option<u64>,
    /// The capability registers.
    pub limits: Limits,
}

/// The features that the VT-x code uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The number that stands at the start of each control structure.
    pub revision: u32,
    /// The firmware has left VT-x to be switched on.
    pub must_unlock: bool,
    /// The controls.
    pub controls: Controls,
    /// The preemption timer counts once in two to the power of this many ticks.
    pub timer_shift: u32,
    /// Bits of CR0 that must be set while a guest runs.
    pub cr0_fixed: u64,
    /// Bits of CR4 that must be set in VMX operation.
    pub cr4_fixed: u64,
    /// What guests may have in registers.
    pub limits: RegisterLimits,
    /// Pages of 2 MiB.
    pub large_pages: bool,
    /// Pages of 1 GiB.
    pub gigabyte_pages: bool,
    /// The CPU marks entries that it has used.
    pub accessed_and_dirty: bool,
    /// INVEPT can be told one set of tables.
    pub flush_by_tables: bool,
}

/// What a refusal says of it.
pub static EXTENSION: Extension = Extension {
    name: "Intel VT-x",
    absent: "no-vmx",
    disabled: "vmx-disabled",
    too_old: "vmx-too-old",
};

impl Findings {
    /// Reads CPUID and the capability registers.
    pub fn read() -> Self {
        let vmx = CpuId::new()
            .get_feature_info()
            .is_some_and(|features| features.has_vmx());
        // On another vendor's CPU these numbers may mean something else, and are not looked at.
        Findings {
            vmx,
            feature_control: msr::read(IA32_FEATURE_CONTROL).filter(|_| vmx),
            limits: if vmx {
                Limits::read()
            } else {
                Limits::default()
            },
        }
    }

    /// Decides.
    ///
    /// # Errors
    /// What is missing.
    pub fn features(&self) -> Result<Features, Unsupported> {
        if !self.vmx {
            return Err(Unsupported::Absent(&EXTENSION));
        }
        let control = self
            .feature_control
            .ok_or(Unsupported::Disabled(&EXTENSION))?;
        let must_unlock = control & FEATURE_LOCKED == 0;
        if !must_unlock && control & FEATURE_VMXON == 0 {
            return Err(Unsupported::Disabled(&EXTENSION));
        }
        let limits = &self.limits;
        let has = |bits| limits.ept & bits == bits;
        let controls = Controls::choose(&limits.controls, has(INVVPID_AND_ALL))
            .map_err(|name| Unsupported::Lacks(&EXTENSION, name))?;
        for (bits, name) in [
            (EPT_WALK_OF_4, "EPT tables of four levels"),
            (EPT_WRITE_BACK, "write-back EPT tables"),
            (INVEPT | INVEPT_ALL, "INVEPT"),
        ] {
            if !has(bits) {
                return Err(Unsupported::Lacks(&EXTENSION, name));
            }
        }
        Ok(Features {
            revision: limits.revision(),
            must_unlock,
            controls,
            timer_shift: (limits.misc & 31) as u32,
            cr0_fixed: limits.cr0_of_unrestricted(),
            cr4_fixed: limits.cr4[0],
            limits: limits.of_registers(),
            large_pages: has(EPT_2M),
            gigabyte_pages: has(EPT_2M | EPT_1G),
            accessed_and_dirty: has(EPT_ACCESSED_DIRTY),
            flush_by_tables: has(INVEPT_SINGLE),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::vt::entry_rules::vmx::Capabilities;

    const ANY: u64 = 0xFFFF_FFFF_0000_0000;

    pub const GOOD: Findings = Findings {
        vmx: true,
        feature_control: Some(5),
        limits: Limits {
            basic: 0x00DA_0400_0000_002B,
            misc: 0x6_01E5,
            ept: 0x0F01_0633_4141,
            controls: Capabilities {
                pin: ANY,
                primary: ANY,
                secondary: ANY,
                exit: ANY,
                entry: ANY,
            },
            cr0: [0x8000_0021, 0xFFFF_FFFF],
            cr4: [0x2000, 0x003F_27FF],
            physical_bits: 39,
            linear_bits: 48,
        },
    };

    #[test]
    fn a_whole_cpu_will_do() {
        let features = GOOD.features().unwrap();
        assert_eq!(features.revision, 0x2B);
        assert_eq!(features.timer_shift, 5);
        assert_eq!(features.cr0_fixed, 0x20);
        assert!(!features.must_unlock && features.controls.has_vpid());
        assert!(features.gigabyte_pages && features.accessed_and_dirty);
    }

    #[test]
    fn an_unlocked_register_is_to_be_locked_and_a_locked_one_decides() {
        let with = |feature_control| Findings {
            feature_control,
            ..GOOD
        };
        assert!(with(Some(0)).features().unwrap().must_unlock);
        for off in [Some(1), None] {
            assert_eq!(with(off).features(), Err(Unsupported::Disabled(&EXTENSION)));
        }
    }

    #[test]
    fn each_missing_feature_is_named() {
        let lacks = |findings: Findings| findings.features().unwrap_err();
        assert_eq!(
            lacks(Findings { vmx: false, ..GOOD }),
            Unsupported::Absent(&EXTENSION)
        );
        let without = |bit: u64| Findings {
            limits: Limits {
                ept: GOOD.limits.ept & !(1 << bit),
                ..GOOD.limits
            },
            ..GOOD
        };
        assert!(
            matches!(lacks(without(6)), Unsupported::Lacks(_, name) if name.contains("levels"))
        );
        assert!(matches!(
            lacks(without(20)),
            Unsupported::Lacks(_, "INVEPT")
        ));
        let no_vpid = without(32).features().unwrap();
        assert!(!no_vpid.controls.has_vpid());
    }
}
