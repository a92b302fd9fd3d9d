//! Guest images: what is to be loaded where, and where the guest starts.
//!
//! [`Image::parse`] reads an ELF file from any [`ByteSource`] and believes nothing in it; whoever
//! holds an [`Image`] can copy its segments without further checks. Nothing is copied here.
//!
//! Invariant: the segments of an image lie in its file and in the RAM for which it was parsed, do
//! not overlap in RAM, and one of them, an executable one, holds the entry.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod elf;
mod error;
mod notes;

use alloc::vec::Vec;
use core::ops::Range;

use nuncio_abi::{ImageNote, VERSION};

use crate::mem::{ByteSource, GuestPhysical};
use elf::{FileHeader, ProgramHeader, SegmentKind};

pub use error::ImageError;

/// Segments that an image can have.
pub const MAX_SEGMENTS: usize = 16;

/// What a loader has to know of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What to load, in the order of the file; at least one segment.
    pub segments: Vec<Segment>,
    /// Where the first vcpu starts.
    pub entry: GuestPhysical,
    /// The first address past all segments.
    pub end: GuestPhysical,
}

/// A part of an image that is in RAM when the guest starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub address: GuestPhysical,
    /// The bytes of the file that it begins with.
    pub file: Range<usize>,
    /// Its length in bytes, at least 1. What the file does not fill is zero.
    pub memory_bytes: u64,
}

impl Image {
    /// Reads an ELF file that is to be loaded into the RAM from 0 to `ram_bytes`.
    pub fn parse(file: &(impl ByteSource + ?Sized), ram_bytes: u64) -> Result<Image, ImageError> {
        let header = FileHeader::read(file)?;
        let mut segments = Vec::new();
        let mut executable = Vec::new();
        let mut notes = notes::Search::new();
        for index in 0..header.program_headers {
            let program_header = header.program_header(file, index)?;
            match program_header.kind {
                SegmentKind::Load if program_header.is_empty() => (),
                SegmentKind::Load => {
                    let segment = check_segment(&program_header, ram_bytes, &segments)?;
                    if program_header.executable {
                        executable.push(segment.range());
                    }
                    segments.push(segment);
                }
                SegmentKind::Note => notes.search(file, &program_header)?,
                SegmentKind::Interpreter => return Err(ImageError::NotStatic),
                SegmentKind::Other => (),
            }
        }
        let entry = check_entry(notes.finish()?, &executable)?;
        let end = segments.iter().map(|segment| segment.range().end).max();
        Ok(Image {
            segments,
            entry,
            end: GuestPhysical(end.unwrap_or(0)),
        })
    }
}

impl Segment {
    /// The guest-physical addresses that it takes.
    fn range(&self) -> Range<u64> {
        self.address.0..self.address.0.saturating_add(self.memory_bytes)
    }
}

/// Checks what the note says against this hypervisor and the executable ranges of the RAM.
fn check_entry(note: ImageNote, executable: &[Range<u64>]) -> Result<GuestPhysical, ImageError> {
    if !VERSION.serves(note.version) {
        return Err(ImageError::OtherVersion(note.version));
    }
    let entry = note.entry;
    if !executable.iter().any(|range| range.contains(&entry)) {
        return Err(ImageError::EntryOutside { entry });
    }
    Ok(GuestPhysical(entry))
}

/// Checks a segment against the RAM and the segments before it.
fn check_segment(
    header: &ProgramHeader,
    ram_bytes: u64,
    others: &[Segment],
) -> Result<Segment, ImageError> {
    let segment = Segment {
        address: GuestPhysical(header.address),
        file: header.file.clone(),
        memory_bytes: header.memory_bytes,
    };
    let range = segment.range();
    if others.len() >= MAX_SEGMENTS {
        return Err(ImageError::TooManySegments);
    }
    if header.file.len() as u64 > header.memory_bytes {
        let address = header.address;
        return Err(ImageError::SegmentTooShort { address });
    }
    let end = header.address.checked_add(header.memory_bytes);
    if end.is_none_or(|end| end > ram_bytes) {
        return Err(ImageError::SegmentOutsideRam {
            address: header.address,
            memory_bytes: header.memory_bytes,
            ram_bytes,
        });
    }
    let overlaps = |other: &Segment| {
        let other = other.range();
        range.start < other.end && other.start < range.end
    };
    if others.iter().any(overlaps) {
        let address = header.address;
        return Err(ImageError::Overlap { address });
    }
    Ok(segment)
}

#[cfg(test)]
mod tests;
