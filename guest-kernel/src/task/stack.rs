//! Stacks of threads, each with a page below it that is not mapped. A stack that is not used any more is kept
//! for the next thread: so the pages stay unmapped on all CPUs.
// UNSAFETY: a stack is memory that the CPU writes behind Rust's back.
#![allow(unsafe_code)]

use alloc::alloc::alloc_zeroed;
use alloc::vec::Vec;
use core::alloc::Layout;

use nuncio_abi::PAGE_BYTES;

use crate::mm::active;
use crate::sync::IrqLock;

/// Bytes in a stack with its guard page.
const BYTES: u64 = 64 << 10;

static UNUSED: IrqLock<Vec<u64>> = IrqLock::new(Vec::new());

/// A stack; back to the others when it is dropped.
pub(super) struct ThreadStack {
    start: u64,
}

impl ThreadStack {
    /// An unused stack, or a new one; `None` if there is no memory.
    pub(super) fn take() -> Option<Self> {
        let unused = UNUSED.lock().pop();
        let start = unused.or_else(allocate)?;
        Some(ThreadStack { start })
    }

    /// The address just past it, a multiple of 16.
    pub(super) const fn top(&self) -> u64 {
        self.start + BYTES
    }
}

impl Drop for ThreadStack {
    fn drop(&mut self) {
        UNUSED.lock().push(self.start);
    }
}

fn allocate() -> Option<u64> {
    let layout = Layout::from_size_align(BYTES as usize, PAGE_BYTES as usize).ok()?;
    // SAFETY: the layout has a size.
    let start = unsafe { alloc_zeroed(layout) }.addr() as u64;
    if start == 0 {
        return None;
    }
    // Other CPUs may know the page until they forget it: then only they would miss an overflow.
    active::unmap(start, start + PAGE_BYTES).ok()?;
    Some(start)
}
