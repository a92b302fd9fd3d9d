//! Why an image cannot be loaded, and what to do about it.

use core::fmt;

use nuncio_abi::{Version, VERSION};

use super::MAX_SEGMENTS;

/// Why an image cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The file does not begin like an ELF file.
    NotElf,
    /// The ELF file is not for x86-64.
    OtherMachine,
    /// The ELF file is no executable that can be loaded as it is.
    NotStatic,
    /// The table of program headers is not in the file, or has a form that nobody writes.
    BadProgramHeaders,
    /// A segment's bytes are not in the file.
    SegmentOutsideFile,
    /// A segment has more bytes in the file than in memory.
    SegmentTooShort {
        /// Where it would be loaded.
        address: u64,
    },
    /// A segment is not in the domain's RAM.
    SegmentOutsideRam {
        /// Where it would be loaded.
        address: u64,
        /// Its length in memory.
        memory_bytes: u64,
        /// The length of the RAM.
        ram_bytes: u64,
    },
    /// A segment overlaps another one.
    Overlap {
        /// Where it would be loaded.
        address: u64,
    },
    /// There are more segments than [`MAX_SEGMENTS`].
    TooManySegments,
    /// The notes are malformed, or there are very many.
    BadNotes,
    /// There is no Nuncio note.
    NoNote,
    /// There is more than one Nuncio note.
    SeveralNotes,
    /// The image was built for a version of the ABI that is not served.
    OtherVersion(Version),
    /// The entry is in no executable segment.
    EntryOutside {
        /// The entry.
        entry: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            ImageError::NotElf => "the image is no ELF file: give the linker's output as it is",
            ImageError::OtherMachine => {
                "the image is not for x86-64: build it for the target x86_64-unknown-none"
            }
            ImageError::NotStatic => {
                "the image is no static executable: link it without position independence"
            }
            ImageError::BadProgramHeaders => {
                "the image's program headers are damaged: is the file cut off?"
            }
            ImageError::SegmentOutsideFile => {
                "a segment of the image ends past the end of the file: is the file cut off?"
            }
            ImageError::SegmentTooShort { address } => {
                return write!(
                    formatter,
                    "the segment at {address:#x} is longer in the file than in memory: \
                     build the image anew"
                );
            }
            ImageError::SegmentOutsideRam {
                address,
                memory_bytes,
                ram_bytes,
            } => {
                return write!(
                    formatter,
                    "the segment at {address:#x} with {memory_bytes} bytes is not in the \
                     domain's RAM of {ram_bytes} bytes: give the domain more memory, or link \
                     the image lower"
                );
            }
            ImageError::Overlap { address } => {
                return write!(
                    formatter,
                    "the segment at {address:#x} overlaps another one: check the linker script"
                );
            }
            ImageError::TooManySegments => {
                return write!(
                    formatter,
                    "the image has more than {MAX_SEGMENTS} segments: merge sections in the \
                     linker script"
                );
            }
            ImageError::BadNotes => "the image's notes are damaged: build it anew",
            ImageError::NoNote => {
                "the image has no Nuncio note, so it is not built for this hypervisor: \
                 add the note"
            }
            ImageError::SeveralNotes => "the image has several Nuncio notes: keep one",
            ImageError::OtherVersion(version) => {
                return write!(
                    formatter,
                    "the image was built for ABI {version}; this hypervisor serves {VERSION}: \
                     rebuild it"
                );
            }
            ImageError::EntryOutside { entry } => {
                return write!(
                    formatter,
                    "the entry {entry:#x} is in no executable segment: check the Nuncio note"
                );
            }
        })
    }
}
