//! The permission maps: which I/O ports and model-specific registers cause an exit.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::{Frame, PhysicalMemory};

/// Frames of the I/O permission map (12 KiB; AMD APM volume 2, section 15.10.1), as a power of two.
pub const IO_MAP_ORDER: u32 = 2;
/// Frames of the MSR permission map (8 KiB; section 15.11), as a power of two.
pub const MSR_MAP_ORDER: u32 = 1;

/// The ranges of registers that the map covers, 2 KiB each with two bits a register.
const MSR_RANGES: [u32; 3] = [0x0000_0000, 0xC000_0000, 0xC001_0000];
const MSRS_PER_RANGE: u32 = 0x2000;
const BYTES_PER_RANGE: u32 = 0x800;

/// Makes every access to every port exit.
pub fn refuse_all_ports(physical: &dyn PhysicalMemory, map: Frame) {
    fill(physical, map, 1 << IO_MAP_ORDER);
}

/// Makes every register exit but those of the list. A register outside the ranges always exits.
pub fn refuse_msrs_except(physical: &dyn PhysicalMemory, map: Frame, passed: &[u32]) {
    fill(physical, map, 1 << MSR_MAP_ORDER);
    for index in passed {
        let Some(bit) = msr_bit(*index) else { continue };
        let frame = map.offset(u64::from(bit / (4096 * 8)));
        let word = bit / 64 % 512;
        if let Some(word) = physical
            .words(frame)
            .and_then(|words| words.get(word as usize))
        {
            word.fetch_and(!(0b11 << (bit % 64)), Relaxed);
        }
    }
}

fn fill(physical: &dyn PhysicalMemory, first: Frame, frames: u64) {
    for index in 0..frames {
        for word in physical.words(first.offset(index)).into_iter().flatten() {
            word.store(u64::MAX, Relaxed);
        }
    }
}

/// The number of a register's read bit; the write bit follows it.
fn msr_bit(index: u32) -> Option<u32> {
    let (range, base) = (0u32..)
        .zip(MSR_RANGES)
        .find(|(_, base)| index.wrapping_sub(*base) < MSRS_PER_RANGE)?;
    Some(range * BYTES_PER_RANGE * 8 + (index - base) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;

    fn bit(arena: &Arena, map: Frame, number: u32) -> u64 {
        let frame = map.offset(u64::from(number / (4096 * 8)));
        let word = arena.words(frame).unwrap()[(number / 64 % 512) as usize].load(Relaxed);
        word >> (number % 64) & 1
    }

    #[test]
    fn only_the_named_registers_pass() {
        let map = Frame(8);
        let arena = Arena::leak(map.0, 2);
        refuse_msrs_except(arena, map, &[0xC000_0082, 0x174, 0x4000_0000]);
        let clear: std::vec::Vec<u32> = (0..2 * 4096 * 8)
            .filter(|number| bit(arena, map, *number) == 0)
            .collect();
        // APM volume 2, section 15.11: MSR 0x174 at byte 0x5D, LSTAR at byte 0x820.
        assert_eq!(clear, [0x2E8, 0x2E9, 0x4104, 0x4105]);
    }

    #[test]
    fn every_port_exits() {
        let map = Frame(4);
        let arena = Arena::leak(map.0, 4);
        refuse_all_ports(arena, map);
        assert!((0..4 * 4096 * 8).all(|number| bit(arena, map, number) == 1));
    }
}
