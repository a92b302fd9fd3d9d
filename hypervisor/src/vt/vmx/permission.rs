//! The permission map: which model-specific registers cause an exit. Ports need none: all exit.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::{Frame, PhysicalMemory};

/// The ranges of registers that the map covers (Intel SDM vol. 3, 24.6.9): 1 KiB each for reads,
/// then the same for writes.
const RANGES: [u32; 2] = [0x0000_0000, 0xC000_0000];
const REGISTERS_PER_RANGE: u32 = 0x2000;
const WRITE_BITS: u32 = 2048 * 8;

/// Makes every register exit but those of the list. A register outside the ranges always exits.
pub fn refuse_msrs_except(physical: &dyn PhysicalMemory, map: Frame, passed: &[u32]) {
    let Some(words) = physical.words(map) else {
        return;
    };
    for word in words {
        word.store(u64::MAX, Relaxed);
    }
    for bit in passed.iter().filter_map(|index| read_bit(*index)) {
        for bit in [bit, bit + WRITE_BITS] {
            if let Some(word) = words.get((bit / 64) as usize) {
                word.fetch_and(!(1 << (bit % 64)), Relaxed);
            }
        }
    }
}

fn read_bit(index: u32) -> Option<u32> {
    let (range, base) = (0u32..)
        .zip(RANGES)
        .find(|(_, base)| index.wrapping_sub(*base) < REGISTERS_PER_RANGE)?;
    Some(range * REGISTERS_PER_RANGE + (index - base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;

    #[test]
    fn only_the_named_registers_pass() {
        let map = Frame(8);
        let arena = Arena::leak(map.0, 1);
        refuse_msrs_except(arena, map, &[0xC000_0082, 0x174, 0x4000_0000]);
        let words = arena.words(map).unwrap();
        let clear: std::vec::Vec<u32> = (0..4096 * 8)
            .filter(|bit| words[(bit / 64) as usize].load(Relaxed) >> (bit % 64) & 1 == 0)
            .collect();
        // Byte offsets of the manual: reads at 0 and 1024, writes at 2048 and 3072.
        let expected = [0x174, 1024 * 8 + 0x82, 2048 * 8 + 0x174, 3072 * 8 + 0x82];
        assert_eq!(clear, expected);
    }
}
