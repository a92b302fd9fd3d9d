//! Why the machine that the boot loader describes cannot be used.

#![forbid(unsafe_code)]

use alloc::string::{String, ToString};
use core::fmt;

use crate::cpu::Refusal;

const MIB: u64 = 1 << 20;

/// What is wrong with the boot information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The magic number in EAX is that of no protocol.
    UnknownLoader {
        /// The number.
        magic: u32,
    },
    /// A structure lies where no memory can be read.
    Unreadable {
        /// Which structure.
        what: &'static str,
        /// The address of the read that failed.
        address: u64,
    },
    /// A structure ends before something that belongs to it.
    Truncated {
        /// Which structure.
        what: &'static str,
    },
    /// A length or count is larger than any sensible one.
    TooLarge {
        /// Which structure.
        what: &'static str,
        /// What it says.
        value: u64,
        /// The largest that is accepted.
        limit: u64,
    },
    /// A range ends before it begins.
    BackwardRange {
        /// Whose range.
        what: &'static str,
    },
    /// A text has no end.
    EndlessText {
        /// The structure in which it lies.
        what: &'static str,
    },
    /// Something that the hypervisor needs was not handed over.
    Missing {
        /// What.
        what: &'static str,
    },
    /// A module lies where none can be.
    MisplacedModule {
        /// The module.
        name: String,
        /// Its address.
        start: u64,
        /// What is wrong with the place.
        problem: &'static str,
    },
    /// Two modules have one name.
    SameName {
        /// The name.
        name: String,
    },
    /// No stretch of RAM is large enough for the hypervisor's heap.
    NoRoom {
        /// The size of the heap.
        heap_bytes: u64,
        /// The size of the largest free stretch that could be used.
        largest_bytes: u64,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::UnknownLoader { magic } => write!(
                formatter,
                "the boot loader speaks neither multiboot nor multiboot2 (EAX was {magic:#x})"
            ),
            BootError::Unreadable { what, address } => write!(
                formatter,
                "the boot loader's {what} cannot be read at {address:#x}"
            ),
            BootError::Truncated { what } => {
                write!(formatter, "the boot loader's {what} is cut short")
            }
            BootError::TooLarge { what, value, limit } => write!(
                formatter,
                "the boot loader's {what} has size {value}; at most {limit} can be"
            ),
            BootError::BackwardRange { what } => {
                write!(formatter, "a {what} ends before it begins")
            }
            BootError::EndlessText { what } => {
                write!(formatter, "a text in the boot loader's {what} has no end")
            }
            BootError::Missing { what } => {
                write!(formatter, "the boot loader handed over no {what}")
            }
            BootError::MisplacedModule {
                name,
                start,
                problem,
            } => write!(formatter, "boot module '{name}' at {start:#x} {problem}"),
            BootError::SameName { name } => write!(
                formatter,
                "two boot modules are named '{name}'; give each a name of its own"
            ),
            BootError::NoRoom {
                heap_bytes,
                largest_bytes,
            } => write!(
                formatter,
                "the hypervisor needs {} MiB of free RAM in one piece below 4 GiB, and the largest \
                 piece has {} MiB; give the machine more memory or smaller modules",
                heap_bytes.div_ceil(MIB),
                largest_bytes / MIB
            ),
        }
    }
}

impl From<BootError> for Refusal {
    fn from(error: BootError) -> Self {
        Refusal {
            code: "bad-boot",
            text: error.to_string(),
        }
    }
}
