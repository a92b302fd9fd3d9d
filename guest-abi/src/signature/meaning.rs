//! What the register of an argument can hold.

use core::fmt;

use crate::{ObjectKind, Rights, VERSION};

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A version of the ABI.
    Version,
    /// A handle.
    Handle {
        /// Of which kind of object, one of these; none for any.
        kinds: &'static [ObjectKind],
        /// With which rights; for the memory of a `map`, those that the access asks for.
        rights: Rights,
    },
    /// The header of a message.
    Header,
    /// The header of a `send`: with [`crate::Header::WAIT`] the last of its words is a deadline.
    SendHeader,
    /// The header of an answer, with a token.
    ReplyHeader,
    /// The words of a message, or the address at which it lies, as the header says.
    Words,
    /// A point on the system clock in nanoseconds.
    Deadline,
    /// A guest-physical address, or 0 for none.
    Address,
    /// An offset in a memory, in bytes.
    Offset,
    /// A length in bytes.
    Length,
    /// A length in bytes, and access in bits 0 to 2.
    LengthAndAccess,
    /// Bits of an event.
    Bits,
    /// An exit code.
    Code,
    /// The number of an item of `query`.
    Item,
    /// The number of a kind of object; further arguments depend on it.
    Kind,
    /// Messages that a port can hold.
    Capacity,
    /// A slot of the vcpu page.
    Slot,
    /// The least nanoseconds between two postings through an event, or 0.
    Interval,
    /// A set of rights.
    RightSet,
    /// A badge.
    Badge,
    /// Frames of 4096 bytes.
    Frames,
    /// Bytes of the hypervisor's memory.
    KernelBytes,
    /// Bits of the event in the register before; zero without one.
    BitsOfEvent,
    /// A stack pointer.
    StackPointer,
    /// What a vcpu finds in its first argument register.
    FirstArgument,
    /// The guest-physical address of page tables, a multiple of 4096.
    PageTable,
    /// A port that is told of the exits of a vcpu that has a state page, or 0 for none.
    Monitor,
    /// How a vcpu goes on.
    Resume,
    /// The results of the instruction at which a vcpu has stopped.
    Results,
    /// How many entries of a ring.
    Entries,
    /// A priority, or `u64::MAX` for none.
    Priority,
    /// A budget and its period in nanoseconds; zeros or `u64::MAX` twice for none.
    Budget,
    /// The number of a CPU, or `u64::MAX` for none.
    Cpu,
}

/// Not a handle: any of bits 32 to 63 is set.
const WIDE: u64 = 1 << 32;
const PAGE: u64 = crate::PAGE_BYTES;

