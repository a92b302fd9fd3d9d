//! What the holder of a handle may do with the object.

use core::fmt;
use core::ops::BitOr;

/// A set of rights; a handle carries one and a call is checked against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Rights(u32);

impl Rights {
    /// No right at all; the object can still be queried and the handle closed.
    pub const NONE: Rights = Rights(0);
    /// Memory: map it readable.
    pub const READ: Rights = Rights(1 << 0);
    /// Memory: map it writable.
    pub const WRITE: Rights = Rights(1 << 1);
    /// Memory: map it executable.
    pub const EXECUTE: Rights = Rights(1 << 2);
    /// Port: send to it.
    pub const SEND: Rights = Rights(1 << 3);
    /// Port: receive from it.
    pub const RECEIVE: Rights = Rights(1 << 4);
    /// Event: set its bits.
    pub const NOTIFY: Rights = Rights(1 << 5);
    /// Event: its word lies in the holder's vcpu page.
    pub const WAIT: Rights = Rights(1 << 6);
    /// Space: map into it and unmap from it.
    pub const MAP: Rights = Rights(1 << 7);
    /// Domain: end it.
    pub const STOP: Rights = Rights(1 << 8);
    /// Any object: copy the handle, and send it in a message.
    pub const GRANT: Rights = Rights(1 << 9);
    /// Timer: set its time.
    pub const ARM: Rights = Rights(1 << 10);
    /// Memory: closing the handle takes the pages back from everybody.
    pub const REVOKE: Rights = Rights(1 << 11);
    /// Domain: give it handles and a vcpu; closing the handle destroys it.
    pub const BUILD: Rights = Rights(1 << 12);
    /// Vcpu: let it run.
    pub const START: Rights = Rights(1 << 13);

    /// The three rights that `map` takes as access: read, write, execute.
    pub const ACCESS: Rights = Rights(0b111);

    /// The rights that stay with the domain that has them: no copy of a handle carries one.
    pub const BOUND: Rights = Rights(1 << 4 | 1 << 6 | 1 << 11 | 1 << 12);

    const ALL: u32 = (1 << 14) - 1;

    const NAMES: [(Rights, &'static str); 14] = [
        (Rights::READ, "read"),
        (Rights::WRITE, "write"),
        (Rights::EXECUTE, "execute"),
        (Rights::SEND, "send"),
        (Rights::RECEIVE, "receive"),
        (Rights::NOTIFY, "notify"),
        (Rights::WAIT, "wait"),
        (Rights::MAP, "map"),
        (Rights::STOP, "stop"),
        (Rights::GRANT, "grant"),
        (Rights::ARM, "arm"),
        (Rights::REVOKE, "revoke"),
        (Rights::BUILD, "build"),
        (Rights::START, "start"),
    ];

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
        for (right, name) in Rights::NAMES {
            if self.contains(right) {
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
        assert_eq!(Rights::from_bits(1 << 14), None);
        assert_eq!(Rights::from_bits(u64::MAX), None);
        assert_eq!(Rights::from_bits(0b11), Some(Rights::READ | Rights::WRITE));
    }

    #[test]
    fn a_set_names_its_rights() {
        assert_eq!((Rights::SEND | Rights::READ).to_string(), "read+send");
        assert_eq!(Rights::NONE.to_string(), "none");
    }
}
