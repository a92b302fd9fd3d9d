//! The stacks, each with a page below it that is never mapped.
// UNSAFETY: a stack is memory that the CPU writes behind Rust's back.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;

use nuncio_abi::PAGE_BYTES;

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
/// The stack for exceptions.
pub(super) static EXCEPTION_STACK: Stack = Stack::new();
/// The stack for double faults, which may mean that the one for exceptions has overflowed.
pub(super) static DOUBLE_FAULT_STACK: Stack = Stack::new();

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

/// The pages that must not be mapped.
pub fn guard_pages() -> [u64; 3] {
    [&MAIN_STACK, &EXCEPTION_STACK, &DOUBLE_FAULT_STACK].map(Stack::start)
}

/// The usable part of the main stack.
pub fn main_stack_range() -> (u64, u64) {
    (MAIN_STACK.start() + PAGE_BYTES, MAIN_STACK.top())
}
