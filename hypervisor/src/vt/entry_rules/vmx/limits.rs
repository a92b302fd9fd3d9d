//! What is fixed for a CPU with VT-x: plain numbers out of its capability registers.

use raw_cpuid::CpuId;
use x86::msr::{IA32_VMX_CR0_FIXED1, IA32_VMX_CR4_FIXED1};

use crate::cpu::msr;
use crate::vt::vmx::Findings;

use super::super::beyond;

/// The numbers (Intel SDM vol. 3, appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// IA32_VMX_EPT_VPID_CAP.
    pub ept: u64,
    /// Pin-based controls: in the lower half the bits that must be 1, in the upper those that may.
    pub pin: u64,
    /// Primary processor-based controls, likewise.
    pub primary: u64,
    /// Secondary processor-based controls, likewise.
    pub secondary: u64,
    /// Exit controls, likewise.
    pub exit: u64,
    /// Entry controls, likewise.
    pub entry: u64,
    /// Bits of CR0 that must be 1, and those that may.
    pub cr0: [u64; 2],
    /// Bits of CR4 that must be 1, and those that may.
    pub cr4: [u64; 2],
    /// Bits of a physical address.
    pub physical_bits: u32,
    /// Bits of a linear address.
    pub linear_bits: u32,
}

impl Limits {
    /// Reads this CPU's.
    pub fn read() -> Self {
        let findings = Findings::read();
        let all = |index| msr::read(index).unwrap_or(u64::MAX);
        let widths = CpuId::new().get_processor_capacity_feature_info();
        let width = |bits: Option<u8>, least| bits.map_or(least, u32::from);
        Limits {
            basic: findings.basic,
            misc: findings.misc,
            ept: findings.ept,
            pin: findings.controls.pin,
            primary: findings.controls.primary,
            secondary: findings.controls.secondary,
            exit: findings.controls.exit,
            entry: findings.controls.entry,
            cr0: [findings.cr0_fixed, all(IA32_VMX_CR0_FIXED1)],
            cr4: [findings.cr4_fixed, all(IA32_VMX_CR4_FIXED1)],
            physical_bits: width(widths.as_ref().map(|it| it.physical_address_bits()), 36),
            linear_bits: width(widths.as_ref().map(|it| it.linear_address_bits()), 48),
        }
    }

    /// Bits that no physical address has.
    pub(super) const fn beyond_physical(&self) -> u64 {
        beyond(self.physical_bits)
    }

    /// Whether all bits above the width are as the highest below it.
    pub(super) const fn is_canonical(&self, address: u64) -> bool {
        let unused = 64 - self.linear_bits;
        ((address << unused) as i64 >> unused) as u64 == address
    }
}
