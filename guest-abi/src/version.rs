//! The version of the ABI and the rule of compatibility.

use core::fmt;

/// The ABI version that this crate describes.
pub const VERSION: Version = Version { major: 0, minor: 2 };

/// A version of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Grows when something that worked no longer does.
    pub major: u16,
    /// Grows when something is added.
    pub minor: u16,
}

impl Version {
    /// The version as it stands in a register or an image note: the major number in bits 16 to 31.
    #[inline]
    pub const fn to_raw(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }

    /// Reads the form that [`Version::to_raw`] writes.
    #[inline]
    pub const fn from_raw(raw: u32) -> Self {
        Version {
            major: (raw >> 16) as u16,
            minor: raw as u16,
        }
    }

    /// Whether a hypervisor of this version runs a guest built for `guest`.
    ///
    /// The major numbers must be equal and the guest's minor number must not be the larger one.
    /// While the major number is 0 the ABI is still moving, and the minor numbers must be equal.
    #[inline]
    pub const fn serves(self, guest: Version) -> bool {
        self.major == guest.major
            && (self.minor == guest.minor || (self.major != 0 && guest.minor < self.minor))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn version(major: u16, minor: u16) -> Version {
        Version { major, minor }
    }

    #[test]
    fn the_rule_of_compatibility() {
        assert!(version(0, 1).serves(version(0, 1)));
        assert!(!version(0, 2).serves(version(0, 1)));
        assert!(version(1, 2).serves(version(1, 0)));
        assert!(!version(1, 2).serves(version(1, 3)));
        assert!(!version(2, 0).serves(version(1, 0)));
    }

    #[test]
    fn raw_and_back() {
        let original = version(3, 7);
        assert_eq!(Version::from_raw(original.to_raw()), original);
        assert_eq!(original.to_raw(), 0x0003_0007);
    }
}
