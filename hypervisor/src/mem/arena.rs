//! Physical memory for tests: a run of frames on the host's heap.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::array;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Frame, FramePool, PhysicalMemory, Words};

/// Frames that exist for the rest of the test run.
pub(crate) struct Arena {
    first: Frame,
    frames: &'static [Words],
}

impl Arena {
    /// An arena with `frames` frames, all zero, from `first_frame` on.
    pub(crate) fn leak(first_frame: u64, frames: u64) -> &'static Arena {
        let zeroed = (0..frames).map(|_| array::from_fn(|_| AtomicU64::new(0)));
        Box::leak(Box::new(Arena {
            first: Frame(first_frame),
            frames: Box::leak(zeroed.collect()),
        }))
    }

    /// A new pool with all frames of the arena. Pools over one arena are used one after the other.
    pub(crate) fn pool(&'static self) -> Arc<FramePool> {
        let pool = FramePool::new(self);
        pool.add(self.first, self.frames.len() as u64);
        pool
    }

    /// Writes `value` to every word.
    pub(crate) fn fill(&self, value: u64) {
        for word in self.frames.iter().flatten() {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Whether every word of the frame has the value.
    pub(crate) fn holds(&self, frame: Frame, value: u64) -> bool {
        let words = self.words(frame).unwrap();
        words
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == value)
    }
}

impl PhysicalMemory for Arena {
    fn words(&self, frame: Frame) -> Option<&'static Words> {
        let index = frame.0.checked_sub(self.first.0)?;
        self.frames.get(usize::try_from(index).ok()?)
    }
}
