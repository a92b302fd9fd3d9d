//! From one stack to another.
// UNSAFETY: the stack pointer changes between two instructions.
#![allow(unsafe_code)]

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::stack::ThreadStack;

/// Registers that a function keeps (System V ABI), and the address to which the switch returns.
const FRAME_WORDS: u64 = 7;

/// Goes on where another thread switched away. The registers of this one lie on its stack, whose pointer is
/// stored in `from`.
///
/// # Safety
/// `to` was stored by this function, or comes from [`prepare`], and nobody else uses that stack. Interrupts
/// are off.
pub(super) unsafe fn switch(from: &AtomicU64, to: &AtomicU64) {
    // SAFETY: promised by the caller.
    unsafe { switch_stacks(from.as_ptr(), to.load(Ordering::Relaxed)) }
}

#[unsafe(naked)]
unsafe extern "C" fn switch_stacks(from: *mut u64, to: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Writes to a new stack what [`switch`] takes from it, so that it goes to `begin`. Returns the stack pointer.
pub(super) fn prepare(stack: &ThreadStack, begin: extern "C" fn() -> !) -> u64 {
    // A function is entered with RSP 8 below a multiple of 16: the place of its return address, here 0.
    let top = stack.top() - 16;
    let stack_pointer = top - (FRAME_WORDS - 1) * 8;
    let frame = stack_pointer as *mut [u64; FRAME_WORDS as usize + 1];
    let mut words = [0; FRAME_WORDS as usize + 1];
    words[FRAME_WORDS as usize - 1] = begin as *const () as u64;
    // SAFETY: the frame lies within the stack, which belongs to nobody else yet.
    unsafe { frame.write(words) };
    stack_pointer
}
