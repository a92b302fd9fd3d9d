//! The virtual-machine control structure, VMCS (Intel SDM vol. 3, 24), as the named fields of
//! [`fields`](crate::vt::fields::vmx): what the CPU loads at an entry and stores at an exit.
//!
//! Fields are reached by VMREAD and VMWRITE and only in the structure that is current, so between
//! `load` and the next `load` there is one vcpu whose fields can be looked at. In host tests a map
//! stands in for the CPU.

use crate::mem::HostPhysical;

pub use crate::vt::fields::vmx::*;
pub use crate::vt::fields::Field;

/// A control structure in a frame that its owner keeps.
pub struct Vmcs {
    address: HostPhysical,
    #[cfg(test)]
    fields: core::cell::RefCell<std::collections::BTreeMap<u32, u64>>,
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

    /// Writes several fields.
    pub fn set_all(&self, values: impl IntoIterator<Item = (Field, u64)>) {
        for (field, value) in values {
            self.set(field, value);
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
            insn::vmread(u64::from(field.number))
        }

        /// Writes a field; the structure is the current one.
        #[inline(always)]
        pub fn set(&self, field: Field, value: u64) {
            // SAFETY: this folder alone has a `Vmcs`; the host's fields are written once, when
            // the structure is made, and the guest's are the guest's.
            unsafe { insn::vmwrite(u64::from(field.number), value) };
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
