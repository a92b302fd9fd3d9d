//! The ELF note by which an image says that it is a Nuncio guest.

use crate::Version;

/// The owner name of the note, with its terminating zero.
pub const NOTE_NAME: &[u8; 7] = b"Nuncio\0";

/// The type of the note.
pub const NOTE_TYPE: u32 = 1;

/// The descriptor of the note: 16 bytes, little-endian.
///
/// The entry stands here and not in the ELF header, because one image may be booted by several
/// loaders and each starts it in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageNote {
    /// The ABI version for which the image was built.
    pub version: Version,
    /// The guest-physical address at which the first vcpu starts, in 64-bit mode.
    pub entry: u64,
}

impl ImageNote {
    /// Bytes in the descriptor.
    pub const BYTES: usize = 16;

    /// Reads a descriptor; `None` if it has another length or its reserved word is not zero.
    pub fn from_descriptor(descriptor: &[u8]) -> Option<Self> {
        let (version, rest) = descriptor.split_first_chunk::<4>()?;
        let (reserved, rest) = rest.split_first_chunk::<4>()?;
        let (entry, rest) = rest.split_first_chunk::<8>()?;
        if u32::from_le_bytes(*reserved) != 0 || !rest.is_empty() {
            return None;
        }
        Some(ImageNote {
            version: Version::from_raw(u32::from_le_bytes(*version)),
            entry: u64::from_le_bytes(*entry),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_read_field_by_field() {
        let bytes = [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0];
        let note = ImageNote::from_descriptor(&bytes).unwrap();
        assert_eq!(note.version, Version { major: 2, minor: 1 });
        assert_eq!(note.entry, 0x20_0000);
    }

    #[test]
    fn other_lengths_and_reserved_bits_are_refused() {
        assert_eq!(ImageNote::from_descriptor(&[0; 15]), None);
        assert_eq!(ImageNote::from_descriptor(&[0; 17]), None);
        let mut bytes = [0; 16];
        bytes[4] = 1;
        assert_eq!(ImageNote::from_descriptor(&bytes), None);
    }
}
