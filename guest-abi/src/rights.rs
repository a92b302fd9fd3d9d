//! What the holder of a handle may do with the object.

use core::fmt;
use core::ops::BitOr;

use crate::table::abi_bits;

/// A set of rights; a handle carries one and a call is checked against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Rights(u32);

abi_bits! {
    Rights
    0 READ "read" "memory" "to map it readable",
    1 WRITE "write" "memory" "to map it writable",
    2 EXECUTE "execute" "memory" "to map it executable",
    3 SEND "send" "port" "to send to it",
    4 RECEIVE "receive" "port" "to receive from it",
    5 NOTIFY "notify" "event" "to set its bits",
    6 WAIT "wait" "event" "nothing to call: its word lies in the holder's vcpu page",
    7 MAP "map" "space" "to map into it, unmap from it, and run a vcpu in it",
    8 STOP "stop" "domain or vcpu" "to end the domain; to stop the vcpu",
    9 GRANT "grant" "any object" "to copy the handle, and to send it in a message",
    10 ARM "arm" "timer" "to set its time",
    11 REVOKE "revoke" "memory" "to take it back from everybody, by closing the handle",
    12 BUILD "build" "domain" "to give it handles and a vcpu, and to destroy it, by closing the handle",
    13 START "start" "vcpu" "to let it run",
    14 SCHEDULE "schedule" "vcpu" "to set its priority and its budget",
}

impl Rights {
    /// No right at all; the object can still be queried and the handle closed.
    pub const NONE: Rights = Rights(0);

    /// The three rights that `map` takes as access: read, write, execute.
    pub const ACCESS: Rights = Rights(0b111);

    /// The rights that stay with the domain that has them: no copy of a handle carries one.
    pub const BOUND: Rights = Rights(1 << 4 | 1 << 6 | 1 << 11 | 1 << 12);

    /// All these rights together.
    pub const fn from_set(rights: &[Rights]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < rights.len() {
            bits |= rights[index].0;
            index += 1;
        }
        Rights(bits)
    }

    /// The set with these bits; `None` if a bit stands for no right.
    #[inline]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & !(Self::ALL as u64) == 0 {
            Some(Rights(bits as u32))
        } else {
            None
        }
    }

    /// The set as bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Whether every right of `other` is in this set.
    #[inline]
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the two sets have a right in common.
    #[inline]
    pub const fn intersects(self, other: Rights) -> bool {
        self.0 & other.0 != 0
    }

    /// The rights that are in both sets.
    #[inline]
    pub const fn intersection(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }
}

impl BitOr for Rights {
    type Output = Rights;

    #[inline]
    fn bitor(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (right, name, ..) in Rights::ROWS {
            if self.contains(*right) {
                write!(formatter, "{separator}{name}")?;
                separator = "+";
            }
        }
        if separator.is_empty() {
            formatter.write_str("none")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn unknown_bits_are_refused() {
        assert_eq!(Rights::from_bits(1 << 15), None);
        assert_eq!(Rights::from_bits(u64::MAX), None);
        assert_eq!(Rights::from_bits(0b11), Some(Rights::READ | Rights::WRITE));
    }

    #[test]
    fn a_set_names_its_rights() {
        assert_eq!((Rights::SEND | Rights::READ).to_string(), "read+send");
        assert_eq!(Rights::NONE.to_string(), "none");
    }
}
