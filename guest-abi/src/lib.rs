#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod boot_info;
mod call;
mod clock;
mod create;
mod describe;
pub mod dictionary;
mod error;
mod event;
mod exit;
mod handle;
mod layout;
mod limits;
mod message;
mod note;
mod query;
mod raw;
mod rights;
mod ring;
mod run_state;
mod signature;
mod state;
mod stop;
mod table;
mod token;
mod verb;
mod version;

pub use boot_info::{
    BootInfo, Module, Name, NamedHandle, BOOT_INFO_MAGIC, COMMAND_LINE_BYTES, MAX_HANDLES,
    MAX_MODULES, MAX_VCPUS, NAME_BYTES,
};
pub use call::{Call, Deadline};
pub use clock::{ClockScale, TimePage, TimeWord, CLOCK_ENTRY_OFFSET, TIME_PAGE_WORDS};
pub use create::{Create, MAX_INTERVAL_NS};
pub use error::Error;
pub use event::{EventWord, Posted, VcpuPage, EVENT_SLOTS};
pub use exit::{Arrival, ExitKind, Resume, ResumeAction, VcpuExit, EXIT_WORDS};
pub use handle::{Handle, ObjectKind};
pub use layout::{Field, Form};
pub use limits::{Limit, LIMITS};
pub use message::{
    Header, Message, Outgoing, Transfer, MESSAGE_ALIGNMENT, MESSAGE_BYTES, MESSAGE_HANDLES,
    MESSAGE_WORDS, REGISTER_BYTES, REGISTER_WORDS,
};
pub use note::{ImageNote, NOTE_NAME, NOTE_TYPE};
pub use query::QueryItem;
pub use raw::{RawCall, Reply, MAX_ARGUMENTS, MAX_VALUES};
pub use rights::Rights;
pub use ring::{RingPage, RING_ENTRIES};
pub use run_state::RunState;
pub use signature::{Argument, KindArguments, Meaning, Register, Signature, Value};
pub use state::{StateGroups, StatePage, StateSegment, StateWord};
pub use stop::StopReason;
pub use token::CallToken;
pub use verb::Verb;
pub use version::{Version, VERSION};

/// Bytes in a page, the unit in which memory is mapped.
pub const PAGE_BYTES: u64 = 4096;

/// The largest capacity of a port.
pub const MAX_PORT_CAPACITY: u64 = 256;

/// The longest range that one `map` or `unmap` may name, in bytes (16 MiB).
///
/// It bounds how long one call can keep a CPU; a longer range takes several calls.
pub const MAP_LIMIT_BYTES: u64 = 16 << 20;
