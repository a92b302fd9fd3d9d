//! The information structure of multiboot version 1 (specification 0.6.96, section 3.3).

#![forbid(unsafe_code)]

use alloc::string::String;

use super::information::MAX_MODULES;
use super::physical_bytes::Record;
use super::{BootError, BootInformation, LoadedModule, PhysicalBytes};
use crate::mem::{HostPhysical, HostRange};

/// EAX at entry.
pub(super) const LOADER_MAGIC: u32 = 0x2BAD_B002;

const FLAG_COMMAND_LINE: u32 = 1 << 2;
const FLAG_MODULES: u32 = 1 << 3;
const FLAG_MEMORY_MAP: u32 = 1 << 6;

/// The structure up to the end of the memory map's fields, which is as far as it is read.
const INFORMATION_BYTES: u64 = 52;
const MODULE_ENTRY_BYTES: u64 = 16;
const MAX_MEMORY_MAP_BYTES: u64 = 64 * 1024;
/// The `size` field does not count itself.
const SIZE_FIELD_BYTES: u64 = 4;
const MEMORY_ENTRY_BYTES: u64 = 20;

pub(super) fn read(
    address: u32,
    memory: &impl PhysicalBytes,
) -> Result<BootInformation, BootError> {
    let mut information = BootInformation::default();
    let header = record(
        memory,
        &mut information,
        "information structure",
        address,
        INFORMATION_BYTES,
    );
    let flags = header.u32(0)?;
    if flags & FLAG_COMMAND_LINE != 0 {
        information.command_line = text(memory, &mut information, "command line", header.u32(16)?)?;
    }
    if flags & FLAG_MODULES != 0 {
        modules(memory, &mut information, header.u32(24)?, header.u32(20)?)?;
    }
    if flags & FLAG_MEMORY_MAP != 0 {
        memory_map(memory, &mut information, header.u32(48)?, header.u32(44)?)?;
    }
    Ok(information)
}

/// A structure that the loader put somewhere, noted as occupied.
fn record<'memory, Memory: PhysicalBytes>(
    memory: &'memory Memory,
    information: &mut BootInformation,
    what: &'static str,
    address: u32,
    length: u64,
) -> Record<'memory, Memory> {
    let start = u64::from(address);
    information
        .occupied
        .extend(HostRange::from_length(HostPhysical(start), length));
    Record::new(memory, what, start, length)
}

fn text<Memory: PhysicalBytes>(
    memory: &Memory,
    information: &mut BootInformation,
    what: &'static str,
    address: u32,
) -> Result<String, BootError> {
    let start = u64::from(address);
    let text = Record::new(memory, what, start, u64::MAX).text(0)?;
    // At least as many bytes as the text had: replaced bytes only make it longer.
    record(memory, information, what, address, text.len() as u64 + 1);
    Ok(text)
}

fn modules<Memory: PhysicalBytes>(
    memory: &Memory,
    information: &mut BootInformation,
    address: u32,
    count: u32,
) -> Result<(), BootError> {
    if u64::from(count) > MAX_MODULES as u64 {
        return Err(BootError::TooLarge {
            what: "module list",
            value: u64::from(count),
            limit: MAX_MODULES as u64,
        });
    }
    let length = u64::from(count).saturating_mul(MODULE_ENTRY_BYTES);
    let list = record(memory, information, "module list", address, length);
    for index in 0..u64::from(count) {
        let entry = list.part(
            "module list",
            index.saturating_mul(MODULE_ENTRY_BYTES),
            MODULE_ENTRY_BYTES,
        )?;
        let start = HostPhysical(u64::from(entry.u32(0)?));
        let end = HostPhysical(u64::from(entry.u32(4)?));
        let range = HostRange::new(start, end).ok_or(BootError::BackwardRange {
            what: "boot module",
        })?;
        let text = match entry.u32(8)? {
            0 => String::new(),
            string => text(memory, information, "module string", string)?,
        };
        information.add_module(LoadedModule { text, range })?;
    }
    Ok(())
}

