//! Guest- and host-physical addresses and frame numbers, each a type of its own.

use core::fmt;

/// Bytes in a page, as a shift.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;

/// An address in a guest's physical address space. Nothing can be read through it without a
/// translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GuestPhysical(pub u64);

/// An address in the machine's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct HostPhysical(pub u64);

/// The number of a 4 KiB frame of the machine's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(pub u64);

impl GuestPhysical {
    /// Whether the address is that of a page's first byte.
    pub const fn is_page_aligned(self) -> bool {
        self.0 & (PAGE_BYTES - 1) == 0
    }

    /// The offset inside its page, in bytes.
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_BYTES - 1)
    }
}

impl HostPhysical {
    /// The frame that holds the address.
    pub const fn frame(self) -> Frame {
        Frame(self.0 >> PAGE_SHIFT)
    }
}

impl Frame {
    /// The address of the frame's first byte.
    pub const fn start(self) -> HostPhysical {
        HostPhysical(self.0 << PAGE_SHIFT)
    }

    /// The frame `count` further on.
    pub const fn offset(self, count: u64) -> Frame {
        Frame(self.0.saturating_add(count))
    }
}

impl fmt::LowerHex for GuestPhysical {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, formatter)
    }
}

impl fmt::LowerHex for HostPhysical {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, formatter)
    }
}
