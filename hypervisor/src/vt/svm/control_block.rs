//! The virtual machine control block, VMCB (AMD APM volume 2, appendix B), as typed fields over
//! words: what the CPU loads at an entry and stores at an exit.
//!
//! The CPU reads and writes the block too, so it is looked at as atomic words like every other
//! frame. Fields narrower than a word stand side by side in one and are written together.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::Words;
use crate::vt::start_state::{Segment, SegmentRegister};

/// A 64-bit word of the block, by its byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(usize);

impl Field {
    const fn at(offset: usize) -> Self {
        assert!(offset.is_multiple_of(8) && offset < 4096);
        Field(offset / 8)
    }
}

/// Intercepts of control registers in the lower half, of debug registers in the upper half: reads in
/// its lower 16 bits, writes in the others.
pub const INTERCEPT_REGISTERS: Field = Field::at(0x000);
/// Intercepts of exceptions, and vector 3 of those of instructions in the upper half.
pub const INTERCEPT_EXCEPTIONS_AND_3: Field = Field::at(0x008);
/// Vector 4 of the intercepts of instructions.
pub const INTERCEPT_4: Field = Field::at(0x010);
/// Physical base of the I/O permission map.
pub const IOPM_BASE: Field = Field::at(0x040);
/// Physical base of the MSR permission map.
pub const MSRPM_BASE: Field = Field::at(0x048);
/// Guest ASID in bits 0 to 31, TLB control in bits 32 to 39.
pub const ASID_AND_TLB_CONTROL: Field = Field::at(0x058);
/// The virtual interrupt, see [`VirtualInterrupt`].
pub const VIRTUAL_INTERRUPT: Field = Field::at(0x060);
/// Bit 0: the guest is in an interrupt shadow.
pub const INTERRUPT_SHADOW: Field = Field::at(0x068);
/// Why the guest stopped.
pub const EXIT_CODE: Field = Field::at(0x070);
/// What depends on the exit code.
pub const EXIT_INFO_1: Field = Field::at(0x078);
/// What depends on the exit code.
pub const EXIT_INFO_2: Field = Field::at(0x080);
/// The event that was being delivered when the exit came.
pub const EXIT_INTERRUPT_INFO: Field = Field::at(0x088);
/// Bit 0: nested paging.
pub const NESTED_CONTROL: Field = Field::at(0x090);
/// The event to deliver on entry.
pub const EVENT_INJECTION: Field = Field::at(0x0A8);
/// Root of the nested page tables.
pub const NESTED_CR3: Field = Field::at(0x0B0);
/// The address of the next instruction, on CPUs that say so.
pub const NEXT_RIP: Field = Field::at(0x0C8);

/// The segment registers, ES first.
const SEGMENTS: Field = Field::at(0x400);
/// The base of the guest's descriptor table.
pub const GDTR_BASE: Field = Field::at(0x468);
/// The privilege level, in bits 24 to 31.
pub const PRIVILEGE: Field = Field::at(0x4C8);
/// Extended features.
pub const EFER: Field = Field::at(0x4D0);

macro_rules! registers {
    ($( $name:ident = $offset:literal, )+) => { $(
        #[allow(missing_docs)]
        pub const $name: Field = Field::at($offset);
    )+ };
}

registers! {
    CR4 = 0x548, CR3 = 0x550, CR0 = 0x558, DR7 = 0x560, DR6 = 0x568, RFLAGS = 0x570, RIP = 0x578,
    RSP = 0x5D8, RAX = 0x5F8,
}

/// The guest's page-attribute table.
pub const GUEST_PAT: Field = Field::at(0x668);

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
        // A field's number is below 512 by its constructor; the mask says so to the compiler.
        self.0[field.0 & 511].load(Relaxed)
    }

    /// Writes a field.
    #[inline]
    pub fn set(self, field: Field, value: u64) {
        self.0[field.0 & 511].store(value, Relaxed);
    }

    /// Sets a segment register; the attributes are those of APM volume 2, section 15.5.1, without
    /// the four bits between the two halves of a descriptor's.
    pub fn set_segment(self, segment: &Segment) {
        let attributes = segment.access & 0xFF | segment.access >> 4 & 0xF00;
        let word = u64::from(segment.selector)
            | u64::from(attributes) << 16
            | u64::from(segment.limit) << 32;
        // Each has selector, attributes and limit in one word, and its base in the next.
        let first = SEGMENTS.0 + Self::segment_number(segment.register) * 2;
        self.set(Field(first), word);
        self.set(Field(first + 1), 0);
    }

    /// GDTR and IDTR lie in between.
    const fn segment_number(register: SegmentRegister) -> usize {
        match register {
            SegmentRegister::Ldtr => 7,
            SegmentRegister::Tr => 9,
            register => register as usize,
        }
    }

    /// Reads the word at that offset; `None` if it is none.
    pub fn word(self, offset: u32) -> Option<u64> {
        Some(self.0.get(offset as usize / 8)?.load(Relaxed))
    }

    /// Writes the word at that offset.
    pub fn set_word(self, offset: u32, value: u64) {
        self.set(Field(offset as usize / 8), value);
    }

    /// The guest's privilege level.
    #[inline]
    pub fn privilege(self) -> u8 {
        (self.get(PRIVILEGE) >> 24) as u8 & 3
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
