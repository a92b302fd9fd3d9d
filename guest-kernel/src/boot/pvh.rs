//! Xen's start info, with which QEMU and Xen start a kernel directly (Xen, public/arch-x86/hvm/start_info.h
//! and docs/misc/pvh).
//!
//! Version 0 ends before the memory map, and so may do every map with no entries. An address of 0 means that
//! something is not there.
#![forbid(unsafe_code)]

use super::handover::{Handover, HandoverProblem, Loader, MemoryKind, RootPointer};
use super::physical::PhysicalBytes;

/// The number that a start info begins with; the entry hands it over as the name of the protocol, too.
pub const MAGIC: u32 = 0x336E_C578;

const INFO_BYTES: usize = 40;
/// Behind the first version: the memory map's address and number of entries.
const MAP_BYTES: usize = 12;
const MODULE_BYTES: u64 = 32;
const ENTRY_BYTES: u64 = 24;
/// Entries of a memory map, empty ones too, that are looked at; bounds the work.
const MOST_ENTRIES: u32 = 4096;

/// Reads the start info at `address`.
///
/// # Errors
/// See [`HandoverProblem`].
pub fn read(memory: &impl PhysicalBytes, address: u64) -> Result<Handover, HandoverProblem> {
    let unreadable = HandoverProblem::Unreadable("start info", address);
    let info = memory.record::<INFO_BYTES>(address).ok_or(unreadable)?;
    if info.u32(0) != MAGIC {
        return Err(HandoverProblem::NoMagic(info.u32(0)));
    }
    let mut handover = Handover::new(Loader::Pvh);
    read_modules(&mut handover, memory, info.u64(16), info.u32(12))?;
    if info.u64(24) != 0 {
        handover.read_command_line(memory, info.u64(24))?;
    }
    if info.u64(32) != 0 {
        let pointer = RootPointer::read(memory, info.u64(32));
        let unreadable = HandoverProblem::Unreadable("ACPI root pointer", info.u64(32));
        handover.root_pointer = Some(pointer.ok_or(unreadable)?);
    }
    if info.u32(4) >= 1 {
        let map_at = address.checked_add(INFO_BYTES as u64).ok_or(unreadable)?;
        let map = memory.record::<MAP_BYTES>(map_at).ok_or(unreadable)?;
        read_map(&mut handover, memory, map.u64(0), map.u32(8))?;
    }
    Ok(handover)
}

fn read_modules(
    handover: &mut Handover,
    memory: &impl PhysicalBytes,
    start: u64,
    count: u32,
) -> Result<(), HandoverProblem> {
    for number in 0..u64::from(count) {
        let unreadable = HandoverProblem::Unreadable("list of modules", start);
        let at = start.checked_add(number * MODULE_BYTES).ok_or(unreadable)?;
        let module = memory.record::<16>(at).ok_or(unreadable)?;
        handover.add_module(module.u64(0), module.u64(8))?;
    }
    Ok(())
}

