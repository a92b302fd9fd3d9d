//! The information structure of multiboot version 2 (specification 2.0, section 3.6): tags, each
//! with a type and a size, padded to 8 bytes.

#![forbid(unsafe_code)]

use super::physical_bytes::Record;
use super::{BootError, BootInformation, LoadedModule, PhysicalBytes};
use crate::mem::{HostPhysical, HostRange};

/// EAX at entry.
pub(super) const LOADER_MAGIC: u32 = 0x36D7_6289;

const TAG_END: u32 = 0;
const TAG_COMMAND_LINE: u32 = 1;
const TAG_MODULE: u32 = 3;
const TAG_MEMORY_MAP: u32 = 6;
/// Copies of the ACPI root pointer, as of version 1.0 and of later ones.
const TAG_ACPI_OLD: u32 = 14;
const TAG_ACPI_NEW: u32 = 15;

const TAG_HEADER_BYTES: u64 = 8;
const MEMORY_ENTRY_BYTES: u64 = 24;
/// Far more than any loader uses (the ACPI tables' copies and ELF symbols are the largest parts).
const MAX_INFORMATION_BYTES: u64 = 16 << 20;

const WHAT: &str = "information structure";

pub(super) fn read(
    address: u32,
    memory: &impl PhysicalBytes,
) -> Result<BootInformation, BootError> {
    let start = u64::from(address);
    let total_bytes = u64::from(Record::new(memory, WHAT, start, 8).u32(0)?);
    if total_bytes > MAX_INFORMATION_BYTES {
        return Err(BootError::TooLarge {
            what: WHAT,
            value: total_bytes,
            limit: MAX_INFORMATION_BYTES,
        });
    }
    let mut information = BootInformation::default();
    information
        .occupied
        .extend(HostRange::from_length(HostPhysical(start), total_bytes));
    let tags = Record::new(memory, WHAT, start, total_bytes);
    let mut offset = 8u64;
    loop {
        let kind = tags.u32(offset)?;
        let size = u64::from(tags.u32(offset.saturating_add(4))?);
        if kind == TAG_END {
            return Ok(information);
        }
        if size < TAG_HEADER_BYTES {
            return Err(BootError::Truncated { what: WHAT });
        }
        let tag = tags.part(name(kind), offset, size)?;
        add_tag(&mut information, kind, &tag)?;
        offset = offset.saturating_add(size).next_multiple_of(8);
    }
}

const fn name(kind: u32) -> &'static str {
    match kind {
        TAG_COMMAND_LINE => "command line",
        TAG_MODULE => "module tag",
        TAG_MEMORY_MAP => "memory map",
        _ => WHAT,
    }
}

fn add_tag<Memory: PhysicalBytes>(
    information: &mut BootInformation,
    kind: u32,
    tag: &Record<'_, Memory>,
) -> Result<(), BootError> {
    match kind {
        TAG_COMMAND_LINE => information.command_line = tag.text(8)?,
        TAG_MODULE => {
            let start = HostPhysical(u64::from(tag.u32(8)?));
            let end = HostPhysical(u64::from(tag.u32(12)?));
            let range = HostRange::new(start, end).ok_or(BootError::BackwardRange {
                what: "boot module",
            })?;
            let text = tag.text(16)?;
            information.add_module(LoadedModule { text, range })?;
        }
        TAG_MEMORY_MAP => memory_map(information, tag)?,
        TAG_ACPI_NEW => information.acpi_root_pointer = Some(tag.start().saturating_add(8)),
        TAG_ACPI_OLD => {
            let pointer = tag.start().saturating_add(8);
            information.acpi_root_pointer.get_or_insert(pointer);
        }
        _ => {}
    }
    Ok(())
}

