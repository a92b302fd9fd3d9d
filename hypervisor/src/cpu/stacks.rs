//! The stacks of a CPU, each with a guard page under it that the page tables leave out.
//!
//! An exception that could come from a broken stack must not run on it: NMI, double fault, machine
//! check and page fault have stacks of their own (Intel SDM vol. 3, 6.14.5).

// UNSAFETY: stacks are statics that the CPU writes to behind the compiler's back.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};

use super::per_cpu;
use crate::mem::HostRange;
use crate::mem::{HostPhysical, PAGE_BYTES};

const GUARD_BYTES: usize = PAGE_BYTES as usize;
const MAIN_BYTES: usize = 64 * 1024;
const INTERRUPT_BYTES: usize = 16 * 1024;

#[repr(C, align(4096))]
struct Stack<const BYTES: usize> {
    guard: UnsafeCell<[u8; GUARD_BYTES]>,
    body: UnsafeCell<[u8; BYTES]>,
}

impl<const BYTES: usize> Stack<BYTES> {
    const fn new() -> Self {
        Stack {
            guard: UnsafeCell::new([0; GUARD_BYTES]),
            body: UnsafeCell::new([0; BYTES]),
        }
    }

    fn describe(&self, name: &'static str) -> StackRange {
        StackRange {
            name,
            guard: range(self.guard.get() as u64, GUARD_BYTES),
            body: range(self.body.get() as u64, BYTES),
        }
    }
}

/// All stacks of a CPU.
#[repr(C)]
pub struct Stacks {
    main: Stack<MAIN_BYTES>,
    nmi: Stack<INTERRUPT_BYTES>,
    double_fault: Stack<INTERRUPT_BYTES>,
    machine_check: Stack<INTERRUPT_BYTES>,
    page_fault: Stack<INTERRUPT_BYTES>,
}

// SAFETY: Rust code never reads or writes the cells; it only takes their addresses. Each stack is
// used by one CPU.
unsafe impl Sync for Stacks {}

impl Stacks {
    pub(super) const fn new() -> Self {
        Stacks {
            main: Stack::new(),
            nmi: Stack::new(),
            double_fault: Stack::new(),
            machine_check: Stack::new(),
            page_fault: Stack::new(),
        }
    }

    /// Where the stack of an exception is.
    pub(super) fn interrupt(&self, stack: InterruptStack) -> StackRange {
        match stack {
            InterruptStack::Nmi => self.nmi.describe("NMI stack"),
            InterruptStack::DoubleFault => self.double_fault.describe("double-fault stack"),
            InterruptStack::MachineCheck => self.machine_check.describe("machine-check stack"),
            InterruptStack::PageFault => self.page_fault.describe("page-fault stack"),
        }
    }

    /// Where every stack is, the main one first.
    pub(super) fn ranges(&self) -> [StackRange; 5] {
        let [nmi, double_fault, machine_check, page_fault] =
            InterruptStack::ALL.map(|stack| self.interrupt(stack));
        let main = self.main.describe("main stack");
        [main, nmi, double_fault, machine_check, page_fault]
    }
}

/// Offset of the main stack's end in [`Stacks`].
pub(super) const MAIN_STACK_TOP_IN_STACKS: usize =
    offset_of!(Stacks, main) + size_of::<Stack<MAIN_BYTES>>();

/// Where a stack is.
#[derive(Clone, Copy, Debug)]
pub struct StackRange {
    /// For reports.
    pub name: &'static str,
    /// The page under it.
    pub guard: HostRange,
    /// The stack itself.
    pub body: HostRange,
}

/// A stack of the interrupt stack table, in the table's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InterruptStack {
    Nmi,
    DoubleFault,
    MachineCheck,
    PageFault,
}

impl InterruptStack {
    pub(super) const ALL: [InterruptStack; 4] = [
        InterruptStack::Nmi,
        InterruptStack::DoubleFault,
        InterruptStack::MachineCheck,
        InterruptStack::PageFault,
    ];
}

/// The guard pages of every CPU's stacks.
pub fn guards() -> Vec<HostRange> {
    let stacks = per_cpu::blocks().flat_map(|block| block.stacks.ranges());
    stacks.map(|stack| stack.guard).collect()
}

/// The stack of any CPU whose guard page holds the address.
pub(super) fn overflowed_at(address: u64) -> Option<StackRange> {
    per_cpu::blocks()
        .flat_map(|block| block.stacks.ranges())
        .find(|stack| stack.guard.contains(HostPhysical(address)))
}

fn range(start: u64, bytes: usize) -> HostRange {
    // A static cannot reach past the end of the address space, so `None` does not happen.
    HostRange::from_length(HostPhysical(start), bytes as u64).unwrap_or(HostRange::EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::per_cpu::BOOT_BLOCK;

    #[test]
    fn every_stack_lies_right_above_its_guard_page() {
        for stack in BOOT_BLOCK.stacks.ranges() {
            assert_eq!(stack.guard.end(), stack.body.start());
            assert_eq!(stack.guard.start().0 % PAGE_BYTES, 0);
            assert_eq!(stack.guard.length(), PAGE_BYTES);
            assert_eq!(stack.body.length() % PAGE_BYTES, 0);
        }
    }

    #[test]
    fn an_overflow_names_its_stack() {
        let nmi = BOOT_BLOCK.stacks.interrupt(InterruptStack::Nmi);
        let full = overflowed_at(nmi.guard.start().0).unwrap();
        assert_eq!(full.name, "NMI stack");
        assert!(overflowed_at(nmi.body.start().0).is_none());
    }
}
