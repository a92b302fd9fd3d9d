//! The firmware's memory map, and what of it is RAM.

#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::mem::{merge, subtract, HostPhysical, HostRange};

/// Physical addresses from here up are not used: the direct map is an identity map, and in it an
/// address must be canonical (bits 63 to 47 equal; Intel SDM vol. 1, 3.3.7.1).
pub const ADDRESS_LIMIT: u64 = 1 << 46;

/// What the firmware says about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// Where.
    pub range: HostRange,
    /// Whether it is RAM that is free to use; everything else is kept away from.
    pub is_ram: bool,
}

/// The whole pages of RAM in the firmware's map. Where entries contradict each other, the one
/// that says "not RAM" wins.
pub fn ram_pages(entries: &[MemoryEntry]) -> Vec<HostRange> {
    let ranges_where = |is_ram: bool| {
        entries
            .iter()
            .filter(move |entry| entry.is_ram == is_ram)
            .map(|entry| entry.range)
    };
    let unreachable = HostRange::new(HostPhysical(ADDRESS_LIMIT), HostPhysical(u64::MAX));
    let ram = merge(ranges_where(true).collect());
    let taken = merge(
        ranges_where(false)
            .map(|range| range.pages_around())
            .chain(unreachable)
            .collect(),
    );
    subtract(&ram, &taken)
        .iter()
        .map(HostRange::pages_within)
        .filter(|range| !range.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::PAGE_BYTES;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> HostRange {
        HostRange::new(HostPhysical(start), HostPhysical(end)).unwrap()
    }

    #[test]
    fn not_ram_wins_and_takes_the_whole_page() {
        let entry = |start, end, is_ram| MemoryEntry {
            range: range(start, end),
            is_ram,
        };
        let map = [
            entry(0x10_0000, 0x20_0000, true),
            entry(0x18_0800, 0x18_0801, false),
            entry(0x20_0000, 0x20_1800, true),
            entry(ADDRESS_LIMIT - 0x1000, u64::MAX, true),
        ];
        assert_eq!(
            ram_pages(&map),
            [
                range(0x10_0000, 0x18_0000),
                range(0x18_1000, 0x20_1000),
                range(ADDRESS_LIMIT - 0x1000, ADDRESS_LIMIT),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_map_gives_whole_pages(entries in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..20)) {
            let map: Vec<MemoryEntry> = entries
                .into_iter()
                .map(|(a, b, is_ram)| MemoryEntry { range: range(a.min(b), a.max(b)), is_ram })
                .collect();
            let ram = ram_pages(&map);
            prop_assert_eq!(&merge(ram.clone()), &ram);
            for piece in &ram {
                prop_assert_eq!((piece.start().0 | piece.end().0) & (PAGE_BYTES - 1), 0);
                prop_assert!(piece.end().0 <= ADDRESS_LIMIT);
            }
        }
    }
}
