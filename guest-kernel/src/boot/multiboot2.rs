//! The information of the second multiboot protocol, as GRUB hands it over (Multiboot2 specification 2.0,
//! section 3.6): a length, then tags, each on a boundary of 8 bytes.
#![forbid(unsafe_code)]

use super::handover::{Handover, HandoverProblem, Loader, MemoryKind, RootPointer};
use super::physical::PhysicalBytes;

/// What EAX holds at the start.
pub const MAGIC: u32 = 0x36D7_6289;

/// More than any loader writes; bounds the work.
const MOST_BYTES: u64 = 1 << 20;
const HEAD_BYTES: u64 = 8;
const TAG_ALIGN_BYTES: u64 = 8;
const LEAST_ENTRY_BYTES: u64 = 24;

const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const MODULE: u32 = 3;
const MEMORY_MAP: u32 = 6;
const OLD_ROOT_POINTER: u32 = 14;
const NEW_ROOT_POINTER: u32 = 15;

/// A tag: its type, and where what follows type and size begins and ends.
struct Tag {
    number: u32,
    start: u64,
    end: u64,
}

/// Reads the information at `address`.
///
/// # Errors
/// See [`HandoverProblem`].
pub fn read(memory: &impl PhysicalBytes, address: u64) -> Result<Handover, HandoverProblem> {
    let unreadable = HandoverProblem::Unreadable("boot information", address);
    let head = memory.record::<8>(address).ok_or(unreadable)?;
    let bytes = u64::from(head.u32(0));
    let length = HandoverProblem::Length("boot information", bytes);
    if !(HEAD_BYTES..=MOST_BYTES).contains(&bytes) {
        return Err(length);
    }
    let end = address.checked_add(bytes).ok_or(length)?;
    let mut handover = Handover::new(Loader::Multiboot2);
    let mut next = address + HEAD_BYTES;
    while next < end {
        let tag = read_tag(memory, next, end)?;
        if tag.number == END {
            break;
        }
        take(&mut handover, memory, &tag)?;
        // Padding counts from the start of the information, which is on such a boundary itself.
        next = tag.end.next_multiple_of(TAG_ALIGN_BYTES);
    }
    Ok(handover)
}

fn read_tag(memory: &impl PhysicalBytes, start: u64, end: u64) -> Result<Tag, HandoverProblem> {
    let unreadable = HandoverProblem::Unreadable("tag", start);
    let head = memory.record::<8>(start).ok_or(unreadable)?;
    let bytes = u64::from(head.u32(4));
    if bytes < HEAD_BYTES || bytes > end - start {
        return Err(HandoverProblem::Length("tag", bytes));
    }
    Ok(Tag {
        number: head.u32(0),
        start: start + HEAD_BYTES,
        end: start + bytes,
    })
}

