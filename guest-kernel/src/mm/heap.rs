//! The heap. Interrupt handlers use it, too, so its lock is held with interrupts off.
// UNSAFETY: an allocator is unsafe by its trait.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{null_mut, NonNull};

use buddy_system_allocator::Heap;

use crate::sync::IrqLock;

/// Orders 0 to 32: blocks of up to 4 GiB.
static HEAP: IrqLock<Heap<33>> = IrqLock::new(Heap::empty());

/// The allocator of the image.
pub struct KernelHeap;

/// How much of the heap is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUsage {
    /// What has been asked for.
    pub used_bytes: u64,
    /// All that there is.
    pub total_bytes: u64,
}

// SAFETY: the heap gives each block to one owner; the lock keeps its lists whole.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = HEAP.lock().alloc(layout);
        block.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            HEAP.lock().dealloc(block, layout);
        }
    }
}

/// Adds memory to the heap.
///
/// # Safety
/// It is RAM that is mapped and holds nothing, and was not added before.
pub unsafe fn add(start: usize, bytes: usize) {
    // SAFETY: promised by the caller.
    unsafe { HEAP.lock().add_to_heap(start, start + bytes) }
}

/// How much of it is used.
pub fn usage() -> HeapUsage {
    let heap = HEAP.lock();
    HeapUsage {
        used_bytes: heap.stats_alloc_user() as u64,
        total_bytes: heap.stats_total_bytes() as u64,
    }
}