fn memory_map<Memory: PhysicalBytes>(
    information: &mut BootInformation,
    tag: &Record<'_, Memory>,
) -> Result<(), BootError> {
    let entry_bytes = u64::from(tag.u32(8)?);
    if entry_bytes < MEMORY_ENTRY_BYTES {
        return Err(BootError::Truncated { what: "memory map" });
    }
    let mut offset = 16u64;
    while offset < tag.length() {
        let entry = tag.part("memory map", offset, entry_bytes)?;
        information.add_memory(entry.u64(0)?, entry.u64(8)?, entry.u32(16)?)?;
        offset = offset.saturating_add(entry_bytes);
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

    const BASE: u32 = 0x10_0000;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(u32::to_le_bytes(8 + body.len() as u32));
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn memory(tags: &[Vec<u8>]) -> FakeMemory {
        let mut bytes = vec![0; 8];
        bytes.extend(tags.concat());
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        FakeMemory {
            base: u64::from(BASE),
            bytes,
        }
    }

    fn module(start: u32, end: u32, text: &str) -> Vec<u8> {
        let mut body = words(&[start, end]);
        body.extend(text.as_bytes());
        body.push(0);
        tag(TAG_MODULE, &body)
    }

    fn map() -> Vec<u8> {
        tag(
            TAG_MEMORY_MAP,
            &words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0, 0, 1, 0, 2, 5, 0]),
        )
    }

    fn loaded() -> FakeMemory {
        memory(&[
            tag(TAG_COMMAND_LINE, b"test=panic\0"),
            tag(9, &[1, 2, 3]),
            tag(TAG_ACPI_NEW, &[0; 36]),
            tag(TAG_ACPI_OLD, &[0; 20]),
            module(0x30_0000, 0x30_0010, "nuncio-plan"),
            module(0x30_1000, 0x30_1000, ""),
            map(),
            tag(TAG_END, &[]),
        ])
    }

    #[test]
    fn everything_that_is_used_is_read() {
        let information = information::read(LOADER_MAGIC, BASE, &loaded()).unwrap();
        assert_eq!(information.command_line, "test=panic");
        assert_eq!(information.modules.len(), 2);
        // Behind the header, the command line's tag of 24 bytes, the next of 16, and this one's own header.
        let root_pointer = u64::from(BASE) + 8 + 24 + 16 + 8;
        assert_eq!(information.acpi_root_pointer, Some(root_pointer));
        assert_eq!(information.modules[0].text, "nuncio-plan");
        assert_eq!(information.modules[0].range.length(), 0x10);
        assert!(information.modules[1].range.is_empty());
        assert!(information.memory[0].is_ram);
        assert_eq!(information.memory[1].range.start().0, 1 << 32);
        assert_eq!(information.memory[1].range.length(), 2 << 32);
        assert!(!information.memory[1].is_ram);
        assert_eq!(
            information.occupied[0].length(),
            loaded().bytes.len() as u64
        );
    }

    #[test]
    fn tags_without_an_end_are_an_error() {
        let memory = memory(&[map()]);
        assert_eq!(
            read(BASE, &memory),
            Err(BootError::Truncated { what: WHAT })
        );
    }

    #[test]
    fn a_tag_of_size_0_is_an_error() {
        let memory = memory(&[words(&[TAG_MEMORY_MAP, 0]), tag(TAG_END, &[])]);
        assert!(read(BASE, &memory).is_err());
    }

    #[test]
    fn a_map_whose_last_entry_is_cut_short_is_an_error() {
        let cut = tag(TAG_MEMORY_MAP, &words(&[24, 0, 0, 0, 1]));
        let memory = memory(&[cut, tag(TAG_END, &[])]);
        assert_eq!(
            read(BASE, &memory),
            Err(BootError::Truncated { what: "memory map" })
        );
    }

    #[test]
    fn a_huge_structure_is_refused() {
        let mut memory = loaded();
        memory.bytes[3] = 0xff;
        assert!(matches!(
            read(BASE, &memory),
            Err(BootError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((0usize..200, any::<u8>()), 1..20), cut in 8usize..200) {
            let mut memory = loaded();
            for (offset, byte) in changes {
                if let Some(target) = memory.bytes.get_mut(offset) {
                    *target = byte;
                }
            }
            memory.bytes.truncate(cut);
            let _ = information::read(LOADER_MAGIC, BASE, &memory);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let memory = FakeMemory { base: 0, bytes };
            let _ = information::read(LOADER_MAGIC, 0, &memory);
        }
    }
}
