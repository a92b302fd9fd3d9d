//! The hypervisor's heap: a buddy allocator over ranges of RAM.
//!
//! What is free is said by bitmaps at the beginning of each range, not by lists in the free blocks, so that
//! no domain can make allocating or freeing slower for others.

// UNSAFETY: an allocator hands out addresses.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::slice;

use spin::Mutex;

use crate::mem::{Blocks, HostPhysical, HostRange};

/// The smallest block, and the logarithm of its size.
const SMALLEST_BYTES: usize = 16;
const SMALLEST_SHIFT: u32 = SMALLEST_BYTES.trailing_zeros();

/// Ranges that can be added: what the image brings, and what is set aside of the RAM.
const MOST_RANGES: usize = 2;

/// An allocator, to which ranges are added before it is of use.
pub struct Heap(Mutex<State>);

struct State {
    /// The one that was added last is asked first: it is the largest.
    ranges: [Range; MOST_RANGES],
    count: usize,
    used_bytes: u64,
}

struct Range {
    /// Where block 0 would be: a multiple of the largest block.
    base: usize,
    start: usize,
    end: usize,
    blocks: Blocks<'static>,
}

const NO_RANGE: Range = Range {
    base: 0,
    start: 0,
    end: 0,
    blocks: Blocks::empty(),
};

impl Heap {
    /// Without memory.
    pub const fn empty() -> Self {
        Heap(Mutex::new(State {
            ranges: [NO_RANGE; MOST_RANGES],
            count: 0,
            used_bytes: 0,
        }))
    }

    /// Gives it a range of memory, of which a part is for its bitmaps. More ranges than two are left alone.
    ///
    /// # Safety
    ///
    /// The range is mapped and writable at its physical address, and nobody else uses it from now on.
    pub unsafe fn add(&self, range: HostRange) {
        let mut state = self.0.lock();
        let count = state.count;
        if let Some(place) = state.ranges.get_mut(count) {
            // SAFETY: as promised by the caller.
            *place = unsafe { Range::new(range) };
            state.count += 1;
        }
    }

    /// Bytes that are allocated, as they are rounded up.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes
    }
}

impl Range {
    /// # Safety
    ///
    /// As for [`Heap::add`].
    unsafe fn new(range: HostRange) -> Self {
        let HostPhysical(start) = range.start();
        let start = (start as usize).next_multiple_of(SMALLEST_BYTES);
        let end = range.end().0 as usize & !(SMALLEST_BYTES - 1);
        let Some(largest) = end.saturating_sub(start).checked_ilog2() else {
            return NO_RANGE;
        };
        let base = start & !((1 << largest) - 1);
        let numbers = (end - base) >> SMALLEST_SHIFT;
        let words = Blocks::words_for(numbers);
        let first_free = (start + words * size_of::<u64>()).next_multiple_of(SMALLEST_BYTES);
        if first_free >= end {
            return NO_RANGE;
        }
        // SAFETY: the words lie in the range (just checked), aligned to 16 bytes; nobody else uses it
        // (caller), and zeros are written before anything is read.
        let words = unsafe {
            core::ptr::write_bytes(start as *mut u64, 0, words);
            slice::from_raw_parts_mut(start as *mut u64, words)
        };
        let mut blocks = Blocks::new(words, numbers);
        blocks.add((first_free - base) >> SMALLEST_SHIFT, numbers);
        Range {
            base,
            start: first_free,
            end,
            blocks,
        }
    }
}

impl State {
    fn allocate(&mut self, order: u32) -> Option<usize> {
        for range in self.ranges.iter_mut().take(self.count).rev() {
            if let Some(number) = range.blocks.take(order as usize) {
                self.used_bytes += (SMALLEST_BYTES as u64) << order;
                return Some(range.base + (number << SMALLEST_SHIFT));
            }
        }
        None
    }

    fn free(&mut self, address: usize, order: u32) {
        let mut ranges = self.ranges.iter_mut();
        if let Some(range) = ranges.find(|range| (range.start..range.end).contains(&address)) {
            let number = (address - range.base) >> SMALLEST_SHIFT;
            range.blocks.free(number, order as usize);
            self.used_bytes -= (SMALLEST_BYTES as u64) << order;
        }
    }
}

/// The order of the block for a layout: a power of two is as aligned as it is large.
fn order(layout: Layout) -> Option<u32> {
    let bytes = layout.size().max(layout.align()).max(SMALLEST_BYTES);
    let rounded = bytes.checked_next_power_of_two()?;
    Some(rounded.trailing_zeros() - SMALLEST_SHIFT)
}

// SAFETY: a block is handed out once until it is given back (`Blocks` keeps that), lies in a range that is
// this allocator's own, is as large as its layout asks for, and begins at a multiple of its size, since the
// base of a range is a multiple of the largest one.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let address = order(layout).and_then(|order| self.0.lock().allocate(order));
        address.map_or(null_mut(), |address| address as *mut u8)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(order) = order(layout) {
            self.0.lock().free(pointer.addr(), order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use std::vec::Vec;

    /// A heap in memory of the test's that begins at an odd place.
    fn heap(bytes: usize) -> Heap {
        let memory = vec![0xFFu8; bytes + 24].leak();
        let start = memory.as_ptr().addr() as u64 + 5;
        let heap = Heap::empty();
        let range = HostRange::from_length(HostPhysical(start), bytes as u64).unwrap();
        // SAFETY: the memory is nobody else's, for ever.
        unsafe { heap.add(range) };
        heap
    }

    fn allocate(heap: &Heap, bytes: usize, align: usize) -> *mut u8 {
        // SAFETY: no size here is 0.
        unsafe { heap.alloc(Layout::from_size_align(bytes, align).unwrap()) }
    }

    #[test]
    fn pieces_are_aligned_apart_and_come_back() {
        let heap = heap(1 << 20);
        let layouts = [
            (1, 1),
            (24, 8),
            (100, 64),
            (4096, 4096),
            (5000, 16),
            (16, 256),
        ];
        let mut pieces = Vec::new();
        for (bytes, align) in layouts.repeat(20) {
            let piece = allocate(&heap, bytes, align);
            assert!(!piece.is_null() && piece.addr().is_multiple_of(align));
            // SAFETY: the piece is that large.
            unsafe { piece.write_bytes(pieces.len() as u8, bytes) };
            pieces.push((piece, bytes, align));
        }
        for (number, (piece, bytes, align)) in pieces.into_iter().enumerate() {
            for index in 0..bytes {
                // SAFETY: the piece is that large, and was written.
                assert_eq!(unsafe { *piece.add(index) }, number as u8);
            }
            // SAFETY: it was allocated with this layout.
            unsafe { heap.dealloc(piece, Layout::from_size_align(bytes, align).unwrap()) };
        }
        assert_eq!(heap.used_bytes(), 0);
        assert!(
            !allocate(&heap, 1 << 18, 1 << 18).is_null(),
            "the pieces are one again"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let heap = heap(1 << 16);
        assert!(allocate(&heap, 1 << 17, 1).is_null());
        assert!(allocate(&heap, isize::MAX as usize, 1).is_null());
        assert_eq!(heap.used_bytes(), 0);
        let mut count = 0;
        while !allocate(&heap, 1024, 1).is_null() {
            count += 1;
        }
        assert!((50..64).contains(&count), "{count} of 64");
        assert!(allocate(&Heap::empty(), 1, 1).is_null());
        assert!(
            allocate(&super::tests::heap(16), 1, 1).is_null(),
            "there is no room for bitmaps"
        );
    }
}
