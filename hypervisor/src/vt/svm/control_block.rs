//! The virtual machine control block, VMCB (AMD APM volume 2, appendix B), as the named fields of
//! [`fields`](crate::vt::fields::svm) over words: what the CPU loads at an entry and stores at an exit.
//!
//! The CPU reads and writes the block too, so it is looked at as atomic words like every other
//! frame. Fields narrower than a word stand side by side in one and are written together.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::Words;
use crate::vt::start_state::Segment;

pub use crate::vt::fields::svm::*;
pub use crate::vt::fields::Field;

/// A control block in a frame that its owner keeps.
#[derive(Clone, Copy)]
pub struct Vmcb(&'static Words);

impl Vmcb {
    /// Looks at a frame as a control block.
    pub const fn new(words: &'static Words) -> Self {
        Vmcb(words)
    }

    /// Reads a field.
    #[inline]
    pub fn get(self, field: Field) -> u64 {
        // A field lies in the page; the mask says so to the compiler.
        self.0[field.number as usize / 8 % 512].load(Relaxed)
    }

    /// Writes a field.
    #[inline]
    pub fn set(self, field: Field, value: u64) {
        self.0[field.number as usize / 8 % 512].store(value, Relaxed);
    }

    /// Sets a segment register.
    pub fn set_segment(self, segment: &Segment) {
        for (field, value) in segment.to_vmcb() {
            self.set(field, value);
        }
    }

    /// Reads the word at that offset; `None` if it is none.
    pub fn word(self, offset: u32) -> Option<u64> {
        Some(self.0.get(offset as usize / 8)?.load(Relaxed))
    }

    /// Writes the word at that offset.
    pub fn set_word(self, offset: u32, value: u64) {
        self.set(Field::word("any", offset), value);
    }

    /// The guest's privilege level.
    #[inline]
    pub fn privilege(self) -> u8 {
        (self.get(PRIVILEGE) >> 24) as u8 & 3
    }

    /// Sets the guest's privilege level.
    pub fn set_privilege(self, privilege: u8) {
        self.set(PRIVILEGE, u64::from(privilege) << 24);
    }
}

/// Bits of [`VIRTUAL_INTERRUPT`] (APM volume 2, section 15.21).
pub struct VirtualInterrupt;

impl VirtualInterrupt {
    /// The guest's task priority, which is its CR8.
    pub const PRIORITY: u64 = 0xFF;
    /// A virtual interrupt is pending; the CPU clears the bit when it delivers it.
    pub const PENDING: u64 = 1 << 8;
    /// It is delivered whatever the guest's task priority.
    pub const IGNORE_PRIORITY: u64 = 1 << 20;
    /// The guest's interrupt flag does not mask the hypervisor's interrupts.
    pub const MASKING: u64 = 1 << 24;
    /// Where the vector begins.
    pub const VECTOR_SHIFT: u32 = 32;

    /// The word that holds one back for as long as the guest masks interrupts.
    pub const fn pending(vector: u8) -> u64 {
        Self::MASKING
            | Self::IGNORE_PRIORITY
            | Self::PENDING
            | (vector as u64) << Self::VECTOR_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Frame, PhysicalMemory};
    use crate::vt::start_state::SEGMENTS as SEGMENTS_AT_START;

    fn block() -> (Vmcb, &'static Words) {
        let words = Arena::leak(1, 1).words(Frame(1)).unwrap();
        (Vmcb::new(words), words)
    }

    fn bytes_at(words: &Words, offset: usize) -> [u8; 8] {
        words[offset / 8].load(Relaxed).to_le_bytes()
    }

    #[test]
    fn segments_have_the_layout_of_the_manual() {
        let (vmcb, words) = block();
        for segment in &SEGMENTS_AT_START {
            vmcb.set_segment(segment);
        }
        let code = [8, 0, 0x9B, 0x0A, 255, 255, 255, 255];
        let data = [0x10, 0, 0x93, 0x0C, 255, 255, 255, 255];
        let task = [0, 0, 0x8B, 0, 255, 255, 0, 0];
        for (offset, expected) in [
            (0x400, data),
            (0x410, code),
            (0x450, data),
            (0x460, [0; 8]),
            (0x470, [0; 8]),
            (0x490, task),
        ] {
            assert_eq!(bytes_at(words, offset), expected, "{offset:#x}");
        }
    }

    #[test]
    fn the_privilege_level_is_the_byte_at_4cb() {
        let (vmcb, words) = block();
        words[0x4C8 / 8].store(u64::from_le_bytes([0, 0, 0, 3, 0, 0, 0, 0]), Relaxed);
        assert_eq!(vmcb.privilege(), 3);
    }
}
