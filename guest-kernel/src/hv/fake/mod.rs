//! Two hypervisors for tests on the host.
//!
//! [`Script`] expects certain calls and gives prepared replies. [`World`] is a small model of
//! domains, ports, events and memory, in which programs run as threads on a simulated clock.

mod blocking;
mod machine;
mod script;
mod verbs;
mod world;

use nuncio_abi::{BootInfo, Handle, Name, NamedHandle, ObjectKind, Rights};

pub use machine::{FakeMachine, FakeView};
pub use script::Script;
pub use world::{DomainId, ObjectId, World};

/// An entry for the table of handles; the handle has generation 1.
///
/// # Panics
/// If the name is longer than 31 bytes.
pub fn named(name: &str, index: u16, kind: ObjectKind, rights: Rights, slot: u8) -> NamedHandle {
    let name = Name::new(name).expect("a name of at most 31 bytes");
    NamedHandle::new(name, Handle::new(index, 1), kind, rights, slot)
}

/// A boot-info page with these handles.
///
/// # Panics
/// If there are more than 40.
pub fn boot_info(handles: &[NamedHandle]) -> BootInfo {
    let mut boot = BootInfo::EMPTY;
    boot.handles[..handles.len()].copy_from_slice(handles);
    boot.handle_count = handles.len() as u64;
    boot
}
