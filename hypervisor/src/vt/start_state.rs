//! The state in which a guest starts: 64-bit mode with flat segments, the same on both vendors.

#![forbid(unsafe_code)]

use crate::mem::{Frame, GuestPhysical};

/// The state in which a virtual CPU starts, beyond what is the same for all.
#[derive(Clone, Copy, Debug)]
pub struct StartState {
    /// Root of the nested page tables.
    pub nested_root: Frame,
    /// First instruction.
    pub entry: GuestPhysical,
    /// Root of the guest's first page tables, which map its memory one to one.
    pub page_table: GuestPhysical,
    /// Stack pointer.
    pub stack: GuestPhysical,
    /// The first argument, in RDI.
    pub argument: GuestPhysical,
}

/// Protection, monitor coprocessor, extension type, numeric error, write protect, paging.
pub const CR0: u64 = 0x8001_0033;
/// Physical address extension, FXSAVE and SSE exceptions.
pub const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// SYSCALL, long mode enabled and active, no-execute pages.
pub const EFER: u64 = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11;
/// Interrupts are off; bit 1 is always 1.
pub const RFLAGS: u64 = 0x2;
/// Debug registers after reset (Intel SDM vol. 3, table 9-1).
pub const DR6: u64 = 0xFFFF_0FF0;
/// No breakpoint is on.
pub const DR7: u64 = 0x400;
/// The page-attribute table after reset (Intel SDM vol. 3, 11.12.4; AMD APM vol. 2, 7.8.2).
pub const PAGE_ATTRIBUTES: u64 = 0x0007_0406_0007_0406;

/// A segment register, by the number under which both vendors keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SegmentRegister {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

/// All of them, in the order of their numbers.
pub const SEGMENT_REGISTERS: [SegmentRegister; 8] = [
    SegmentRegister::Es,
    SegmentRegister::Cs,
    SegmentRegister::Ss,
    SegmentRegister::Ds,
    SegmentRegister::Fs,
    SegmentRegister::Gs,
    SegmentRegister::Ldtr,
    SegmentRegister::Tr,
];

/// What a segment register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which one.
    pub register: SegmentRegister,
    /// The selector.
    pub selector: u16,
    /// Bytes 5 and 6 of a descriptor: type, privilege and presence in bits 0 to 7, bits 8 to 11
    /// are 0, size and granularity above.
    pub access: u16,
    /// The last byte.
    pub limit: u32,
    /// The base.
    pub base: u64,
}

impl Segment {
    /// A register without the bit cannot be used.
    pub const PRESENT: u16 = 1 << 7;
    /// The bits of `access` that a descriptor does not use for the limit.
    pub const ACCESS: u16 = 0xF0FF;

    /// The privilege level.
    pub const fn privilege(&self) -> u8 {
        (self.access >> 5) as u8 & 3
    }

    /// The same with that privilege level.
    pub const fn with_privilege(self, privilege: u8) -> Self {
        Segment {
            access: self.access & !(3 << 5) | (privilege as u16 & 3) << 5,
            ..self
        }
    }

    /// 64-bit code, readable, accessed.
    const CODE: Segment = Segment {
        register: SegmentRegister::Cs,
        selector: 0x08,
        access: 0xA09B,
        limit: u32::MAX,
        base: 0,
    };
    /// A busy 64-bit task-state segment, which the CPU wants to see.
    const TASK: Segment = Segment {
        register: SegmentRegister::Tr,
        selector: 0,
        access: 0x008B,
        limit: 0xFFFF,
        base: 0,
    };
    /// No local descriptor table.
    const NO_TABLE: Segment = Segment {
        register: SegmentRegister::Ldtr,
        selector: 0,
        access: 0,
        limit: 0,
        base: 0,
    };

    /// Flat data, writable, accessed.
    const fn data(register: SegmentRegister) -> Segment {
        Segment {
            register,
            selector: 0x10,
            access: 0xC093,
            limit: u32::MAX,
            base: 0,
        }
    }
}

/// All segment registers.
pub const SEGMENTS: [Segment; 8] = [
    Segment::data(SegmentRegister::Es),
    Segment::CODE,
    Segment::data(SegmentRegister::Ss),
    Segment::data(SegmentRegister::Ds),
    Segment::data(SegmentRegister::Fs),
    Segment::data(SegmentRegister::Gs),
    Segment::NO_TABLE,
    Segment::TASK,
];
