//! The permission maps: which I/O ports and model-specific registers cause an exit.

#![forbid(unsafe_code)]

use crate::vt::permission::{place_in, MsrBits};

/// Frames of the I/O permission map (12 KiB; AMD APM volume 2, section 15.10.1), as a power of two.
pub const IO_MAP_ORDER: u32 = 2;
/// Frames of the MSR permission map (8 KiB; section 15.11), as a power of two.
pub const MSR_MAP_ORDER: u32 = 1;

/// The ranges of registers that the map covers, 2 KiB each with two bits a register.
const RANGES: [u32; 3] = [0x0000_0000, 0xC000_0000, 0xC001_0000];
const BITS_PER_RANGE: u32 = 0x800 * 8;

/// The bits of a register: its read bit, and its write bit behind it.
pub fn msr_bits(index: u32) -> Option<MsrBits> {
    let (range, place) = place_in(&RANGES, index)?;
    let read = range * BITS_PER_RANGE + place * 2;
    Some([read, read + 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vt::permission::tests::check_msr_map;

    #[test]
    fn only_the_named_registers_pass() {
        // Section 15.11: MSR 0x174 at byte 0x5D, LSTAR at byte 0x820.
        check_msr_map(MSR_MAP_ORDER, msr_bits, &[0x2E8, 0x2E9, 0x4104, 0x4105]);
    }
}
