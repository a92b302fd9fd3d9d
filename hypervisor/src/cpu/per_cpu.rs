//! What each CPU has for itself: a block of memory with its stacks, its tables and its events.
//!
//! A CPU finds its block by its stack pointer: every block is aligned to its size, and every stack of a
//! CPU lies in its block. Segment bases would not do: right after a guest's exit they are the guest's,
//! and an NMI can come then.
//!
//! Invariant: a block is never freed, and no other CPU ever runs on its stacks. So a CPU that was given
//! up and wakes late does no harm.

// UNSAFETY: makes references out of the stack pointer and out of memory for blocks.
#![allow(unsafe_code)]

use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use spin::Once;

use super::local_apic::LocalApic;
use super::local_events::LocalEvents;
use super::segments::HostSegments;
use super::stacks::{Stacks, MAIN_STACK_TOP_IN_STACKS};
use super::startup::{ClockExchange, PhaseCell};

/// Most CPUs that are used.
pub const MAX_CPUS: usize = 256;

/// Size and alignment of a block.
pub const BLOCK_BYTES: usize = 256 * 1024;

const REST_BYTES: usize = BLOCK_BYTES - size_of::<Header>() - size_of::<Stacks>();

/// A CPU's own memory. Each lies at a multiple of its size, which the type does not say: see `linker.ld`.
#[repr(C)]
pub struct CpuBlock {
    header: Header,
    pub(super) stacks: Stacks,
    _rest: UnsafeCell<[u8; REST_BYTES]>,
}

const _: () = assert!(size_of::<CpuBlock>() == BLOCK_BYTES);

// SAFETY: nobody reads or writes the rest, and the other parts can be shared.
unsafe impl Sync for CpuBlock {}

/// Offset of the main stack's end in a block.
pub const MAIN_STACK_TOP: usize = offset_of!(CpuBlock, stacks) + MAIN_STACK_TOP_IN_STACKS;

/// The first page of a block.
#[repr(C, align(4096))]
struct Header {
    cpu: PerCpu,
}

/// What a CPU's handlers and tables are found by.
#[derive(Debug)]
pub(super) struct PerCpu {
    /// Its number among those that run, 0 for the boot CPU; before it runs, its place among the blocks.
    index: AtomicU32,
    pub(super) events: LocalEvents,
    pub(super) segments: Once<HostSegments>,
    pub(super) apic: Once<LocalApic>,
    pub(super) phase: PhaseCell,
    pub(super) clock_exchange: ClockExchange,
    /// Which locks it holds, where that is kept.
    held_locks: AtomicU64,
}

impl PerCpu {
    const fn new(index: u32) -> Self {
        PerCpu {
            index: AtomicU32::new(index),
            events: LocalEvents::new(),
            segments: Once::new(),
            apic: Once::new(),
            phase: PhaseCell::new(),
            clock_exchange: ClockExchange::new(),
            held_locks: AtomicU64::new(0),
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }

    /// Gives it its number; before it is let in.
    pub(super) fn set_index(&self, index: u32) {
        self.index.store(index, Ordering::Relaxed);
    }
}

/// The boot CPU's block; `entry.S` starts on its main stack.
#[cfg_attr(target_os = "none", link_section = ".boot_block")]
pub static BOOT_BLOCK: CpuBlock = CpuBlock {
    header: Header {
        cpu: PerCpu::new(0),
    },
    stacks: Stacks::new(),
    _rest: UnsafeCell::new([0; REST_BYTES]),
};

/// The blocks of the other CPUs, in the order in which they were made; null behind the last.
static OTHER_BLOCKS: [AtomicPtr<CpuBlock>; MAX_CPUS - 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS - 1];

impl CpuBlock {
    /// Makes a block for another CPU, for ever; `None` if the heap or the number of CPUs is exhausted.
    ///
    /// For the boot CPU alone to call. The guard pages are to be left out of the page tables.
    pub(super) fn allocate() -> Option<&'static CpuBlock> {
        let slots = OTHER_BLOCKS.iter().zip(1..);
        let (slot, index) = slots
            .into_iter()
            .find(|(slot, _)| slot.load(Ordering::Acquire).is_null())?;
        let layout = Layout::from_size_align(BLOCK_BYTES, BLOCK_BYTES).ok()?;
        // SAFETY: the layout's size is not 0.
        let memory = unsafe { alloc_zeroed(layout) };
        let block = NonNull::new(memory.cast::<CpuBlock>())?;
        // SAFETY: the memory has the size and the alignment of a block. Zeros are valid stacks, and the
        // header is written before a reference is made.
        let block = unsafe {
            (&raw mut (*block.as_ptr()).header.cpu).write(PerCpu::new(index));
            block.as_ref()
        };
        slot.store(ptr::from_ref(block).cast_mut(), Ordering::Release);
        Some(block)
    }

