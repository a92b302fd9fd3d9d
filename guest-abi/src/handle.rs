//! Handles and the kinds of object that they name.

use crate::table::abi_table;

abi_table! {
    /// What kind of object a handle names.
    pub enum ObjectKind {
        1 Domain "domain" "A virtual machine: who owns what.",
        2 Vcpu "vcpu" "A virtual CPU.",
        3 Space "space" "A guest-physical address space.",
        4 Memory "memory" "Pages that can be mapped.",
        5 Port "port" "A bounded queue of messages.",
        6 Event "event" "A word of bits that are notified.",
        7 Timer "timer" "A point in time at which bits of an event are set.",
    }
}

/// Names an object in the table of the domain that holds it; means nothing to any other domain.
///
/// Bits 0 to 15 are the place in the table, bits 16 to 31 the generation of that place, which is
/// never 0 for a valid handle, so that the number 0 is never one. A closed handle does not come to
/// life again when its place is used anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(u32);

impl Handle {
    /// A handle from its two parts.
    #[inline]
    pub const fn new(index: u16, generation: u16) -> Self {
        Handle((generation as u32) << 16 | index as u32)
    }

    /// Reads a register; `None` if any of the upper 32 bits is set.
    #[inline]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw >> 32 == 0 {
            Some(Handle(raw as u32))
        } else {
            None
        }
    }

    /// The value for a register.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0 as u64
    }

    /// The place in the holder's table.
    #[inline]
    pub const fn index(self) -> u16 {
        self.0 as u16
    }

    /// The generation of that place.
    #[inline]
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_keeps_its_parts() {
        let handle = Handle::new(0xABCD, 0x1234);
        assert_eq!((handle.index(), handle.generation()), (0xABCD, 0x1234));
        assert_eq!(Handle::from_raw(handle.raw()), Some(handle));
    }

    #[test]
    fn upper_bits_are_refused() {
        assert_eq!(Handle::from_raw(1 << 32), None);
        assert_eq!(Handle::from_raw(u64::MAX), None);
    }
}
