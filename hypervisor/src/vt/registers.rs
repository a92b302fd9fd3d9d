//! The general registers that no control block keeps.

use core::mem::offset_of;

/// The guest's general registers but RAX and RSP, as the world switch stores them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Registers {
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

impl Registers {
    /// The arguments of a call, in the order of the ABI: RDI, RSI, RDX, R10, R8.
    #[inline]
    pub const fn arguments(&self) -> [u64; 5] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8]
    }

    /// Stores the values of a reply: RDX, R10, R8, RDI, RSI.
    #[inline]
    pub fn set_values(&mut self, values: &[u64; 5]) {
        [self.rdx, self.r10, self.r8, self.rdi, self.rsi] = *values;
    }

    /// Stores the two values of a short reply: RDX, R10.
    #[inline]
    pub fn set_pair(&mut self, first: u64, second: u64) {
        self.rdx = first;
        self.r10 = second;
    }
}

// The world switches address the fields by their number.
const _: () = assert!(offset_of!(Registers, rdi) == 4 * 8 && offset_of!(Registers, r15) == 13 * 8);
