//! Ranges of physical memory, and lists of them.
//!
//! Invariant: every list that a function here returns is sorted, and its ranges neither overlap
//! nor touch nor are empty.

use alloc::vec::Vec;

use super::{Frame, HostPhysical, PAGE_BYTES, PAGE_SHIFT};

/// Bytes of physical memory from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRange {
    start: u64,
    end: u64,
}

impl HostRange {
    /// A range without a byte.
    pub const EMPTY: HostRange = HostRange { start: 0, end: 0 };

    /// The range between two addresses; `None` if the end lies before the start.
    pub const fn new(start: HostPhysical, end: HostPhysical) -> Option<Self> {
        if start.0 <= end.0 {
            Some(HostRange {
                start: start.0,
                end: end.0,
            })
        } else {
            None
        }
    }

    /// The range of that many bytes; `None` if it goes past the last address.
    pub const fn from_length(start: HostPhysical, length: u64) -> Option<Self> {
        match start.0.checked_add(length) {
            Some(end) => Some(HostRange {
                start: start.0,
                end,
            }),
            None => None,
        }
    }

    /// Address of the first byte.
    pub const fn start(&self) -> HostPhysical {
        HostPhysical(self.start)
    }

    /// Address of the first byte after the range.
    pub const fn end(&self) -> HostPhysical {
        HostPhysical(self.end)
    }

    /// Length in bytes.
    pub const fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the byte at the address belongs to the range.
    pub const fn contains(&self, address: HostPhysical) -> bool {
        self.start <= address.0 && address.0 < self.end
    }

    /// Whether every byte of `other` belongs to the range.
    pub const fn contains_range(&self, other: &HostRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two have a byte in common.
    pub const fn overlaps(&self, other: &HostRange) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// The whole pages inside the range; empty if there are none.
    pub const fn pages_within(&self) -> HostRange {
        let end = self.end & !(PAGE_BYTES - 1);
        let start = match self.start.checked_next_multiple_of(PAGE_BYTES) {
            Some(start) if start < end => start,
            _ => end,
        };
        HostRange { start, end }
    }

    /// The pages that the range touches; none for an empty range.
    pub const fn pages_around(&self) -> HostRange {
        let start = self.start & !(PAGE_BYTES - 1);
        if self.is_empty() {
            return HostRange { start, end: start };
        }
        let end = match self.end.checked_next_multiple_of(PAGE_BYTES) {
            Some(end) => end,
            None => !(PAGE_BYTES - 1),
        };
        HostRange { start, end }
    }

    /// The frame that holds the first byte.
    pub const fn first_frame(&self) -> Frame {
        self.start().frame()
    }

    /// Number of whole frames, for a range whose ends lie on page boundaries.
    pub const fn frame_count(&self) -> u64 {
        self.length() >> PAGE_SHIFT
    }
}

/// Sorts ranges and joins those that overlap or touch; empty ones vanish.
pub fn merge(mut ranges: Vec<HostRange>) -> Vec<HostRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable();
    let mut merged: Vec<HostRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// What is in `ranges` and not in `taken`; both as [`merge`] returns them.
pub fn subtract(ranges: &[HostRange], taken: &[HostRange]) -> Vec<HostRange> {
    let mut rest = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut start = range.start;
        for hole in taken.iter().filter(|hole| hole.overlaps(range)) {
            if start < hole.start {
                rest.push(HostRange {
                    start,
                    end: hole.start,
                });
            }
            start = start.max(hole.end);
        }
        if start < range.end {
            rest.push(HostRange {
                start,
                end: range.end,
            });
        }
    }
    rest
}

/// The total length of ranges that do not overlap, in bytes.
pub fn total_bytes(ranges: &[HostRange]) -> u64 {
    ranges
        .iter()
        .fold(0, |sum, range| sum.saturating_add(range.length()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> HostRange {
        HostRange::new(HostPhysical(start), HostPhysical(end)).unwrap()
    }

    #[test]
    fn rounding_goes_inwards_for_ram_and_outwards_for_the_rest() {
        assert_eq!(range(1, 0x2fff).pages_within(), range(0x1000, 0x2000));
        assert_eq!(range(1, 0xfff).pages_within().length(), 0);
        assert_eq!(range(0x1001, 0x1002).pages_around(), range(0x1000, 0x2000));
        assert!(range(0x1001, 0x1001).pages_around().is_empty());
        assert!(!range(u64::MAX - 1, u64::MAX)
            .pages_within()
            .overlaps(&range(0, u64::MAX)));
    }

    #[test]
    fn backward_and_endless_ranges_do_not_exist() {
        assert_eq!(HostRange::new(HostPhysical(2), HostPhysical(1)), None);
        assert_eq!(HostRange::from_length(HostPhysical(2), u64::MAX), None);
    }

    /// Ranges over a small universe, so that overlaps are common and a set of bytes can be the
    /// model.
    fn small_ranges() -> impl Strategy<Value = Vec<HostRange>> {
        prop::collection::vec((0u64..64, 0u64..16), 0..12).prop_map(|pairs| {
            pairs
                .into_iter()
                .map(|(start, length)| range(start, start + length))
                .collect()
        })
    }

    fn covers(ranges: &[HostRange], byte: u64) -> bool {
        ranges
            .iter()
            .any(|range| range.contains(HostPhysical(byte)))
    }

    fn is_normal(ranges: &[HostRange]) -> bool {
        ranges.iter().all(|range| !range.is_empty())
            && ranges.windows(2).all(|pair| pair[0].end < pair[1].start)
    }

    proptest! {
        #[test]
        fn merging_loses_and_invents_nothing(ranges in small_ranges()) {
            let merged = merge(ranges.clone());
            prop_assert!(is_normal(&merged));
            for byte in 0..80 {
                prop_assert_eq!(covers(&ranges, byte), covers(&merged, byte));
            }
        }

        #[test]
        fn the_rest_is_exactly_what_was_not_taken(ranges in small_ranges(), taken in small_ranges()) {
            let (ranges, taken) = (merge(ranges), merge(taken));
            let rest = subtract(&ranges, &taken);
            prop_assert!(is_normal(&rest));
            for byte in 0..80 {
                let expected = covers(&ranges, byte) && !covers(&taken, byte);
                prop_assert_eq!(covers(&rest, byte), expected);
            }
        }
    }
}