impl Meaning {
    /// What the specification says of the register, in its first words or behind an article.
    pub const fn text(self) -> &'static str {
        match self {
            Meaning::Version => "the version for which the guest was built",
            Meaning::Handle { .. } => "handle",
            Meaning::Header | Meaning::SendHeader | Meaning::ReplyHeader => "header",
            Meaning::Words => "in registers",
            Meaning::Deadline => "deadline",
            Meaning::Address => "guest-physical address",
            Meaning::Offset => "offset",
            Meaning::Length => "length in bytes",
            Meaning::LengthAndAccess => "length in bytes in bits 12 to 63; access in bits 0 to 2",
            Meaning::Bits => "the bits",
            Meaning::Code => "exit code",
            Meaning::Item => "the number of an item",
            Meaning::Kind => "the number of the kind",
            Meaning::Capacity => "capacity in messages",
            Meaning::Slot => "slot of the vcpu page",
            Meaning::Interval => "least nanoseconds",
            Meaning::RightSet => "the rights",
            Meaning::Badge => "the badge",
            Meaning::Frames => "frames",
            Meaning::KernelBytes => "bytes of the hypervisor's memory",
            Meaning::BitsOfEvent => "the bits of it",
            Meaning::StackPointer => "its stack pointer",
            Meaning::FirstArgument => "what it finds in RDI",
            Meaning::PageTable => "guest-physical address of its first page tables",
            Meaning::Monitor => "port, with send",
            Meaning::Resume => "how it goes on",
            Meaning::Results => "results",
            Meaning::Entries => "the most entries",
            Meaning::Priority => "its priority",
            Meaning::Budget => "its budget and the period of it in nanoseconds",
            Meaning::Cpu => "the number of its CPU",
        }
    }

    /// Words that are worth trying in such a register: the first one is well formed, behind it
    /// are the edges of what is, and what is just beyond them.
    pub const fn words(self) -> &'static [u64] {
        const VERSION_WORD: u64 = VERSION.to_raw() as u64;
        match self {
            Meaning::Version => &[VERSION_WORD, 0, VERSION_WORD + 1, 1 << 16, WIDE - 1, WIDE],
            // The first places of a table in their first generation, and what is no handle.
            Meaning::Handle { .. } | Meaning::Monitor => &[
                0x1_0000,
                0x1_0001,
                0x1_0002,
                0x1_0003,
                0x1_0004,
                0x1_0005,
                0x1_03FF,
                0x1_FFFF,
                0x2_0000,
                0,
                WIDE - 1,
                WIDE,
                WIDE | 0x1_0000,
            ],
            // Bytes, bytes in memory, handles, and one more than fits each time.
            Meaning::Header => &[
                0x000, 0x001, 0x008, 0x010, 0x011, 0x018, 0x019, 0x040, 0x080, 0x0C0, 0x0C1, 0x100,
                0x108, 0x180, 0x200, 0x300, 0x400, 0x4C0, 0x500, 0x5C0, 0x800, WIDE,
            ],
            // With room and without, and with one word more than fits beside a deadline.
            Meaning::SendHeader => &[
                0x000, 0x001, 0x008, 0x010, 0x011, 0x018, 0x019, 0x040, 0x080, 0x0C0, 0x0C1, 0x100,
                0x108, 0x180, 0x200, 0x300, 0x400, 0x4C0, 0x500, 0x5C0, 0x800, 0x810, 0x811, 0x880,
                0x8C0, 0x900, 0xB00, 0xCC0, 0xDC0, 0x1000, WIDE,
            ],
            // With and without the next message, and without a token.
            Meaning::ReplyHeader => &[
                0x1_0000_0000_0000,
                0x1_0000_0000_0800,
                0x1_0000_0000_0018,
                0x1_0000_0000_08C0,
                0x1_0000_0000_04C0,
                0x1_0000_0000_1000,
                0x1_0000_8000_0000,
                u64::MAX << 32,
                0,
                0x800,
            ],
            // As bytes, as an address, as a handle with rights.
            Meaning::Words => &[
                0,
                1,
                0x80,
                0x100,
                PAGE,
                0x1F_FF80,
                0x20_0000,
                0x200_0001_0000,
                0x208_0001_0003,
                1 << 63,
                u64::MAX,
            ],
            Meaning::Deadline => &[0, 1, 1_000_000_000, u64::MAX - 1, u64::MAX],
            Meaning::Address => &[
                0,
                1,
                0x40,
                0x80,
                PAGE,
                0x20_0000,
                0x4000_0000,
                (1 << 47) - PAGE,
                1 << 47,
                1 << 52,
                u64::MAX - PAGE + 1,
                u64::MAX,
            ],
            Meaning::Offset => &[0, PAGE, 1, u64::MAX - PAGE + 1],
            Meaning::Length => &[
                PAGE,
                0,
                1,
                crate::MAP_LIMIT_BYTES,
                crate::MAP_LIMIT_BYTES + PAGE,
                u64::MAX - PAGE + 1,
                u64::MAX,
            ],
            Meaning::LengthAndAccess => &[
                PAGE | 1,
                PAGE | 3,
                PAGE | 7,
                PAGE,
                PAGE | 2,
                PAGE | 9,
                1,
                crate::MAP_LIMIT_BYTES | 1,
                (crate::MAP_LIMIT_BYTES + PAGE) | 1,
                (u64::MAX - PAGE + 1) | 1,
                u64::MAX,
            ],
            Meaning::Bits | Meaning::Badge | Meaning::BitsOfEvent => &[1, 0, 2, 1 << 63, u64::MAX],
            Meaning::Frames => &[8, 0, 1, 1 << 40, u64::MAX],
            Meaning::KernelBytes => &[0x8000, 0, 1, 0x1000, 1 << 40, u64::MAX],
            Meaning::StackPointer | Meaning::FirstArgument => &[0x2000, 0, 1, 1 << 47, u64::MAX],
            Meaning::PageTable => &[
                PAGE,
                0,
                1,
                PAGE + 1,
                1 << 47,
                1 << 52,
                u64::MAX - PAGE + 1,
                u64::MAX,
            ],
            // Both actions, an interrupt, exceptions with and without an error code, and stray bits.
            Meaning::Resume => &[
                0,
                1,
                2,
                0x1_2000,
                0x2_0600,
                0x6_0D00,
                0x2_0D00,
                0x6_0600,
                0x2_0200,
                0x3_2000,
                0x100,
                0x8_0000,
                WIDE,
                u64::MAX,
            ],
            Meaning::Results => &[0, 1, 0x61, u64::MAX],
            Meaning::Entries => &[
                1,
                2,
                crate::RING_ENTRIES as u64,
                0,
                crate::RING_ENTRIES as u64 + 1,
                WIDE | 1,
                u64::MAX,
            ],
            Meaning::Priority => &[u64::MAX, 0, 32, 63, 64, WIDE],
            Meaning::Budget => &[
                crate::MIN_PERIOD_NS,
                u64::MAX,
                0,
                crate::MIN_BUDGET_NS,
                crate::MIN_BUDGET_NS - 1,
                crate::MIN_PERIOD_NS - 1,
                crate::MAX_PERIOD_NS,
                crate::MAX_PERIOD_NS + 1,
            ],
            Meaning::Cpu => &[u64::MAX, 0, 1, 255, 256, WIDE],
            Meaning::Code => &[0, 1, u64::MAX],
            Meaning::Item => &[0, 1, 2, 3, 4, WIDE, u64::MAX],
            Meaning::Kind => &[4, 5, 6, 7, 1, 2, 3, 0, 8, WIDE | 4, u64::MAX],
            Meaning::Capacity => &[1, crate::MAX_PORT_CAPACITY, 0, crate::MAX_PORT_CAPACITY + 1],
            Meaning::Slot => &[0, 1, 63, 64, u64::MAX],
            Meaning::Interval => &[
                0,
                1,
                1_000_000,
                crate::MAX_INTERVAL_NS,
                crate::MAX_INTERVAL_NS + 1,
                u64::MAX,
            ],
            Meaning::RightSet => &[0, 1, 7, 8, 0x10, 0x40, 0x200, 0x7FFF, 0x8000, 1 << 31, WIDE],
        }
    }
}

/// `port, with send`; `deadline`.
impl fmt::Display for Meaning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Meaning::Handle { kinds, rights } => {
                if kinds.is_empty() {
                    formatter.write_str("any handle")?;
                }
                for (index, kind) in kinds.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " or " };
                    write!(formatter, "{separator}{kind}")?;
                }
                if *rights != Rights::NONE {
                    write!(formatter, ", with {rights}")?;
                }
                Ok(())
            }
            Meaning::Words => formatter.write_str("words of the message, or its address and zeros"),
            _ => formatter.write_str(self.text()),
        }
    }
}
