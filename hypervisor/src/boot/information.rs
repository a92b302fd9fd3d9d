//! What a boot loader hands over, in a form that both protocols fit into.

#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use super::{multiboot1, multiboot2, BootError, MemoryEntry, PhysicalBytes};
use crate::mem::{HostPhysical, HostRange};

/// Most modules that are accepted: enough for 64 domains that share no file of an image and 15 modules
/// each. More means that the count is garbage.
pub(super) const MAX_MODULES: usize = 1100;
/// Most entries that a memory map can have; firmware gives a few dozen.
pub(super) const MAX_MEMORY_ENTRIES: usize = 1024;

/// A file that the loader put into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedModule {
    /// The text that goes with it in the loader's configuration.
    pub text: String,
    /// Where it lies; may be empty.
    pub range: HostRange,
}

/// Everything that the loader says, checked for form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootInformation {
    /// The hypervisor's command line.
    pub command_line: String,
    /// The modules in the loader's order.
    pub modules: Vec<LoadedModule>,
    /// The firmware's memory map.
    pub memory: Vec<MemoryEntry>,
    /// Where the loader's own structures lie.
    pub occupied: Vec<HostRange>,
    /// Where the loader has a copy of the root pointer of the ACPI tables, if it has one.
    pub acpi_root_pointer: Option<u64>,
}

impl BootInformation {
    pub(super) fn add_module(&mut self, module: LoadedModule) -> Result<(), BootError> {
        if self.modules.len() >= MAX_MODULES {
            return Err(BootError::TooLarge {
                what: "module list",
                value: self.modules.len() as u64 + 1,
                limit: MAX_MODULES as u64,
            });
        }
        self.modules.push(module);
        Ok(())
    }

    /// Adds an entry of the firmware's map, whose type is 1 for usable RAM in both protocols. An
    /// entry that goes past the last address says nothing that can be used and is left out.
    pub(super) fn add_memory(
        &mut self,
        start: u64,
        length: u64,
        kind: u32,
    ) -> Result<(), BootError> {
        if self.memory.len() >= MAX_MEMORY_ENTRIES {
            return Err(BootError::TooLarge {
                what: "memory map",
                value: self.memory.len() as u64 + 1,
                limit: MAX_MEMORY_ENTRIES as u64,
            });
        }
        if let Some(range) = HostRange::from_length(HostPhysical(start), length) {
            self.memory.push(MemoryEntry {
                range,
                is_ram: kind == 1,
            });
        }
        Ok(())
    }
}

/// Reads the boot information of whichever protocol `magic` (EAX at entry) stands for, at the
/// address that EBX held.
pub fn read(
    magic: u32,
    address: u32,
    memory: &impl PhysicalBytes,
) -> Result<BootInformation, BootError> {
    let information = match magic {
        multiboot1::LOADER_MAGIC => multiboot1::read(address, memory)?,
        multiboot2::LOADER_MAGIC => multiboot2::read(address, memory)?,
        magic => return Err(BootError::UnknownLoader { magic }),
    };
    if information.memory.is_empty() {
        return Err(BootError::Missing { what: "memory map" });
    }
    Ok(information)
}

#[cfg(test)]
mod tests {
    use super::super::physical_bytes::FakeMemory;
    use super::*;

    #[test]
    fn other_loaders_are_named_in_the_error() {
        let memory = FakeMemory {
            base: 0,
            bytes: Vec::new(),
        };
        let error = read(0x1234, 0, &memory).unwrap_err();
        assert_eq!(error, BootError::UnknownLoader { magic: 0x1234 });
    }

    #[test]
    fn an_entry_past_the_end_of_the_address_space_is_left_out() {
        let mut information = BootInformation::default();
        information.add_memory(u64::MAX, 2, 1).unwrap();
        assert!(information.memory.is_empty());
        information.add_memory(0, 2, 2).unwrap();
        assert!(!information.memory[0].is_ram);
    }

    #[test]
    fn counts_have_limits() {
        let mut information = BootInformation::default();
        for _ in 0..MAX_MEMORY_ENTRIES {
            information.add_memory(0, 1, 1).unwrap();
        }
        assert!(information.add_memory(0, 1, 1).is_err());
    }
}
