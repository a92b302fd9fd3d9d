//! Physical memory as the rest of the hypervisor may touch it.

// UNSAFETY: turns physical addresses into references.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::mem::{merge, HostRange};
use crate::mem::{Frame, PhysicalMemory, Words};

/// Gives out the frames that were nobody's at boot and those of the boot modules, and no others:
/// never the hypervisor's own memory.
#[derive(Debug)]
pub struct DirectMap {
    /// Sorted, without overlaps.
    ranges: Vec<HostRange>,
    /// The largest of them, which holds nearly every frame that is asked for.
    largest: HostRange,
}

impl DirectMap {
    /// A map of these ranges, for ever.
    ///
    /// # Safety
    ///
    /// 1. The ranges consist of whole pages that the page tables map at their physical address,
    ///    writable, for as long as the hypervisor runs.
    /// 2. No Rust object lies in them, now or later, other than the words given out here.
    pub unsafe fn new(usable: &[HostRange], modules: &[HostRange]) -> &'static Self {
        let ranges = merge(usable.iter().chain(modules).copied().collect());
        let largest = ranges
            .iter()
            .max_by_key(|range| range.length())
            .copied()
            .unwrap_or(HostRange::EMPTY);
        Box::leak(Box::new(DirectMap { ranges, largest }))
    }

    #[inline]
    fn contains(&self, frame: Frame) -> bool {
        holds(&self.largest, frame) || self.search(frame)
    }

    #[cold]
    fn search(&self, frame: Frame) -> bool {
        let first_after = self
            .ranges
            .partition_point(|range| range.first_frame() <= frame);
        first_after
            .checked_sub(1)
            .and_then(|index| self.ranges.get(index))
            .is_some_and(|range| holds(range, frame))
    }
}

#[inline]
fn holds(range: &HostRange, frame: Frame) -> bool {
    frame.0.wrapping_sub(range.first_frame().0) < range.frame_count()
}

impl PhysicalMemory for DirectMap {
    #[inline]
    fn words(&self, frame: Frame) -> Option<&'static Words> {
        if !self.contains(frame) {
            return None;
        }
        let pointer = frame.start().0 as *const Words;
        // SAFETY: the frame is one of a range that `new` was given: mapped at this address for
        // ever and free of other Rust objects. Atomic words allow every access by anyone.
        Some(unsafe { &*pointer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::HostPhysical;

    #[test]
    fn only_frames_inside_the_ranges_are_given_out() {
        let range = |start, length| HostRange::from_length(HostPhysical(start), length).unwrap();
        // SAFETY: the test asks `contains` alone, and no frame of the map is ever touched.
        let map = unsafe {
            DirectMap::new(
                &[range(0x10_0000, 0x3000), range(0x20_0000, 0x1000)],
                &[range(0x10_3000, 0x1000)],
            )
        };
        let inside: Vec<u64> = (0..0x300)
            .filter(|frame| map.contains(Frame(*frame)))
            .collect();
        assert_eq!(inside, [0x100, 0x101, 0x102, 0x103, 0x200]);
        assert!(!map.contains(Frame(u64::MAX)));
        assert!(map.words(Frame(0xFF)).is_none());
    }
}
