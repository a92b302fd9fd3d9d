//! The maps of permissions, in which each bit makes something exit. Which bits are a register's is
//! the vendor's affair.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::{Frame, PhysicalMemory, WORDS_PER_PAGE};

/// Bits in a frame of a map.
const FRAME_BITS: u32 = WORDS_PER_PAGE as u32 * 64;

/// A register's bits, for reads and for writes.
pub type MsrBits = [u32; 2];

/// Makes everything exit.
pub fn refuse_all(physical: &dyn PhysicalMemory, map: Frame, order: u32) {
    for index in 0..1 << order {
        for word in physical.words(map.offset(index)).into_iter().flatten() {
            word.store(u64::MAX, Relaxed);
        }
    }
}

/// Makes every model-specific register exit but those of the list. A register for which the map
/// has no bits always exits.
pub fn refuse_msrs_except(
    physical: &dyn PhysicalMemory,
    map: Frame,
    order: u32,
    passed: &[u32],
    bits_of: fn(u32) -> Option<MsrBits>,
) {
    refuse_all(physical, map, order);
    for bit in passed.iter().filter_map(|index| bits_of(*index)).flatten() {
        let words = physical.words(map.offset(u64::from(bit / FRAME_BITS)));
        if let Some(word) = words.and_then(|words| words.get((bit % FRAME_BITS / 64) as usize)) {
            word.fetch_and(!(1 << (bit % 64)), Relaxed);
        }
    }
}

/// Which of the ranges of [`MSRS_PER_RANGE`] has a register, and its place in the range.
pub fn place_in(ranges: &[u32], index: u32) -> Option<(u32, u32)> {
    (0..).zip(ranges).find_map(|(range, base)| {
        let place = index.wrapping_sub(*base);
        (place < MSRS_PER_RANGE).then_some((range, place))
    })
}

/// Registers in a range.
pub const MSRS_PER_RANGE: u32 = 0x2000;

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use std::vec::Vec;

    /// The bits of a map that are clear.
    pub fn clear_bits(physical: &dyn PhysicalMemory, map: Frame, order: u32) -> Vec<u32> {
        let bit = |number: u32| {
            let frame = map.offset(u64::from(number / FRAME_BITS));
            let words = physical.words(frame).unwrap();
            words[(number % FRAME_BITS / 64) as usize].load(Relaxed) >> (number % 64) & 1
        };
        (0..FRAME_BITS << order)
            .filter(|number| bit(*number) == 0)
            .collect()
    }

    /// Checks the map in which SYSENTER_CS, LSTAR and a register outside all ranges pass.
    pub fn check_msr_map(order: u32, bits_of: fn(u32) -> Option<MsrBits>, expected: &[u32]) {
        let map = Frame(8);
        let arena = Arena::leak(map.0, 1 << order);
        refuse_msrs_except(
            arena,
            map,
            order,
            &[0x174, 0xC000_0082, 0x4000_0000],
            bits_of,
        );
        assert_eq!(clear_bits(arena, map, order), expected);
    }

    #[test]
    fn everything_exits_in_every_frame_of_a_map() {
        let map = Frame(4);
        let arena = Arena::leak(map.0, 4);
        refuse_all(arena, map, 2);
        assert!(clear_bits(arena, map, 2).is_empty());
    }

    #[test]
    fn a_register_has_one_place_or_none() {
        let ranges = [0, 0xC000_0000];
        assert_eq!(place_in(&ranges, 0x1FFF), Some((0, 0x1FFF)));
        assert_eq!(place_in(&ranges, 0xC000_0082), Some((1, 0x82)));
        assert_eq!(place_in(&ranges, 0x2000), None);
        assert_eq!(place_in(&ranges, 0xBFFF_FFFF), None);
    }
}
