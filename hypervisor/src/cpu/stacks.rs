//! The boot CPU's stacks, each with a guard page under it that the page tables leave out.
//!
//! An exception that could come from a broken stack must not run on it: NMI, double fault, machine
//! check and page fault have stacks of their own (Intel SDM vol. 3, 6.14.5).

// UNSAFETY: stacks are statics that the CPU writes to behind the compiler's back.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};

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

/// All stacks of the boot CPU.
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

/// The stacks; `entry.S` starts on the first.
pub static STACKS: Stacks = Stacks {
    main: Stack::new(),
    nmi: Stack::new(),
    double_fault: Stack::new(),
    machine_check: Stack::new(),
    page_fault: Stack::new(),
};

/// Offset of the main stack's end in [`STACKS`].
pub const MAIN_STACK_TOP: usize = offset_of!(Stacks, main) + size_of::<Stack<MAIN_BYTES>>();

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

    pub(super) fn range(self) -> StackRange {
        match self {
            InterruptStack::Nmi => STACKS.nmi.describe("NMI stack"),
            InterruptStack::DoubleFault => STACKS.double_fault.describe("double-fault stack"),
            InterruptStack::MachineCheck => STACKS.machine_check.describe("machine-check stack"),
            InterruptStack::PageFault => STACKS.page_fault.describe("page-fault stack"),
        }
    }
}

/// Every stack.
pub fn all() -> [StackRange; 5] {
    let [nmi, double_fault, machine_check, page_fault] =
        InterruptStack::ALL.map(|stack| stack.range());
    [
        STACKS.main.describe("main stack"),
        nmi,
        double_fault,
        machine_check,
        page_fault,
    ]
}

/// The stack whose guard page holds the address.
pub(super) fn overflowed_at(address: u64) -> Option<StackRange> {
    all()
        .into_iter()
        .find(|stack| stack.guard.contains(HostPhysical(address)))
}

fn range(start: u64, bytes: usize) -> HostRange {
    // A static cannot reach past the end of the address space, so `None` does not happen.
    HostRange::from_length(HostPhysical(start), bytes as u64).unwrap_or(HostRange::EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_lies_right_above_its_guard_page() {
        for stack in all() {
            assert_eq!(stack.guard.end(), stack.body.start());
            assert_eq!(stack.guard.start().0 % PAGE_BYTES, 0);
            assert_eq!(stack.guard.length(), PAGE_BYTES);
            assert_eq!(stack.body.length() % PAGE_BYTES, 0);
        }
        let main = STACKS.main.describe("main stack");
        let base = core::ptr::from_ref(&STACKS) as u64;
        assert_eq!(main.body.end().0, base + MAIN_STACK_TOP as u64);
    }

    #[test]
    fn an_overflow_names_its_stack() {
        let nmi = InterruptStack::Nmi.range();
        assert_eq!(
            overflowed_at(nmi.guard.start().0).unwrap().name,
            "NMI stack"
        );
        assert!(overflowed_at(nmi.body.start().0).is_none());
    }
}
