//! The virtual-machine control structure, VMCS (Intel SDM vol. 3, 24 and appendix B), as named
//! fields: what the CPU loads at an entry and stores at an exit.
//!
//! Fields are reached by VMREAD and VMWRITE and only in the structure that is current, so between
//! `load` and the next `load` there is one vcpu whose fields can be looked at. In host tests a map
//! stands in for the CPU.

use crate::mem::HostPhysical;
use crate::vt::start_state::Segment;

/// A field, by its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(u32);

impl Field {
    /// The field of that encoding.
    pub const fn numbered(number: u32) -> Self {
        Field(number)
    }

    /// The operand of VMREAD and VMWRITE.
    pub const fn number(self) -> u32 {
        self.0
    }
}

macro_rules! fields {
    ($( $name:ident = $number:literal, )+) => { $(
        #[allow(missing_docs)]
        pub const $name: Field = Field($number);
    )+ };
}

fields! {
    VPID = 0x0000, MSR_BITMAP = 0x2004, VIRTUAL_APIC_PAGE = 0x2012, EPT_POINTER = 0x201A,
    LINK_POINTER = 0x2800, GUEST_PAT = 0x2804, GUEST_EFER = 0x2806, HOST_PAT = 0x2C00,
    HOST_EFER = 0x2C02, PIN_CONTROLS = 0x4000, PRIMARY_CONTROLS = 0x4002, EXCEPTION_BITMAP = 0x4004,
    EXIT_CONTROLS = 0x400C, ENTRY_CONTROLS = 0x4012, ENTRY_EVENT = 0x4016,
    ENTRY_ERROR_CODE = 0x4018, ENTRY_INSTRUCTION_LENGTH = 0x401A, SECONDARY_CONTROLS = 0x401E,
    CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006,
    INSTRUCTION_ERROR = 0x4400, EXIT_REASON = 0x4402, EXIT_EVENT = 0x4404, EXIT_ERROR_CODE = 0x4406,
    VECTORING_EVENT = 0x4408, VECTORING_ERROR_CODE = 0x440A, EXIT_INSTRUCTION_LENGTH = 0x440C,
    EXIT_QUALIFICATION = 0x6400, GUEST_PHYSICAL_ADDRESS = 0x2400, SS_ACCESS = 0x4818,
    INTERRUPTIBILITY = 0x4824, PREEMPTION_TIMER = 0x482E, CR0 = 0x6800, CR3 = 0x6802, CR4 = 0x6804,
    DR7 = 0x681A, RSP = 0x681C, RIP = 0x681E, RFLAGS = 0x6820, HOST_CS = 0x0C02, HOST_SS = 0x0C04,
    HOST_DS = 0x0C06, HOST_ES = 0x0C00, HOST_TR = 0x0C0C,
    HOST_CR0 = 0x6C00, HOST_CR3 = 0x6C02, HOST_CR4 = 0x6C04,
    HOST_TR_BASE = 0x6C0A, HOST_GDTR_BASE = 0x6C0C, HOST_IDTR_BASE = 0x6C0E,
    HOST_RSP = 0x6C14, HOST_RIP = 0x6C16,
}

/// Fields that are 0 at the start and have to be written all the same, since only the CPU knows
/// what VMCLEAR leaves in them (24.11.3): counts of lists, masks of page faults, the threshold of
/// the task priority, what waits to be delivered, tables, SYSENTER and debug controls of the guest,
/// FS, GS and SYSENTER of the host, which uses none of them.
const ZERO: [u32; 28] = [
    0x4006, 0x4008, 0x400A, 0x400E, 0x4010, 0x4014, 0x4016, 0x4018, 0x401A, 0x401C, 0x2802, 0x4810,
    0x4812, 0x4824, 0x4826, 0x482A, 0x6816, 0x6818, 0x6822, 0x6824, 0x6826, 0x0C08, 0x0C0A, 0x6C06,
    0x6C08, 0x4C00, 0x6C10, 0x6C12,
];

/// The access rights of a segment register that cannot be used (table 24-2).
const UNUSABLE: u64 = 1 << 16;

/// A control structure in a frame that its owner keeps.
pub struct Vmcs {
    address: HostPhysical,
    #[cfg(test)]
    fields: core::cell::RefCell<std::collections::BTreeMap<Field, u64>>,
}

impl Vmcs {
    /// The structure at this address.
    pub fn new(address: HostPhysical) -> Self {
        Vmcs {
            address,
            #[cfg(test)]
            fields: Default::default(),
        }
    }

    /// Where it is.
    pub const fn address(&self) -> HostPhysical {
        self.address
    }

    /// Sets a segment register: selector, limit, access rights and base, in the order ES to TR.
    pub fn set_segment(&self, segment: &Segment) {
        let offset = segment.register as u32 * 2;
        let access = match segment.access & Segment::PRESENT {
            0 => UNUSABLE,
            _ => u64::from(segment.access),
        };
        self.set(Field(0x0800 + offset), u64::from(segment.selector));
        self.set(Field(0x4800 + offset), u64::from(segment.limit));
        self.set(Field(0x4814 + offset), access);
        self.set(Field(0x6806 + offset), 0);
    }

    /// Clears the fields of [`ZERO`].
    pub fn clear_fields(&self) {
        for number in ZERO {
            self.set(Field(number), 0);
        }
    }
}

/// The privilege level in the access rights of SS (24.4.1).
#[inline(always)]
pub const fn privilege(stack_access: u64) -> u8 {
    (stack_access >> 5) as u8 & 3
}

#[cfg(not(test))]
mod access {
    // UNSAFETY: VMWRITE and VMCLEAR.
    #![allow(unsafe_code)]

    use super::super::insn;
    use super::{Field, Vmcs};

    impl Vmcs {
        /// Reads a field by its encoding, if the CPU has it; the structure is the current one.
        pub fn word(&self, number: u32) -> Option<u64> {
            insn::vmread_if_present(u64::from(number))
        }

        /// Reads a field; the structure is the current one.
        #[inline(always)]
        pub fn get(&self, field: Field) -> u64 {
            insn::vmread(u64::from(field.0))
        }

        /// Writes a field; the structure is the current one.
        #[inline(always)]
        pub fn set(&self, field: Field, value: u64) {
            // SAFETY: this folder alone has a `Vmcs`; the host's fields are written once, when
            // the structure is made, and the guest's are the guest's.
            unsafe { insn::vmwrite(u64::from(field.0), value) };
        }

        /// Takes it out of the CPU, so that the CPU never writes to its frame again.
        pub fn retire(&self) {
            // SAFETY: whoever has a structure has switched VMX operation on; the frame is its.
            let cleared = unsafe { insn::vmclear(self.address) };
            assert!(cleared.is_ok(), "VMCLEAR refuses a control structure");
        }
    }
}

#[cfg(test)]
mod tests;
