//! Which RAM there is and which of it is free, from a memory map whose ranges may overlap and come in any
//! order.
#![forbid(unsafe_code)]

use core::ops::Range;

use nuncio_abi::PAGE_BYTES;

use super::handover::{Handover, MemoryKind};

/// RAM behind this is left alone, for want of page tables.
pub const RAM_LIMIT: u64 = 64 << 30;
/// RAM below this is not free: other CPUs of a PC start there, and its firmware keeps things there.
pub const LOW_END: u64 = 1 << 20;

/// The whole pages of RAM below the limit, free or not, each handed out once and in order. Where a range
/// that is not RAM overlaps one that is, it is not.
pub fn all(handover: &Handover, take: impl FnMut(Range<u64>)) {
    let is_ram = |kind| matches!(kind, MemoryKind::Free | MemoryKind::Loaded);
    let in_the_way = |range: &Range<u64>| next_other(handover, is_ram, range);
    sweep(handover, is_ram, in_the_way, take);
}

/// The whole pages of RAM that may become heap: free, above the first MiB, not in a module, not in one of the
/// `taken` ranges.
pub fn free(handover: &Handover, taken: &[Range<u64>], take: impl FnMut(Range<u64>)) {
    let is_free = |kind| kind == MemoryKind::Free;
    let modules = || {
        handover
            .modules()
            .iter()
            .map(|module| module.start..module.end)
    };
    let low = 0..LOW_END;
    let in_the_way = |range: &Range<u64>| {
        let others = modules().chain(taken.iter().cloned()).chain([low.clone()]);
        earliest(others.chain(next_other(handover, is_free, range)), range)
    };
    sweep(handover, is_free, in_the_way, take);
}

/// Bytes of RAM that the kernel must leave alone because they are behind the limit.
pub fn bytes_beyond_limit(handover: &Handover) -> u64 {
    let free = handover
        .ranges()
        .iter()
        .filter(|range| range.kind == MemoryKind::Free);
    let beyond = free.map(|range| range.end.saturating_sub(range.start.max(RAM_LIMIT)));
    beyond.fold(0, u64::saturating_add)
}

/// Goes through the ranges of the wanted kinds by address, and hands out what nothing is in the way of.
fn sweep(
    handover: &Handover,
    is_wanted: impl Fn(MemoryKind) -> bool,
    in_the_way: impl Fn(&Range<u64>) -> Option<Range<u64>>,
    mut take: impl FnMut(Range<u64>),
) {
    let mut cursor = 0;
    // Each turn ends behind a range or an obstacle, so there are not more turns than of both.
    while let Some(range) = next_wanted(handover, &is_wanted, cursor) {
        let obstacle = in_the_way(&range);
        let end = obstacle
            .as_ref()
            .map_or(range.end, |obstacle| obstacle.start.max(range.start));
        let start = range.start.next_multiple_of(PAGE_BYTES);
        let whole_end = end & !(PAGE_BYTES - 1);
        if start < whole_end {
            take(start..whole_end);
        }
        cursor = obstacle.map_or(range.end, |obstacle| obstacle.end);
    }
}

/// The first range from `start` on that only has wanted kinds in it, as long as it can be.
fn next_wanted(
    handover: &Handover,
    is_wanted: impl Fn(MemoryKind) -> bool,
    start: u64,
) -> Option<Range<u64>> {
    let wanted = || {
        let wanted = handover
            .ranges()
            .iter()
            .filter(|range| is_wanted(range.kind));
        wanted.map(|range| range.start.max(start)..range.end.min(RAM_LIMIT))
    };
    let ranges = wanted().filter(|range| range.start < range.end);
    let mut found = ranges.min_by_key(|range| range.start)?;
    // What begins in it or at its end makes it longer.
    let longer = |end| wanted().filter(move |range| range.start <= end && end < range.end);
    while let Some(next) = longer(found.end).next() {
        found.end = next.end;
    }
    Some(found)
}

/// The first part of the range that another kind claims.
fn next_other(
    handover: &Handover,
    is_wanted: impl Fn(MemoryKind) -> bool,
    range: &Range<u64>,
) -> Option<Range<u64>> {
    let others = handover
        .ranges()
        .iter()
        .filter(|other| !is_wanted(other.kind));
    earliest(others.map(|other| other.start..other.end), range)
}

