//! Where exceptions and upcalls arrive: save all registers, call Rust, go back.
//!
//! Intel SDM 3A, 6.14: the CPU aligns the stack and pushes SS, RSP, RFLAGS, CS, RIP and for some
//! vectors an error code; for the others a zero stands in.
// UNSAFETY: code that runs between the interrupted code and Rust.
#![allow(unsafe_code)]

use core::arch::global_asm;

use crate::ops::step_over;

use super::{attempt, interrupts, oops, upcall, EXCEPTIONS, UPCALL_VECTOR};

/// One for each vector.
pub(super) const STUBS: usize = 256;
const STUB_BYTES: usize = 16;

/// What is on the stack when Rust is called.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Frame {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15.
    pub registers: [u64; 15],
    /// The vector.
    pub vector: u64,
    /// The error code, or 0.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// The code segment.
    pub cs: u64,
    /// The flags.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The stack segment.
    pub ss: u64,
}

extern "C" {
    static trap_stubs: u8;
}

/// The address of the stub for a vector.
pub(super) fn stub_address(vector: usize) -> u64 {
    ((&raw const trap_stubs).addr() + vector * STUB_BYTES) as u64
}

// Frame on entry of `handle`: 5 words of the CPU, error code, vector, 15 registers: 22 words, so
// the stack is aligned to 16 as the calling convention wants it.
global_asm!(
    ".pushsection .text.trap, \"ax\", @progbits",
    ".balign 16",
    "trap_stubs:",
    ".set trap_vector, 0",
    ".rept {stubs}",
    ".balign 16",
    // Vectors 8, 10 to 14, 17, 21, 29 and 30 come with an error code.
    ".if trap_vector >= 32",
    "push 0",
    ".else",
    ".ifeq (0x60227D00 >> trap_vector) & 1",
    "push 0",
    ".endif",
    ".endif",
    "push trap_vector",
    "jmp trap_common",
    ".set trap_vector, trap_vector + 1",
    ".endr",
    "trap_common:",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push r11",
    "push r10",
    "push r9",
    "push r8",
    "push rbp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rbx",
    "push rax",
    "cld",
    "mov rdi, rsp",
    "call {handle}",
    "pop rax",
    "pop rbx",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbp",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r11",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "add rsp, 16",
    "iretq",
    ".popsection",
    stubs = const STUBS,
    handle = sym handle,
);

extern "C" fn handle(frame: &mut Frame) {
    frame.rip = step_over(frame.rip);
    let is_programs = !interrupts::are_taken() && frame.vector == u64::from(UPCALL_VECTOR);
    if is_programs && upcall::collect() {
        return;
    }
    let is_answered = match frame.vector {
        0..EXCEPTIONS => attempt::recover(frame),
        vector => interrupts::deliver(vector as u8),
    };
    if !is_answered {
        oops::stop(frame);
    }
}