fn read_map(
    handover: &mut Handover,
    memory: &impl PhysicalBytes,
    start: u64,
    count: u32,
) -> Result<(), HandoverProblem> {
    if count > MOST_ENTRIES {
        return Err(HandoverProblem::TooMany("memory ranges"));
    }
    for number in 0..u64::from(count) {
        let unreadable = HandoverProblem::Unreadable("memory map", start);
        let at = start.checked_add(number * ENTRY_BYTES).ok_or(unreadable)?;
        let entry = memory.record::<20>(at).ok_or(unreadable)?;
        let kind = MemoryKind::of_firmware(entry.u32(16));
        handover.add_range(entry.u64(0), entry.u64(8), kind)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::handover::MemoryRange;
    use crate::boot::physical::fake::Bytes;
    use proptest::prelude::*;
    use std::string::ToString;

    const INFO: u64 = 0x1000;
    const MAP: u64 = 0x1100;
    const MODULES: u64 = 0x1200;
    const WORDS: u64 = 0x1300;
    const ROOT: u64 = 0x1400;

    /// What QEMU hands over, in small.
    fn good() -> Bytes {
        let mut memory = Bytes::zeros(INFO, 0x500);
        memory.put(INFO, &MAGIC.to_le_bytes());
        memory.put(INFO + 4, &[1]);
        memory.put(INFO + 12, &[1]);
        for (offset, address) in [(16, MODULES), (24, WORDS), (32, ROOT), (40, MAP)] {
            memory.put(INFO + offset, &address.to_le_bytes());
        }
        memory.put(INFO + 48, &[2]);
        for (offset, number) in [
            (0, 0u64),
            (8, 0x9_FC00),
            (16, 1),
            (24, 0x10_0000),
            (32, 0x700_0000),
            (40, 2),
        ] {
            memory.put(MAP + offset, &number.to_le_bytes());
        }
        memory.put(MODULES, &0x500_0000u64.to_le_bytes());
        memory.put(MODULES + 8, &0x1234u64.to_le_bytes());
        memory.put(WORDS, b"log=info test=panic\0");
        memory.put(ROOT, b"RSD PTR ");
        memory
    }

    #[test]
    fn a_start_info_as_it_should_be() {
        let handover = read(&good(), INFO).unwrap();
        assert_eq!(handover.command_line(), "log=info test=panic");
        let module = handover.modules().first().unwrap();
        assert_eq!((module.start, module.end), (0x500_0000, 0x500_1234));
        assert!(handover.root_pointer.unwrap().0.starts_with(b"RSD PTR "));
        let [low, high] = handover.ranges() else {
            panic!("two ranges")
        };
        let free = MemoryRange {
            start: 0,
            end: 0x9_FC00,
            kind: MemoryKind::Free,
        };
        assert_eq!(*low, free);
        assert_eq!((high.end, high.kind), (0x710_0000, MemoryKind::Reserved));
    }

    #[test]
    fn a_memory_map_may_be_missing() {
        let mut memory = good();
        memory.put(INFO + 48, &[0]);
        assert_eq!(read(&memory, INFO).unwrap().ranges(), []);
        let mut memory = good();
        memory.put(INFO + 4, &[0]);
        assert_eq!(
            read(&memory, INFO).unwrap().ranges(),
            [],
            "version 0 has none"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let broken = |offset: u64, bytes: &[u8]| {
            let mut memory = good();
            memory.put(INFO + offset, bytes);
            read(&memory, INFO).unwrap_err()
        };
        let far = 0xFFFF_FFFF_FFFF_FF00;
        let cases = [
            (0, 7, HandoverProblem::NoMagic(7)),
            (16, far, HandoverProblem::Unreadable("list of modules", far)),
            (24, far, HandoverProblem::Unreadable("command line", far)),
            (
                32,
                far,
                HandoverProblem::Unreadable("ACPI root pointer", far),
            ),
            (40, far, HandoverProblem::Unreadable("memory map", far)),
        ];
        for (offset, number, problem) in cases {
            let found = broken(offset, &u64::to_le_bytes(number));
            assert_eq!(found, problem);
        }
        // As many as the bytes behind it can be read as.
        assert!(matches!(
            broken(12, &[255]),
            HandoverProblem::TooMany("modules")
        ));
        assert!(matches!(
            broken(48, &[255; 4]),
            HandoverProblem::TooMany("memory ranges")
        ));
        let nowhere = HandoverProblem::Unreadable("start info", 8);
        assert_eq!(read(&good(), 8).unwrap_err(), nowhere);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_handover_or_a_problem(
            changes in proptest::collection::vec((0usize..0x500, any::<u8>()), 0..40),
            address in prop_oneof![Just(INFO), any::<u64>()],
        ) {
            let mut memory = good();
            for (place, byte) in changes {
                memory.bytes[place] = byte;
            }
            match read(&memory, address) {
                Ok(handover) => prop_assert!(handover.ranges().iter().all(|range| range.start < range.end)),
                Err(problem) => prop_assert!(!problem.to_string().is_empty()),
            }
        }
    }
}
