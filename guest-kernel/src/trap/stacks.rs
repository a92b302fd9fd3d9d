//! The stacks, each with a page below it that is never mapped.
// UNSAFETY: a stack is memory that the CPU writes behind Rust's back.
#![allow(unsafe_code)]

use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::cell::UnsafeCell;

use nuncio_abi::PAGE_BYTES;

use crate::mm::active;

/// Bytes in a stack with its guard page.
pub const STACK_BYTES: usize = 64 << 10;

/// A stack; its first page is the guard page.
#[repr(C, align(4096))]
pub struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: no reference to the bytes is ever made; only the CPU's stack pointer goes there.
unsafe impl Sync for Stack {}

impl Stack {
    const fn new() -> Self {
        Stack(UnsafeCell::new([0; STACK_BYTES]))
    }

    /// A stack from the heap, never given back; `None` if there is no room.
    fn allocate() -> Option<&'static Stack> {
        // SAFETY: the layout has a size. Zeros are a stack, and nobody else has this memory.
        unsafe {
            alloc_zeroed(Layout::new::<Stack>())
                .cast::<Stack>()
                .as_ref()
        }
    }

    fn start(&self) -> u64 {
        self.0.get().addr() as u64
    }

    /// The address just past the stack, where an empty one begins.
    pub fn top(&self) -> u64 {
        self.start() + STACK_BYTES as u64
    }
}

/// The stack on which the kernel and its programs run.
pub static MAIN_STACK: Stack = Stack::new();
static EXCEPTION_STACK: Stack = Stack::new();
static DOUBLE_FAULT_STACK: Stack = Stack::new();

/// The stacks of a vcpu.
pub struct Stacks {
    /// On which it runs.
    pub main: &'static Stack,
    /// For exceptions.
    pub(super) exception: &'static Stack,
    /// For double faults, which may mean that the one for exceptions has overflowed.
    pub(super) double_fault: &'static Stack,
}

/// Those of the first vcpu.
pub const FIRST_STACKS: Stacks = Stacks {
    main: &MAIN_STACK,
    exception: &EXCEPTION_STACK,
    double_fault: &DOUBLE_FAULT_STACK,
};

impl Stacks {
    /// Stacks from the heap, never given back; `None` if there is no room.
    pub fn allocate() -> Option<Stacks> {
        let stacks = Stacks {
            main: Stack::allocate()?,
            exception: Stack::allocate()?,
            double_fault: Stack::allocate()?,
        };
        for guard in stacks.guard_pages() {
            active::unmap(guard, guard + PAGE_BYTES).ok()?;
        }
        Some(stacks)
    }

    /// The pages that must not be mapped.
    pub fn guard_pages(&self) -> [u64; 3] {
        [self.main, self.exception, self.double_fault].map(Stack::start)
    }
}

/// A page of stack for code at CPL 3, which must not share one with the kernel.
#[repr(C, align(4096))]
struct UserStack(UnsafeCell<[u8; PAGE_BYTES as usize]>);

// SAFETY: as for `Stack`.
unsafe impl Sync for UserStack {}

static USER_STACK: UserStack = UserStack(UnsafeCell::new([0; PAGE_BYTES as usize]));

/// The address of the page of stack for CPL 3.
pub fn user_stack_page() -> u64 {
    USER_STACK.0.get().addr() as u64
}
