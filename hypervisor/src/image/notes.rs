//! The search for the note that makes an ELF file a guest image.

use nuncio_abi::{ImageNote, NOTE_NAME, NOTE_TYPE};

use super::elf::{Fields, ProgramHeader};
use super::ImageError;
use crate::mem::ByteSource;

/// Bounds the work for one file; linkers write about three.
const MAX_NOTES: u32 = 64;
const NOTE_HEADER_BYTES: usize = 12;

/// What has been found so far.
pub(super) struct Search {
    found: Option<ImageNote>,
    notes: u32,
}

/// One note: its numbers, and where its parts are in the file.
struct Note {
    name_bytes: usize,
    descriptor_bytes: usize,
    number: u32,
    name: usize,
    descriptor: usize,
    /// Where the next note begins, if there is one.
    next: usize,
}

impl Search {
    pub(super) const fn new() -> Self {
        Search {
            found: None,
            notes: 0,
        }
    }

    /// Looks through all notes of a segment.
    pub(super) fn search(
        &mut self,
        file: &(impl ByteSource + ?Sized),
        segment: &ProgramHeader,
    ) -> Result<(), ImageError> {
        let mut start = segment.file.start;
        while start < segment.file.end {
            self.notes = self.notes.saturating_add(1);
            if self.notes > MAX_NOTES {
                return Err(ImageError::BadNotes);
            }
            let note = Note::read(file, start, segment).ok_or(ImageError::BadNotes)?;
            if note.is_ours(file) {
                let content = note.content(file).ok_or(ImageError::BadNotes)?;
                if self.found.replace(content).is_some() {
                    return Err(ImageError::SeveralNotes);
                }
            }
            start = note.next;
        }
        Ok(())
    }

    /// The one note there is.
    pub(super) fn finish(self) -> Result<ImageNote, ImageError> {
        self.found.ok_or(ImageError::NoNote)
    }
}

impl Note {
    /// Reads the note that begins at `start`; `None` if it does not end in its segment.
    fn read(
        file: &(impl ByteSource + ?Sized),
        start: usize,
        segment: &ProgramHeader,
    ) -> Option<Self> {
        let mut bytes = [0; NOTE_HEADER_BYTES];
        let name = start.checked_add(NOTE_HEADER_BYTES)?;
        if name > segment.file.end || !file.read(start, &mut bytes) {
            return None;
        }
        let mut fields = Fields(&bytes);
        let name_bytes = u32::from_le_bytes(fields.take()) as usize;
        let descriptor_bytes = u32::from_le_bytes(fields.take()) as usize;
        // Notes are padded to 4 bytes, except in the segments with an alignment of 8 that newer
        // linkers make for program properties. Padding counts from the segment's start.
        let padding = if segment.alignment == 8 { 8 } else { 4 };
        let pad = |position: usize| -> Option<usize> {
            let distance = position.checked_sub(segment.file.start)?;
            let padded = distance.checked_next_multiple_of(padding)?;
            segment.file.start.checked_add(padded)
        };
        let descriptor = pad(name.checked_add(name_bytes)?)?;
        let end = descriptor.checked_add(descriptor_bytes)?;
        (end <= segment.file.end).then_some(())?;
        Some(Note {
            name_bytes,
            descriptor_bytes,
            number: u32::from_le_bytes(fields.take()),
            name,
            descriptor,
            next: pad(end)?,
        })
    }

    fn is_ours(&self, file: &(impl ByteSource + ?Sized)) -> bool {
        let mut name = [0; NOTE_NAME.len()];
        self.number == NOTE_TYPE
            && self.name_bytes == name.len()
            && file.read(self.name, &mut name)
            && name == *NOTE_NAME
    }

    fn content(&self, file: &(impl ByteSource + ?Sized)) -> Option<ImageNote> {
        let mut bytes = [0; ImageNote::BYTES];
        let readable =
            self.descriptor_bytes == bytes.len() && file.read(self.descriptor, &mut bytes);
        ImageNote::from_descriptor(&bytes).filter(|_| readable)
    }
}
