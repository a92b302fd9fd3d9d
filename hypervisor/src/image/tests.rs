//! The image parser against good images, bad images and noise.

use alloc::string::ToString;
use alloc::vec;

use nuncio_abi::Version;
use proptest::prelude::*;

use super::*;

const RAM_BYTES: u64 = 16 << 20;
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// One program header and the bytes that it refers to.
#[derive(Clone)]
struct Part {
    kind: u32,
    flags: u32,
    address: u64,
    content: Vec<u8>,
    memory_bytes: u64,
    alignment: u64,
}

fn load(flags: u32, address: u64, file_bytes: usize, memory_bytes: u64) -> Part {
    Part {
        kind: LOAD,
        flags,
        address,
        content: vec![0x90; file_bytes],
        memory_bytes,
        alignment: 4096,
    }
}

fn notes(content: Vec<u8>, alignment: u64) -> Part {
    Part {
        kind: NOTE,
        alignment,
        content,
        ..load(4, 0, 0, 0)
    }
}

fn note(owner: &[u8], number: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [owner.len() as u32, descriptor.len() as u32, number] {
        bytes.extend(word.to_le_bytes());
    }
    for field in [owner, descriptor] {
        bytes.extend(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn nuncio_note(version: Version, entry: u64) -> Vec<u8> {
    let mut descriptor = [0; 16];
    descriptor[..4].copy_from_slice(&version.to_raw().to_le_bytes());
    descriptor[8..].copy_from_slice(&entry.to_le_bytes());
    note(b"Nuncio\0", 1, &descriptor)
}

/// A file with these program headers, the contents behind them.
fn build(parts: &[Part]) -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(0x1234u64.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.extend([0; 12]);
    for half in [64, 56, parts.len() as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * parts.len() as u64;
    for part in parts {
        file.extend(part.kind.to_le_bytes());
        file.extend(part.flags.to_le_bytes());
        let file_bytes = part.content.len() as u64;
        let virtual_address = 0xFFFF_8000_0000_0000;
        let words = [offset, virtual_address, part.address, file_bytes];
        for word in words.into_iter().chain([part.memory_bytes, part.alignment]) {
            file.extend(word.to_le_bytes());
        }
        offset += file_bytes;
    }
    for part in parts {
        file.extend(&part.content);
    }
    file
}

/// Text, data with zeros behind it, and the note.
fn usual_parts() -> Vec<Part> {
    vec![
        load(READ_EXECUTE, 0x20_0000, 100, 100),
        load(READ_WRITE, 0x20_1000, 50, 0x2000),
        notes(nuncio_note(VERSION, 0x20_0010), 4),
    ]
}

fn parse(parts: &[Part]) -> Result<Image, ImageError> {
    Image::parse(build(parts).as_slice(), RAM_BYTES)
}

/// What becomes of the usual image after a change of its parts.
fn changed(change: impl FnOnce(&mut Vec<Part>)) -> Result<Image, ImageError> {
    let mut parts = usual_parts();
    change(&mut parts);
    parse(&parts)
}

/// What becomes of the usual image after a byte of the file is changed.
fn patched(offset: usize, byte: u8) -> Result<Image, ImageError> {
    let mut file = build(&usual_parts());
    file[offset] = byte;
    Image::parse(file.as_slice(), RAM_BYTES)
}

#[test]
fn an_image_is_its_segments_its_entry_and_its_end() {
    let image = parse(&usual_parts()).unwrap();
    let text = Segment {
        address: GuestPhysical(0x20_0000),
        file: 232..332,
        memory_bytes: 100,
    };
    let data = Segment {
        address: GuestPhysical(0x20_1000),
        file: 332..382,
        memory_bytes: 0x2000,
    };
    assert_eq!(image.segments, [text, data]);
    assert_eq!(image.entry, GuestPhysical(0x20_0010));
    assert_eq!(image.end, GuestPhysical(0x20_3000));
}

#[test]
fn the_file_has_to_be_a_static_executable_for_this_machine() {
    let cases = [
        (0, b'X', ImageError::NotElf),
        (4, 1, ImageError::OtherMachine),
        (5, 2, ImageError::OtherMachine),
        (18, 3, ImageError::OtherMachine),
        (16, 3, ImageError::NotStatic),
        (54, 32, ImageError::BadProgramHeaders),
        (56, 65, ImageError::BadProgramHeaders),
        (39, 0xFF, ImageError::BadProgramHeaders),
    ];
    for (offset, byte, error) in cases {
        assert_eq!(patched(offset, byte), Err(error), "byte {offset}");
    }
    let interpreter = Part {
        kind: INTERPRETER,
        ..load(4, 0, 8, 8)
    };
    let found = changed(|parts| parts.push(interpreter));
    assert_eq!(found, Err(ImageError::NotStatic));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let file = build(&usual_parts());
    for length in 0..file.len() {
        assert!(Image::parse(&file[..length], RAM_BYTES).is_err());
    }
}

#[test]
fn segments_lie_in_ram_and_apart() {
    let outside = |address, memory_bytes| ImageError::SegmentOutsideRam {
        address,
        memory_bytes,
        ram_bytes: RAM_BYTES,
    };
    let overlap = |address| ImageError::Overlap { address };
    let cases = [
        (load(4, RAM_BYTES - 8, 8, 8), None),
        (
            load(4, RAM_BYTES - 8, 8, 9),
            Some(outside(RAM_BYTES - 8, 9)),
        ),
        (load(4, u64::MAX - 7, 8, 8), Some(outside(u64::MAX - 7, 8))),
        (load(4, 1, 0, u64::MAX), Some(outside(1, u64::MAX))),
        (load(4, 0x20_0063, 1, 1), Some(overlap(0x20_0063))),
        (load(4, 0x20_0064, 1, 1), None),
        (load(4, 0x1F_FFFF, 1, 2), Some(overlap(0x1F_FFFF))),
        (load(4, 0, 1, 0x40_0000), Some(overlap(0))),
        (
            load(4, 0x30_0000, 2, 1),
            Some(ImageError::SegmentTooShort { address: 0x30_0000 }),
        ),
        (
            load(4, 0x30_0000, 2, 0),
            Some(ImageError::SegmentTooShort { address: 0x30_0000 }),
        ),
        (load(4, u64::MAX, 0, 0), None),
    ];
    for (index, (part, error)) in cases.into_iter().enumerate() {
        let found = changed(|parts| parts.push(part));
        assert_eq!(found.err(), error, "case {index}");
    }
}

#[test]
fn segment_bytes_lie_in_the_file() {
    let first_file_bytes = 64 + 32;
    assert_eq!(
        patched(first_file_bytes + 1, 1),
        Err(ImageError::SegmentOutsideFile)
    );
    assert_eq!(
        patched(first_file_bytes + 7, 0xFF),
        Err(ImageError::SegmentOutsideFile)
    );
}

#[test]
fn the_number_of_segments_is_limited() {
    let more = |count: u64| {
        changed(|parts| parts.extend((0..count).map(|n| load(4, 0x30_0000 + n, 0, 1))))
    };
    assert_eq!(more(14).unwrap().segments.len(), MAX_SEGMENTS);
    assert_eq!(more(15), Err(ImageError::TooManySegments));
}

#[test]
fn the_note_is_there_once_and_right() {
    let with_notes = |content: Vec<u8>| changed(|parts| parts[2] = notes(content, 4));
    let ours = || nuncio_note(VERSION, 0x20_0000);
    let other = Version {
        major: VERSION.major,
        minor: VERSION.minor + 1,
    };
    let cases = [
        (Vec::new(), Some(ImageError::NoNote)),
        (note(b"GNU\0", 1, &[0; 16]), Some(ImageError::NoNote)),
        (note(b"Nuncio\0", 2, &[0; 16]), Some(ImageError::NoNote)),
        ([note(b"GNU\0", 1, &[0; 3]), ours()].concat(), None),
        ([ours(), ours()].concat(), Some(ImageError::SeveralNotes)),
        (note(b"Nuncio\0", 1, &[0; 15]), Some(ImageError::BadNotes)),
        (note(b"Nuncio\0", 1, &[1; 16]), Some(ImageError::BadNotes)),
        (ours()[..35].to_vec(), Some(ImageError::BadNotes)),
        ([ours(), vec![0; 11]].concat(), Some(ImageError::BadNotes)),
        (note(b"", 0, b"").repeat(65), Some(ImageError::BadNotes)),
        (
            nuncio_note(other, 0x20_0000),
            Some(ImageError::OtherVersion(other)),
        ),
    ];
    for (index, (content, error)) in cases.into_iter().enumerate() {
        assert_eq!(with_notes(content).err(), error, "case {index}");
    }
    let twice = changed(|parts| parts.push(notes(ours(), 4)));
    assert_eq!(twice, Err(ImageError::SeveralNotes));
}

#[test]
fn a_note_ends_in_its_segment_even_if_the_file_goes_on() {
    let mut parts = usual_parts();
    let mut file = build(&parts);
    parts[2].content.truncate(35);
    let shorter = build(&parts);
    let headers = 64 + 3 * 56;
    file[..headers].copy_from_slice(&shorter[..headers]);
    let found = Image::parse(file.as_slice(), RAM_BYTES);
    assert_eq!(found, Err(ImageError::BadNotes));
}

#[test]
fn notes_with_wider_padding_are_read_too() {
    let mut content = note(b"GNU\0", 5, &[0; 12]);
    content.resize(32, 0);
    content.extend(note(b"Nuncio\0", 1, b""));
    content.truncate(32 + 19);
    content.resize(32 + 24, 0);
    content[32 + 4] = 16;
    content.extend(&nuncio_note(VERSION, 0x20_0000)[20..]);
    assert!(changed(|parts| parts[2] = notes(content, 8)).is_ok());
}

#[test]
fn the_entry_is_in_an_executable_segment() {
    let start_at = |entry| changed(|parts| parts[2] = notes(nuncio_note(VERSION, entry), 4));
    assert!(start_at(0x20_0000).is_ok());
    assert!(start_at(0x20_0063).is_ok());
    for entry in [0x1F_FFFF, 0x20_0064, 0x20_1000, 0, u64::MAX] {
        assert_eq!(start_at(entry), Err(ImageError::EntryOutside { entry }));
    }
}

#[test]
fn an_error_says_what_to_do() {
    let error = ImageError::OtherVersion(Version { major: 7, minor: 2 });
    let expected = std::format!(
        "the image was built for ABI 7.2; this hypervisor serves {VERSION}: rebuild it"
    );
    assert_eq!(error.to_string(), expected);
}

fn assert_sound(file: &[u8], image: &Image, ram_bytes: u64) {
    assert!((1..=MAX_SEGMENTS).contains(&image.segments.len()));
    let end_of = |segment: &Segment| segment.address.0.checked_add(segment.memory_bytes).unwrap();
    for (index, segment) in image.segments.iter().enumerate() {
        assert!(segment.memory_bytes > 0 && end_of(segment) <= ram_bytes);
        let bytes = file.get(segment.file.clone()).unwrap();
        assert!(bytes.len() as u64 <= segment.memory_bytes);
        for other in &image.segments[..index] {
            assert!(other.address.0 >= end_of(segment) || segment.address.0 >= end_of(other));
        }
    }
    assert_eq!(image.segments.iter().map(end_of).max(), Some(image.end.0));
    let holds = |segment: &&Segment| (segment.address.0..end_of(segment)).contains(&image.entry.0);
    assert_eq!(image.segments.iter().filter(holds).count(), 1);
}

/// Numbers at which arithmetic goes wrong.
fn awkward() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..600,
        (0u64..64).prop_map(|shift| 1 << shift),
        (0u64..64).prop_map(|shift| u64::MAX << shift),
        (0x1F_FF00u64..0x20_3100),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn noise_is_refused_without_harm(
        head in 0usize..64,
        noise in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        let mut file = build(&usual_parts())[..head].to_vec();
        file.extend(noise);
        if let Ok(image) = Image::parse(file.as_slice(), RAM_BYTES) {
            assert_sound(&file, &image, RAM_BYTES);
        }
    }

    #[test]
    fn whatever_is_accepted_is_sound(
        words in proptest::collection::vec((0usize..50, awkward()), 0..4),
        bytes in proptest::collection::vec((0usize..500, any::<u8>()), 0..3),
        ram_bytes in awkward(),
    ) {
        let mut file = build(&usual_parts());
        for (index, word) in words {
            if let Some(target) = file.get_mut(index * 8..index * 8 + 8) {
                target.copy_from_slice(&word.to_le_bytes());
            }
        }
        for (index, byte) in bytes {
            if let Some(target) = file.get_mut(index) {
                *target = byte;
            }
        }
        for ram_bytes in [RAM_BYTES, ram_bytes] {
            if let Ok(image) = Image::parse(file.as_slice(), ram_bytes) {
                assert_sound(&file, &image, ram_bytes);
            }
        }
    }

    #[test]
    fn any_placement_is_taken_or_refused_by_the_rules(
        placements in proptest::collection::vec((0u64..40, 0usize..12, 0u64..12), 1..6),
        ram_bytes in 1u64..60,
        entry in 0u64..50,
    ) {
        let place = |(address, file_bytes, memory_bytes): (u64, usize, u64)| {
            load(READ_EXECUTE, address, file_bytes, memory_bytes)
        };
        let mut parts: Vec<Part> = placements.into_iter().map(place).collect();
        parts.push(notes(nuncio_note(VERSION, entry), 4));
        let file = build(&parts);
        if let Ok(image) = Image::parse(file.as_slice(), ram_bytes) {
            assert_sound(&file, &image, ram_bytes);
        }
    }
}
