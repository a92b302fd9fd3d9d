//! The two structures of an ELF file that a loader needs (System V ABI, chapters 4 and 5).

use core::ops::Range;

use super::ImageError;
use crate::mem::ByteSource;

const FILE_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// Bounds the work for one file; linkers write about ten.
const MAX_PROGRAM_HEADERS: u16 = 64;

const MAGIC: [u8; 4] = *b"\x7FELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE_FILE: u16 = 2;
const MACHINE_X86_64: u16 = 62;
const FLAG_EXECUTE: u32 = 1 << 0;

/// What the head of the file says.
pub(super) struct FileHeader {
    /// Where the program headers begin in the file.
    offset: usize,
    /// How many there are.
    pub(super) program_headers: u16,
}

/// What is to be done with a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentKind {
    Load,
    Interpreter,
    Note,
    Other,
}

/// A program header whose bytes are in the file.
pub(super) struct ProgramHeader {
    pub(super) kind: SegmentKind,
    pub(super) executable: bool,
    pub(super) file: Range<usize>,
    /// The physical address.
    pub(super) address: u64,
    pub(super) memory_bytes: u64,
    pub(super) alignment: u64,
}

impl FileHeader {
    pub(super) fn read(file: &(impl ByteSource + ?Sized)) -> Result<Self, ImageError> {
        let mut bytes = [0; FILE_HEADER_BYTES];
        if !file.read(0, &mut bytes) {
            return Err(ImageError::NotElf);
        }
        let mut fields = Fields(&bytes);
        let [magic @ .., class, encoding, _, _, _, _, _, _, _, _, _, _] = fields.take::<16>();
        if magic != MAGIC {
            return Err(ImageError::NotElf);
        }
        let file_type = u16::from_le_bytes(fields.take());
        let machine = u16::from_le_bytes(fields.take());
        if (class, encoding, machine) != (CLASS_64, LITTLE_ENDIAN, MACHINE_X86_64) {
            return Err(ImageError::OtherMachine);
        }
        if file_type != EXECUTABLE_FILE {
            return Err(ImageError::NotStatic);
        }
        let _version_and_entry = fields.take::<12>();
        let offset = u64::from_le_bytes(fields.take());
        let _section_offset_flags_and_header_bytes = fields.take::<14>();
        let entry_bytes = u16::from_le_bytes(fields.take());
        let program_headers = u16::from_le_bytes(fields.take());
        let usual_form = usize::from(entry_bytes) == PROGRAM_HEADER_BYTES;
        if !usual_form || program_headers > MAX_PROGRAM_HEADERS {
            return Err(ImageError::BadProgramHeaders);
        }
        Ok(FileHeader {
            offset: usize::try_from(offset).map_err(|_| ImageError::BadProgramHeaders)?,
            program_headers,
        })
    }

    pub(super) fn program_header(
        &self,
        file: &(impl ByteSource + ?Sized),
        index: u16,
    ) -> Result<ProgramHeader, ImageError> {
        let mut bytes = [0; PROGRAM_HEADER_BYTES];
        let distance = usize::from(index).saturating_mul(PROGRAM_HEADER_BYTES);
        if !file.read(self.offset.saturating_add(distance), &mut bytes) {
            return Err(ImageError::BadProgramHeaders);
        }
        let mut fields = Fields(&bytes);
        let kind = SegmentKind::of(u32::from_le_bytes(fields.take()));
        let flags = u32::from_le_bytes(fields.take());
        let offset = u64::from_le_bytes(fields.take());
        let _virtual_address = fields.take::<8>();
        let address = u64::from_le_bytes(fields.take());
        let file_bytes = u64::from_le_bytes(fields.take());
        Ok(ProgramHeader {
            kind,
            executable: flags & FLAG_EXECUTE != 0,
            file: file_range(offset, file_bytes, file.len())?,
            address,
            memory_bytes: u64::from_le_bytes(fields.take()),
            alignment: u64::from_le_bytes(fields.take()),
        })
    }
}

impl ProgramHeader {
    pub(super) fn is_empty(&self) -> bool {
        self.memory_bytes == 0 && self.file.is_empty()
    }
}

impl SegmentKind {
    const fn of(number: u32) -> Self {
        match number {
            1 => SegmentKind::Load,
            3 => SegmentKind::Interpreter,
            4 => SegmentKind::Note,
            _ => SegmentKind::Other,
        }
    }
}

fn file_range(offset: u64, bytes: u64, file_bytes: usize) -> Result<Range<usize>, ImageError> {
    let end = offset.checked_add(bytes);
    let end = end.and_then(|end| usize::try_from(end).ok());
    match (usize::try_from(offset), end) {
        (Ok(start), Some(end)) if end <= file_bytes => Ok(start..end),
        _ => Err(ImageError::SegmentOutsideFile),
    }
}

/// Fields that follow each other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    /// The next field; zeros once there is nothing left.
    pub(super) fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let Some((field, rest)) = self.0.split_first_chunk() else {
            return [0; BYTES];
        };
        self.0 = rest;
        *field
    }
}
