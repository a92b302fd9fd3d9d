//! Damages a guest image in the ways that the hypervisor must notice.

use std::ops::Range;

/// A way to damage an image; the error says what the image lacks for it.
pub type Damage = fn(Vec<u8>) -> Result<Vec<u8>, String>;

/// ELF64 header: offset of the program headers, their size and their number (ELF-64 Object File
/// Format, section 3).
const PROGRAM_HEADERS_AT: Range<usize> = 32..40;
const PROGRAM_HEADER_BYTES_AT: Range<usize> = 54..56;
const PROGRAM_HEADER_COUNT_AT: Range<usize> = 56..58;
/// ELF64 program header: type and physical address (the same, section 8).
const TYPE_AT: usize = 0;
const PHYSICAL_ADDRESS_AT: usize = 24;
const PT_LOAD: u64 = 1;

/// Bytes that are no ELF file.
pub fn no_elf(_: Vec<u8>) -> Result<Vec<u8>, String> {
    Ok(b"#!/bin/sh\necho this is no image\n".repeat(40))
}

/// The first half of the image.
pub fn cut_short(mut image: Vec<u8>) -> Result<Vec<u8>, String> {
    // The headers and the notes stay whole; what they point to does not.
    let second = *segments(&image)?.get(1).ok_or("one segment only")?;
    let offset = number(&image, second + 8..second + 16)?;
    image.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
    Ok(image)
}

/// The second segment on top of the first.
pub fn overlapping(mut image: Vec<u8>) -> Result<Vec<u8>, String> {
    let segments = segments(&image)?;
    let (first, second) = (segments.first().copied(), segments.get(1).copied());
    let (first, second) = first.zip(second).ok_or("fewer than two segments")?;
    let address = number(&image, field(first))?;
    put(&mut image, field(second), address)?;
    Ok(image)
}

/// The last segment at 1 TiB.
pub fn out_of_range(mut image: Vec<u8>) -> Result<Vec<u8>, String> {
    let last = *segments(&image)?.last().ok_or("no segment")?;
    put(&mut image, field(last), 1 << 40)?;
    Ok(image)
}

/// A note that says that the image was built for ABI 99.0.
pub fn other_version(mut image: Vec<u8>) -> Result<Vec<u8>, String> {
    set_version(&mut image, 99 << 16)?;
    Ok(image)
}

/// The version of the ABI in the image's note, as it stands there.
pub fn version(image: &[u8]) -> Result<u32, String> {
    Ok(number(image, version_at(image)?)? as u32)
}

/// Has the image's note say that it was built for that version.
pub fn set_version(image: &mut [u8], version: u32) -> Result<(), String> {
    let at = version_at(image)?;
    put(image, at, version.into())
}

fn version_at(image: &[u8]) -> Result<Range<usize>, String> {
    // Name size, descriptor size, type and name of the note; the version follows.
    let mut header = Vec::new();
    for word in [7_u32, 16, 1] {
        header.extend(word.to_le_bytes());
    }
    header.extend(b"Nuncio\0\0");
    let at = image
        .windows(header.len())
        .position(|bytes| bytes == header);
    let start = at.ok_or("no Nuncio note")? + header.len();
    Ok(start..start + 4)
}

fn field(program_header: usize) -> Range<usize> {
    program_header + PHYSICAL_ADDRESS_AT..program_header + PHYSICAL_ADDRESS_AT + 8
}

/// Offsets of the program headers of loaded segments.
fn segments(image: &[u8]) -> Result<Vec<usize>, String> {
    let start = number(image, PROGRAM_HEADERS_AT)? as usize;
    let bytes = number(image, PROGRAM_HEADER_BYTES_AT)? as usize;
    let count = number(image, PROGRAM_HEADER_COUNT_AT)? as usize;
    let mut loaded = Vec::new();
    for index in 0..count {
        let at = start + index * bytes;
        if number(image, at + TYPE_AT..at + TYPE_AT + 4)? == PT_LOAD {
            loaded.push(at);
        }
    }
    Ok(loaded)
}

fn number(image: &[u8], at: Range<usize>) -> Result<u64, String> {
    let bytes = image.get(at).ok_or("the image is too short to damage it")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn put(image: &mut [u8], at: Range<usize>, value: u64) -> Result<(), String> {
    let length = at.len();
    let target = image
        .get_mut(at)
        .ok_or("the image is too short to damage it")?;
    target.copy_from_slice(&value.to_le_bytes()[..length]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of headers only: two loaded segments with a note between them.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x400];
        put(&mut image, PROGRAM_HEADERS_AT, 64).unwrap();
        put(&mut image, PROGRAM_HEADER_BYTES_AT, 56).unwrap();
        put(&mut image, PROGRAM_HEADER_COUNT_AT, 3).unwrap();
        for (index, (kind, address)) in [(1, 0x20_0000), (4, 0), (1, 0x30_0000)]
            .into_iter()
            .enumerate()
        {
            let at = 64 + index * 56;
            put(&mut image, at..at + 4, kind).unwrap();
            put(&mut image, at + 8..at + 16, 0x200 + 0x100 * index as u64).unwrap();
            put(&mut image, field(at), address).unwrap();
        }
        for (index, word) in [7_u64, 16, 1].into_iter().enumerate() {
            put(&mut image, 0x300 + index * 4..0x304 + index * 4, word).unwrap();
        }
        image[0x30C..0x312].copy_from_slice(b"Nuncio");
        image
    }

    #[test]
    fn each_damage_changes_what_it_says() {
        let address = |image: &[u8], index: usize| {
            let at = segments(image).unwrap()[index];
            number(image, field(at)).unwrap()
        };
        assert_eq!(address(&overlapping(image()).unwrap(), 1), 0x20_0000);
        assert_eq!(address(&out_of_range(image()).unwrap(), 1), 1 << 40);
        let version = other_version(image()).unwrap();
        assert_eq!(number(&version, 0x314..0x318).unwrap(), 99 << 16);
        assert_eq!(cut_short(image()).unwrap().len(), 0x400);
        assert!(!no_elf(image()).unwrap().starts_with(b"\x7fELF"));
    }

    #[test]
    fn an_image_that_cannot_be_damaged_is_no_success() {
        for damage in [
            overlapping as Damage,
            out_of_range,
            other_version,
            cut_short,
        ] {
            assert!(damage(vec![0; 100]).is_err());
        }
    }
}