fn memory_map<Memory: PhysicalBytes>(
    memory: &Memory,
    information: &mut BootInformation,
    address: u32,
    length: u32,
) -> Result<(), BootError> {
    let length = u64::from(length);
    if length > MAX_MEMORY_MAP_BYTES {
        return Err(BootError::TooLarge {
            what: "memory map",
            value: length,
            limit: MAX_MEMORY_MAP_BYTES,
        });
    }
    let map = record(memory, information, "memory map", address, length);
    let mut offset = 0u64;
    while offset < map.length() {
        let size = u64::from(map.u32(offset)?);
        if size < MEMORY_ENTRY_BYTES {
            return Err(BootError::Truncated { what: "memory map" });
        }
        let entry = map.part("memory map", offset.saturating_add(SIZE_FIELD_BYTES), size)?;
        information.add_memory(entry.u64(0)?, entry.u64(8)?, entry.u32(16)?)?;
        offset = offset.saturating_add(SIZE_FIELD_BYTES).saturating_add(size);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::information;
    use super::super::physical_bytes::FakeMemory;
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const BASE: u32 = 0x9000;

    /// A loader's structures as they lie in memory: the information structure, two modules (the
    /// second empty and without a string), a memory map and the texts.
    fn loaded() -> FakeMemory {
        let mut bytes = vec![0; 0x400];
        let mut put = |offset: usize, words: &[u32]| {
            for (index, word) in words.iter().enumerate() {
                bytes[offset + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
            }
        };
        put(0, &[FLAG_COMMAND_LINE | FLAG_MODULES | FLAG_MEMORY_MAP]);
        put(16, &[BASE + 0x300, 2, BASE + 0x100]);
        put(44, &[48, BASE + 0x200]);
        put(0x100, &[0x20_0000, 0x20_1234, BASE + 0x320, 0]);
        put(0x110, &[0x20_2000, 0x20_2000, 0, 0]);
        put(0x200, &[20, 0, 0, 0x9_fc00, 0, 1]);
        put(0x218, &[20, 0x10_0000, 0, 0x7f0_0000, 0, 2]);
        bytes[0x300..0x30a].copy_from_slice(b"/hv test=1");
        bytes[0x320..0x329].copy_from_slice(b"/a/b plan");
        FakeMemory {
            base: u64::from(BASE),
            bytes,
        }
    }

    #[test]
    fn everything_that_is_used_is_read() {
        let information = information::read(LOADER_MAGIC, BASE, &loaded()).unwrap();
        assert_eq!(information.command_line, "/hv test=1");
        let modules: Vec<_> = information
            .modules
            .iter()
            .map(|module| {
                (
                    module.text.as_str(),
                    module.range.start().0,
                    module.range.length(),
                )
            })
            .collect();
        assert_eq!(
            modules,
            [("/a/b plan", 0x20_0000, 0x1234), ("", 0x20_2000, 0)]
        );
        assert_eq!(information.memory.len(), 2);
        assert!(information.memory[0].is_ram && !information.memory[1].is_ram);
        assert_eq!(information.memory[1].range.length(), 0x7f0_0000);
        assert!(information
            .occupied
            .iter()
            .any(|range| range.contains(HostPhysical(u64::from(BASE) + 0x328))));
    }

    #[test]
    fn a_map_that_is_cut_short_is_an_error() {
        let mut memory = loaded();
        memory.bytes[44] = 47;
        assert_eq!(
            read(BASE, &memory),
            Err(BootError::Truncated { what: "memory map" })
        );
        // An entry of size 0 must not be read for ever.
        memory.bytes[0x200] = 0;
        assert!(read(BASE, &memory).is_err());
    }

    #[test]
    fn a_module_that_ends_before_it_begins_is_an_error() {
        let mut memory = loaded();
        memory.bytes[0x106] = 0x1f;
        assert_eq!(
            read(BASE, &memory),
            Err(BootError::BackwardRange {
                what: "boot module"
            })
        );
    }

    #[test]
    fn no_map_is_an_error() {
        let mut memory = loaded();
        memory.bytes[0] &= !(FLAG_MEMORY_MAP as u8);
        assert_eq!(
            information::read(LOADER_MAGIC, BASE, &memory),
            Err(BootError::Missing { what: "memory map" })
        );
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((0usize..0x400, any::<u8>()), 1..30), cut in 0usize..0x400) {
            let mut memory = loaded();
            for (offset, byte) in changes {
                memory.bytes[offset] = byte;
            }
            memory.bytes.truncate(cut.max(60));
            let _ = information::read(LOADER_MAGIC, BASE, &memory);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), address in 0u32..64) {
            let memory = FakeMemory { base: 0, bytes };
            let _ = information::read(LOADER_MAGIC, address, &memory);
        }
    }
}
