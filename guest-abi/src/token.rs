//! Which call a `reply` answers.

/// Names a call among those that were received from one port and not answered yet. It means
/// nothing to any other port, and once the call is answered nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct CallToken(u32);

impl CallToken {
    /// A token from a place among the calls and the generation of that place, which is not 0.
    #[inline]
    pub const fn new(index: u16, generation: u16) -> Self {
        CallToken((generation as u32) << 16 | index as u32)
    }

    /// The token in the upper half of a message's header; `None` if the message is no call.
    #[inline]
    pub const fn from_header(header: u64) -> Option<Self> {
        match (header >> 32) as u32 {
            0 => None,
            raw => Some(CallToken(raw)),
        }
    }

    /// The token as it stands in a header.
    #[inline]
    pub const fn to_header(self) -> u64 {
        (self.0 as u64) << 32
    }

    /// The place among the port's calls.
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
