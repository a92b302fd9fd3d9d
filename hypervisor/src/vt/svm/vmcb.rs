//! The virtual machine control block (AMD APM volume 2, appendix B), as typed fields over words.
//!
//! The CPU reads and writes the block too, so it is looked at as atomic words like every other
//! frame. Fields narrower than a word stand side by side in one and are written together.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::Words;

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
/// Intercepts of exceptions, in the upper half.
pub const INTERCEPT_EXCEPTIONS: Field = Field::at(0x008);
/// Intercepts of instructions: vector 3 in the lower half is at 0x00C, see [`Vmcb::intercept`].
pub const INTERCEPT_INSTRUCTIONS: Field = Field::at(0x010);
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

/// Segment registers: selector, attributes and limit here, the base in the next word.
pub const ES: Field = Field::at(0x400);
/// See [`ES`].
pub const CS: Field = Field::at(0x410);
/// See [`ES`].
pub const SS: Field = Field::at(0x420);
/// See [`ES`].
pub const DS: Field = Field::at(0x430);
/// See [`ES`].
pub const FS: Field = Field::at(0x440);
/// See [`ES`].
pub const GS: Field = Field::at(0x450);
/// See [`ES`].
pub const LDTR: Field = Field::at(0x470);
/// See [`ES`].
pub const TR: Field = Field::at(0x490);
/// The base of the guest's descriptor table.
pub const GDTR_BASE: Field = Field::at(0x468);
/// The privilege level, in bits 24 to 31.
pub const PRIVILEGE: Field = Field::at(0x4C8);
/// Extended features.
pub const EFER: Field = Field::at(0x4D0);
/// Control register.
pub const CR4: Field = Field::at(0x548);
/// Control register.
pub const CR3: Field = Field::at(0x550);
/// Control register.
pub const CR0: Field = Field::at(0x558);
/// Debug register.
pub const DR7: Field = Field::at(0x560);
/// Debug register.
pub const DR6: Field = Field::at(0x568);
/// Flags.
pub const RFLAGS: Field = Field::at(0x570);
/// Instruction pointer.
pub const RIP: Field = Field::at(0x578);
/// Stack pointer.
pub const RSP: Field = Field::at(0x5D8);
/// The accumulator.
pub const RAX: Field = Field::at(0x5F8);
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

    /// Sets which exceptions and instructions the hypervisor catches.
    pub fn intercept(self, exceptions: u32, instructions: [u32; 2]) {
        let [vector_3, vector_4] = instructions;
        self.set(
            INTERCEPT_EXCEPTIONS,
            u64::from(exceptions) | u64::from(vector_3) << 32,
        );
        self.set(INTERCEPT_INSTRUCTIONS, u64::from(vector_4));
    }

    /// Sets a segment register; `attributes` as in APM volume 2, section 15.5.1.
    pub fn set_segment(self, segment: Field, selector: u16, attributes: u16, limit: u32) {
        let word = u64::from(selector) | u64::from(attributes) << 16 | u64::from(limit) << 32;
        self.set(segment, word);
        self.set(Field(segment.0 + 1), 0);
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

    fn block() -> (Vmcb, &'static Words) {
        let words = Arena::leak(1, 1).words(Frame(1)).unwrap();
        (Vmcb::new(words), words)
    }

    fn bytes_at(words: &Words, offset: usize) -> [u8; 8] {
        words[offset / 8].load(Relaxed).to_le_bytes()
    }

    #[test]
    fn intercepts_lie_at_their_offsets() {
        let (vmcb, words) = block();
        vmcb.intercept(0x1111_2222, [0x3333_4444, 0x5555_6666]);
        assert_eq!(bytes_at(words, 0x008)[..4], 0x1111_2222u32.to_le_bytes());
        assert_eq!(bytes_at(words, 0x008)[4..], 0x3333_4444u32.to_le_bytes());
        assert_eq!(bytes_at(words, 0x010)[..4], 0x5555_6666u32.to_le_bytes());
    }

    #[test]
    fn segments_have_the_layout_of_the_manual() {
        let (vmcb, words) = block();
        vmcb.set_segment(CS, 8, 0xA9B, 0xFFFF_FFFF);
        assert_eq!(
            bytes_at(words, 0x410),
            [8, 0, 0x9B, 0x0A, 255, 255, 255, 255]
        );
    }

    #[test]
    fn the_privilege_level_is_the_byte_at_4cb() {
        let (vmcb, words) = block();
        words[0x4C8 / 8].store(u64::from_le_bytes([0, 0, 0, 3, 0, 0, 0, 0]), Relaxed);
        assert_eq!(vmcb.privilege(), 3);
    }
}