    pub(super) fn cpu(&self) -> &PerCpu {
        &self.header.cpu
    }

    /// Where the main stack begins, at its upper end.
    pub(super) fn main_stack_top(&self) -> u64 {
        ptr::from_ref(self) as u64 + MAIN_STACK_TOP as u64
    }
}

/// Every block, the boot CPU's first.
pub(super) fn blocks() -> impl Iterator<Item = &'static CpuBlock> {
    let others = OTHER_BLOCKS.iter().map_while(|slot| {
        let block = NonNull::new(slot.load(Ordering::Acquire))?;
        // SAFETY: `allocate` put the address of a block there, which is never freed.
        Some(unsafe { block.as_ref() })
    });
    core::iter::once(&BOOT_BLOCK).chain(others)
}

/// The block of the CPU that this code runs on.
#[inline]
pub(super) fn block() -> &'static CpuBlock {
    // Host tests run on stacks of the host.
    if cfg!(not(target_os = "none")) {
        return &BOOT_BLOCK;
    }
    let stack_pointer: usize;
    // SAFETY: copies a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) stack_pointer, options(nomem, nostack, preserves_flags))
    };
    let block = (stack_pointer & !(BLOCK_BYTES - 1)) as *const CpuBlock;
    // SAFETY: the hypervisor runs on the stacks of blocks alone, from the first Rust code on, and each
    // lies whole in its block, which is aligned to its size.
    unsafe { &*block }
}

/// A number that is this CPU's alone and not 0.
pub(super) fn identity() -> usize {
    ptr::from_ref(block()) as usize
}

/// What the CPU that this code runs on has.
#[inline]
pub(super) fn current() -> &'static PerCpu {
    block().cpu()
}

/// The word of this CPU for the locks that it holds.
pub fn held_locks() -> &'static AtomicU64 {
    &current().held_locks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::stacks;
    use crate::mem::HostPhysical;

    #[test]
    fn every_stack_lies_in_its_block_behind_the_header() {
        let start = ptr::from_ref(&BOOT_BLOCK) as u64;
        for stack in BOOT_BLOCK.stacks.ranges() {
            assert!(stack.guard.start().0 >= start + 4096, "{stack:?}");
            // A stack pointer at the upper end still is an address of the block.
            assert!(stack.body.end().0 < start + BLOCK_BYTES as u64, "{stack:?}");
        }
        let [main, ..] = BOOT_BLOCK.stacks.ranges();
        assert_eq!(main.body.end().0, BOOT_BLOCK.main_stack_top());
    }

    #[test]
    fn a_block_for_another_cpu_is_known_from_then_on() {
        let block = CpuBlock::allocate().unwrap();
        assert_eq!(ptr::from_ref(block) as usize % BLOCK_BYTES, 0);
        assert!(blocks().any(|known| ptr::eq(known, block)));
        assert_ne!(block.cpu().index(), 0);
        let [main, nmi, ..] = block.stacks.ranges();
        let (full, name) = (main.guard.start(), "main stack");
        assert_eq!(stacks::overflowed_at(full.0).unwrap().name, name);
        assert!(stacks::overflowed_at(nmi.body.start().0).is_none());
        assert!(stacks::guards().contains(&nmi.guard));
        assert_eq!(main.body.end(), HostPhysical(block.main_stack_top()));
    }
}
