//! From the boot loader to a machine that is described in the hypervisor's own types.
//!
//! `entry.S` (assembled into the binary) takes over from the loader in 32-bit mode; [`read`] turns
//! what the loader left in memory into a [`BootInformation`], whichever protocol it speaks; and
//! [`divide`] decides who owns which RAM and makes the [`Handover`] for the rest of the
//! hypervisor.
//!
//! Invariant: nothing in the loader's structures is trusted. A bad pointer, count or length ends
//! in a [`BootError`] that says what is wrong.

mod acpi;
mod bring_up;
mod error;
mod handover;
mod header;
mod identity;
mod information;
mod memory_map;
mod multiboot1;
mod multiboot2;
mod physical_bytes;
pub mod self_test;

pub use acpi::{pm_timer, processors, AcpiError};
pub use bring_up::{bring_up, BroughtUp};
pub use error::BootError;
pub use handover::{divide, BootModule, Division, Handover};
pub use header::{
    ARCHITECTURE_I386, MULTIBOOT1_CHECKSUM, MULTIBOOT1_FLAGS, MULTIBOOT1_MAGIC,
    MULTIBOOT2_CHECKSUM, MULTIBOOT2_LENGTH, MULTIBOOT2_MAGIC,
};
pub use identity::IdentityBytes;
pub use information::{read, BootInformation, LoadedModule};
pub use memory_map::{ram_pages, MemoryEntry, ADDRESS_LIMIT};
pub use physical_bytes::PhysicalBytes;
