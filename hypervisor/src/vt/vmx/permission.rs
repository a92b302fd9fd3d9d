//! The permission map: which model-specific registers cause an exit. Ports need none: all exit.

#![forbid(unsafe_code)]

use crate::vt::permission::{place_in, MsrBits, MSRS_PER_RANGE};

/// Frames of the map, as a power of two.
pub const MSR_MAP_ORDER: u32 = 0;

/// The ranges of registers that the map covers (Intel SDM vol. 3, 24.6.9): 1 KiB each for reads,
/// then the same for writes.
const RANGES: [u32; 2] = [0x0000_0000, 0xC000_0000];
const WRITE_BITS: u32 = 2048 * 8;

/// The bits of a register.
pub fn msr_bits(index: u32) -> Option<MsrBits> {
    let (range, place) = place_in(&RANGES, index)?;
    let read = range * MSRS_PER_RANGE + place;
    Some([read, read + WRITE_BITS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vt::permission::tests::check_msr_map;

    #[test]
    fn only_the_named_registers_pass() {
        // Byte offsets of the manual: reads at 0 and 1024, writes at 2048 and 3072.
        let expected = [0x174, 1024 * 8 + 0x82, 2048 * 8 + 0x174, 3072 * 8 + 0x82];
        check_msr_map(MSR_MAP_ORDER, msr_bits, &expected);
    }
}
