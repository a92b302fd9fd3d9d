//! The numbers in the two multiboot headers of the image; `entry.S` lays them out.

#![forbid(unsafe_code)]

/// First word of a multiboot header (specification 0.6.96, section 3.1.1).
pub const MULTIBOOT1_MAGIC: u32 = 0x1BAD_B002;
/// Modules on page boundaries (bit 0), memory information (bit 1), and address fields (bit 16):
/// without those a loader would look for an ELF32 header, and the image is an ELF64.
pub const MULTIBOOT1_FLAGS: u32 = 1 | 1 << 1 | 1 << 16;
/// Makes the sum of the three words 0.
pub const MULTIBOOT1_CHECKSUM: u32 = MULTIBOOT1_MAGIC
    .wrapping_add(MULTIBOOT1_FLAGS)
    .wrapping_neg();

/// First word of a multiboot2 header (specification 2.0, section 3.1.1).
pub const MULTIBOOT2_MAGIC: u32 = 0xE852_50D6;
/// Entry in 32-bit protected mode.
pub const ARCHITECTURE_I386: u32 = 0;
/// Bytes in the header with its three tags: fixed part 16, information request 16, module
/// alignment 8, end 8.
pub const MULTIBOOT2_LENGTH: u32 = 16 + 16 + 8 + 8;
/// Makes the sum of the four words 0.
pub const MULTIBOOT2_CHECKSUM: u32 = MULTIBOOT2_MAGIC
    .wrapping_add(ARCHITECTURE_I386)
    .wrapping_add(MULTIBOOT2_LENGTH)
    .wrapping_neg();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_add_up_to_zero() {
        let first = u64::from(MULTIBOOT1_MAGIC) + u64::from(MULTIBOOT1_FLAGS);
        assert_eq!((first + u64::from(MULTIBOOT1_CHECKSUM)) as u32, 0);
        let second = u64::from(MULTIBOOT2_MAGIC) + u64::from(MULTIBOOT2_LENGTH);
        assert_eq!((second + u64::from(MULTIBOOT2_CHECKSUM)) as u32, 0);
    }
}