fn earliest(others: impl Iterator<Item = Range<u64>>, range: &Range<u64>) -> Option<Range<u64>> {
    let overlapping = others.filter(|other| other.start < range.end && range.start < other.end);
    overlapping
        .filter(|other| !other.is_empty())
        .min_by_key(|other| other.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::handover::Loader;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;

    fn handover(ranges: &[(u64, u64, MemoryKind)]) -> Handover {
        let mut handover = Handover::new(Loader::Pvh);
        for (start, bytes, kind) in ranges {
            handover.add_range(*start, *bytes, *kind).unwrap();
        }
        handover
    }

    fn free_ranges(handover: &Handover, taken: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        free(handover, taken, |range| found.push(range));
        found
    }

    #[test]
    fn the_free_ram_of_a_pc() {
        let mut pc = handover(&[
            (0, 0x9_FC00, MemoryKind::Free),
            (0x9_FC00, 0x400, MemoryKind::Reserved),
            (4096 * MIB, 64 * MIB, MemoryKind::Free),
            (MIB, 127 * MIB, MemoryKind::Free),
            (120 * MIB + 0x10, 0x20, MemoryKind::Tables),
            (RAM_LIMIT - MIB, 3 * MIB, MemoryKind::Free),
        ]);
        pc.add_module(8 * MIB + 1, MIB).unwrap();
        let found = free_ranges(&pc, core::slice::from_ref(&(2 * MIB..3 * MIB)));
        let expected = [
            MIB..2 * MIB,
            3 * MIB..8 * MIB,
            9 * MIB + 0x1000..120 * MIB,
            120 * MIB + 0x1000..128 * MIB,
            4096 * MIB..4160 * MIB,
            RAM_LIMIT - MIB..RAM_LIMIT,
        ];
        assert_eq!(found, expected);
        assert_eq!(bytes_beyond_limit(&pc), 2 * MIB);
        let mut ram = Vec::new();
        all(&pc, |range| ram.push(range));
        assert_eq!(ram.first(), Some(&(0..0x9_F000)));
        assert_eq!(ram.get(1), Some(&(MIB..120 * MIB)));
    }

    fn ranges() -> impl Strategy<Value = Vec<(u64, u64, MemoryKind)>> {
        let kinds = std::vec![
            MemoryKind::Free,
            MemoryKind::Loaded,
            MemoryKind::Tables,
            MemoryKind::Reserved
        ];
        let range = (0u64..200, 1u64..40, proptest::sample::select(kinds));
        proptest::collection::vec(range, 0..12)
    }

    proptest! {
        /// Pages, in small: a page is free if a free range has all of it and nothing else any of it.
        #[test]
        fn a_page_is_free_or_it_is_not(ranges in ranges(), module in (0u64..200, 0u64..9), taken in (0u64..200, 0u64..9)) {
            // Halves of pages, from the first MiB on.
            let half = |number: u64| LOW_END + number * (PAGE_BYTES / 2);
            let mut handover = Handover::new(Loader::Pvh);
            for (start, halves, kind) in &ranges {
                handover.add_range(half(*start), halves * (PAGE_BYTES / 2), *kind).unwrap();
            }
            handover.add_module(half(module.0), module.1 * (PAGE_BYTES / 2)).unwrap();
            let taken_range = half(taken.0)..half(taken.0 + taken.1);
            let found = free_ranges(&handover, &[taken_range]);
            let is_free = |number: u64| {
                let has = |kinds: &dyn Fn(MemoryKind) -> bool| ranges.iter().any(|(start, count, kind)| {
                    kinds(*kind) && (*start..start + count).contains(&number)
                });
                let in_module = (module.0..module.0 + module.1).contains(&number);
                let is_taken = (taken.0..taken.0 + taken.1).contains(&number);
                has(&|kind| kind == MemoryKind::Free) && !has(&|kind| kind != MemoryKind::Free) && !in_module && !is_taken
            };
            for page in 0..130u64 {
                let address = LOW_END + page * PAGE_BYTES;
                let expected = is_free(2 * page) && is_free(2 * page + 1);
                let times = found.iter().filter(|range| range.contains(&address)).count();
                prop_assert_eq!(times, usize::from(expected), "page {}", page);
            }
        }
    }
}