fn take(
    handover: &mut Handover,
    memory: &impl PhysicalBytes,
    tag: &Tag,
) -> Result<(), HandoverProblem> {
    match tag.number {
        COMMAND_LINE => handover.read_command_line(memory, tag.start),
        MODULE => {
            let unreadable = HandoverProblem::Unreadable("module", tag.start);
            let module = memory.record::<8>(tag.start).ok_or(unreadable)?;
            let (start, end) = (u64::from(module.u32(0)), u64::from(module.u32(4)));
            let bytes = end.checked_sub(start);
            handover.add_module(start, bytes.ok_or(HandoverProblem::Range(start, end))?)
        }
        MEMORY_MAP => read_map(handover, memory, tag),
        OLD_ROOT_POINTER | NEW_ROOT_POINTER => {
            let pointer = RootPointer::read(memory, tag.start);
            let unreadable = HandoverProblem::Unreadable("ACPI root pointer", tag.start);
            let pointer = pointer.ok_or(unreadable)?;
            // Where there are both, the newer one knows more.
            if tag.number == NEW_ROOT_POINTER || handover.root_pointer.is_none() {
                handover.root_pointer = Some(pointer);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn read_map(
    handover: &mut Handover,
    memory: &impl PhysicalBytes,
    tag: &Tag,
) -> Result<(), HandoverProblem> {
    let unreadable = HandoverProblem::Unreadable("memory map", tag.start);
    let head = memory.record::<8>(tag.start).ok_or(unreadable)?;
    let entry_bytes = u64::from(head.u32(0));
    if entry_bytes < LEAST_ENTRY_BYTES {
        return Err(HandoverProblem::Length(
            "entry of the memory map",
            entry_bytes,
        ));
    }
    let mut at = tag.start + HEAD_BYTES;
    while at + entry_bytes <= tag.end {
        let entry = memory.record::<20>(at).ok_or(unreadable)?;
        let kind = MemoryKind::of_firmware(entry.u32(16));
        handover.add_range(entry.u64(0), entry.u64(8), kind)?;
        at += entry_bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::physical::fake::Bytes;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    const START: u64 = 0x10_0000;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Information with these tags, each of a type and a content.
    fn information(tags: &[(u32, Vec<u8>)]) -> Bytes {
        let mut bytes = std::vec![0; 8];
        for (number, content) in tags.iter().chain([&(END, Vec::new())]) {
            bytes.extend(words(&[*number, 8 + content.len() as u32]));
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(8), 0xEE);
        }
        let length = (bytes.len() as u32).to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        Bytes {
            start: START,
            bytes,
        }
    }

    fn good() -> Bytes {
        let mut root = b"RSD PTR ".to_vec();
        root.resize(20, 1);
        let mut map = words(&[24, 0]);
        map.extend(words(&[0, 0, 0x9_F000, 0, 1, 0]));
        map.extend(words(&[0x10_0000, 0, 0x700_0000, 1, 1, 0]));
        map.extend(words(&[0xFFFC_0000, 0, 0x4_0000, 0, 2, 0]));
        information(&[
            (COMMAND_LINE, b"log=info\0".to_vec()),
            (2, b"GRUB 2.06\0".to_vec()),
            (
                MODULE,
                [words(&[0x20_0000, 0x20_0100]), b"input\0".to_vec()].concat(),
            ),
            (MEMORY_MAP, map),
            (OLD_ROOT_POINTER, root),
        ])
    }

    #[test]
    fn information_as_it_should_be() {
        let handover = read(&good(), START).unwrap();
        assert_eq!(handover.command_line(), "log=info");
        let module = handover.modules().first().unwrap();
        assert_eq!((module.start, module.end), (0x20_0000, 0x20_0100));
        assert!(handover
            .root_pointer
            .unwrap()
            .0
            .starts_with(b"RSD PTR \x01"));
        let [_, high, rom] = handover.ranges() else {
            panic!("three ranges")
        };
        assert_eq!((high.end, high.kind), (0x1_0710_0000, MemoryKind::Free));
        assert_eq!((rom.end, rom.kind), (1 << 32, MemoryKind::Reserved));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |tags: &[(u32, Vec<u8>)]| read(&information(tags), START).unwrap_err();
        let backwards = words(&[0x2000, 0x1000]);
        assert_eq!(
            problem(&[(MODULE, backwards)]),
            HandoverProblem::Range(0x2000, 0x1000)
        );
        let narrow = problem(&[(MEMORY_MAP, words(&[8, 0]))]);
        assert_eq!(
            narrow,
            HandoverProblem::Length("entry of the memory map", 8)
        );
        let mut memory = good();
        memory.put(START + 12, &[7]);
        assert_eq!(
            read(&memory, START).unwrap_err(),
            HandoverProblem::Length("tag", 7)
        );
        memory.put(START + 12, &[255; 4]);
        assert!(matches!(
            read(&memory, START),
            Err(HandoverProblem::Length("tag", _))
        ));
        memory.put(START, &[7, 0, 0, 0]);
        let short = HandoverProblem::Length("boot information", 7);
        assert_eq!(read(&memory, START).unwrap_err(), short);
        assert!(matches!(
            read(&memory, 0),
            Err(HandoverProblem::Unreadable(_, 0))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_handover_or_a_problem(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..40),
            address in prop_oneof![Just(START), any::<u64>()],
        ) {
            let mut memory = good();
            for (place, byte) in changes {
                let place = place.index(memory.bytes.len());
                memory.bytes[place] = byte;
            }
            match read(&memory, address) {
                Ok(handover) => prop_assert!(handover.ranges().iter().all(|range| range.start < range.end)),
                Err(problem) => prop_assert!(!problem.to_string().is_empty()),
            }
        }
    }
}
