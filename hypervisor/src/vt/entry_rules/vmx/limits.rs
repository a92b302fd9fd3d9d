//! What is fixed for a CPU with VT-x: plain numbers out of its capability registers.

use raw_cpuid::CpuId;
use x86::msr::{
    IA32_VMX_BASIC, IA32_VMX_CR0_FIXED0, IA32_VMX_CR0_FIXED1, IA32_VMX_CR4_FIXED0,
    IA32_VMX_CR4_FIXED1, IA32_VMX_ENTRY_CTLS, IA32_VMX_EPT_VPID_CAP, IA32_VMX_EXIT_CTLS,
    IA32_VMX_MISC, IA32_VMX_PINBASED_CTLS, IA32_VMX_PROCBASED_CTLS, IA32_VMX_PROCBASED_CTLS2,
    IA32_VMX_TRUE_ENTRY_CTLS, IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_TRUE_PINBASED_CTLS,
    IA32_VMX_TRUE_PROCBASED_CTLS,
};

use crate::cpu::msr;

use super::super::{beyond, is_canonical};
use crate::vt::{start_state, RegisterLimits};

/// IA32_VMX_BASIC (Intel SDM vol. 3, appendix A.1): the TRUE registers exist.
const BASIC_TRUE_CONTROLS: u64 = 1 << 55;

/// The same: the number of structures.
const BASIC_REVISION: u64 = 0x7FFF_FFFF;

/// Bits of CR0 that unrestricted guests may clear whatever IA32_VMX_CR0_FIXED0 says (23.8).
const CR0_PROTECTION_AND_PAGING: u64 = 1 << 31 | 1 << 0;

/// Bits of IA32_VMX_EPT_VPID_CAP (appendix A.10).
#[allow(missing_docs)]
pub mod capability {
    pub const EPT_WALK_OF_4: u64 = 1 << 6;
    pub const EPT_WALK_OF_5: u64 = 1 << 7;
    pub const EPT_UNCACHED: u64 = 1 << 8;
    pub const EPT_WRITE_BACK: u64 = 1 << 14;
    pub const EPT_2M: u64 = 1 << 16;
    pub const EPT_1G: u64 = 1 << 17;
    pub const INVEPT: u64 = 1 << 20;
    pub const EPT_ACCESSED_DIRTY: u64 = 1 << 21;
    pub const EPT_SHADOW_STACKS: u64 = 1 << 23;
    pub const INVEPT_SINGLE: u64 = 1 << 25;
    pub const INVEPT_ALL: u64 = 1 << 26;
    pub const INVVPID_AND_ALL: u64 = 1 << 32 | 1 << 42;
}

/// One word for each of the groups of controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Groups<Word> {
    pub pin: Word,
    pub primary: Word,
    pub secondary: Word,
    pub exit: Word,
    pub entry: Word,
}

/// Which controls can be set and cleared: the lower half has the bits that cannot be 0, the upper
/// half those that can be 1.
pub type Capabilities = Groups<u64>;

/// The numbers (appendix A); zeros are those of a CPU without VT-x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// IA32_VMX_EPT_VPID_CAP.
    pub ept: u64,
    /// The controls.
    pub controls: Capabilities,
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
    /// Reads this CPU's, which has VT-x.
    pub fn read() -> Self {
        let read = |index| msr::read(index).unwrap_or_default();
        let basic = read(IA32_VMX_BASIC);
        let either = |plain, exact| {
            read(if basic & BASIC_TRUE_CONTROLS != 0 {
                exact
            } else {
                plain
            })
        };
        let all = |index| msr::read(index).unwrap_or(u64::MAX);
        let widths = CpuId::new().get_processor_capacity_feature_info();
        let width = |bits: Option<u8>, least| bits.map_or(least, u32::from);
        Limits {
            basic,
            misc: read(IA32_VMX_MISC),
            ept: read(IA32_VMX_EPT_VPID_CAP),
            controls: Capabilities {
                pin: either(IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS),
                primary: either(IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS),
                secondary: read(IA32_VMX_PROCBASED_CTLS2),
                exit: either(IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS),
                entry: either(IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS),
            },
            cr0: [read(IA32_VMX_CR0_FIXED0), all(IA32_VMX_CR0_FIXED1)],
            cr4: [read(IA32_VMX_CR4_FIXED0), all(IA32_VMX_CR4_FIXED1)],
            physical_bits: width(widths.as_ref().map(|it| it.physical_address_bits()), 36),
            linear_bits: width(widths.as_ref().map(|it| it.linear_address_bits()), 48),
        }
    }

    /// The number that stands at the start of each control structure.
    pub const fn revision(&self) -> u32 {
        (self.basic & BASIC_REVISION) as u32
    }

    /// Bits of CR0 that must be 1 for an unrestricted guest (23.8).
    pub const fn cr0_of_unrestricted(&self) -> u64 {
        self.cr0[0] & !CR0_PROTECTION_AND_PAGING
    }

    /// What they leave to registers of a guest, which cannot change the bits of CR4 that must be 1.
    pub const fn of_registers(&self) -> RegisterLimits {
        RegisterLimits {
            cr4: self.cr4[1] & (!self.cr4[0] | start_state::CR4),
            linear_bits: self.linear_bits,
        }
    }

    /// Bits that no physical address has.
    pub(super) const fn beyond_physical(&self) -> u64 {
        beyond(self.physical_bits)
    }

    /// Whether all bits above the width are as the highest below it.
    pub(super) const fn is_canonical(&self, address: u64) -> bool {
        is_canonical(address, self.linear_bits)
    }
}
