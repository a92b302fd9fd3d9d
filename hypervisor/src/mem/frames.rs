//! The machine's free frames.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use buddy_system_allocator::FrameAllocator;

use crate::lock::{rank, Mutex};

use super::{Extent, Frame, PhysicalMemory, Words};

/// Physical addresses have at most 52 bits (AMD APM vol 2 §5.1, Intel SDM vol 3 §4.1.4), so frame
/// numbers have 40.
const FRAME_NUMBER_BITS: usize = 40;

/// Block sizes that the buddy allocator knows: 2^0 to 2^40 frames.
///
/// The largest of them has no buddy among valid frame numbers. That matters: when the allocator
/// merges two blocks of its largest size, it forgets both.
const BUDDY_SIZES: usize = FRAME_NUMBER_BITS + 1;

/// The frames that belong to nobody; [`Account`](super::Account)s take from it.
///
/// Invariant: every frame in the pool can be written through its [`PhysicalMemory`].
pub struct FramePool {
    physical: &'static dyn PhysicalMemory,
    free: Mutex<Free, rank::Frames>,
}

struct Free {
    buddies: FrameAllocator<BUDDY_SIZES>,
    frames: u64,
}

impl FramePool {
    /// A pool without frames.
    pub fn new(physical: &'static dyn PhysicalMemory) -> Arc<Self> {
        let buddies = FrameAllocator::new();
        Arc::new(FramePool {
            physical,
            free: Mutex::new(Free { buddies, frames: 0 }),
        })
    }

    /// Puts frames into the pool that have not been in it before.
    ///
    /// Frames that the [`PhysicalMemory`] does not give access to are left out: they could not be
    /// zeroed before somebody gets them.
    pub fn add(&self, first: Frame, count: u64) {
        let limit = 1 << FRAME_NUMBER_BITS;
        let end = first.offset(count).0.min(limit);
        let mut run_start = first.0;
        for number in first.0..end {
            if self.physical.words(Frame(number)).is_none() {
                self.add_run(run_start, number);
                run_start = number + 1;
            }
        }
        self.add_run(run_start, end);
    }

    /// Frames that can be allocated.
    pub fn free_frames(&self) -> u64 {
        self.free.lock().frames
    }

    /// Takes 2^`order` contiguous, naturally aligned frames with whatever is in them.
    pub(super) fn take(&self, order: u32) -> Option<Frame> {
        let count = 1usize.checked_shl(order)?;
        let mut free = self.free.lock();
        let first = free.buddies.alloc(count)?;
        free.frames -= count as u64;
        Some(Frame(first as u64))
    }

    /// Returns what one [`FramePool::take`] gave.
    pub(super) fn give_back(&self, first: Frame, order: u32) {
        let count = 1usize << order;
        let mut free = self.free.lock();
        free.buddies.dealloc(first.0 as usize, count);
        free.frames += count as u64;
    }

    /// Writes zeros to every word of the frames.
    pub(super) fn zero(&self, extent: &Extent) {
        for index in 0..extent.count() {
            if let Some(words) = self.physical.words(extent.first().offset(index)) {
                clear(words);
            }
        }
    }

    fn add_run(&self, start: u64, end: u64) {
        if start < end {
            let mut free = self.free.lock();
            free.buddies.add_frame(start as usize, end as usize);
            free.frames += end - start;
        }
    }
}

/// Writes zeros in stretches of constant length: the compiler merges no atomic stores, so what a
/// frame costs beyond them is the loop's, and a frame is cleared for every table and page.
fn clear(words: &Words) {
    const STRETCH: usize = 16;
    let (stretches, rest) = words.as_chunks::<STRETCH>();
    for stretch in stretches {
        for word in stretch {
            word.store(0, Ordering::Relaxed);
        }
    }
    for word in rest {
        word.store(0, Ordering::Relaxed);
    }
}
