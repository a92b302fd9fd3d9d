//! What a child does: a list of calls that its maker has written into its memory.
//!
//! A child makes one call after the other and then begins again. A call of which it is said that it must
//! succeed is made until it does, or until there is nobody any more who could answer.
// UNSAFETY: the bytes between two symbols of the assembler.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::slice;

use nuncio_abi::{Call, Error};

/// Words of one call: the verb, five arguments, and whether it must succeed.
pub const WORDS: usize = 7;

// Where the child has what it needs; `stage` puts it there.
/// The calls.
pub const SCRIPT: u64 = 0x6000;
/// The text page.
pub const TEXT: u64 = 0x9000;
/// What it is lent.
pub const LENT: u64 = 0x8000;

global_asm!(
    ".pushsection .rodata.soak, \"a\"",
    "soak_caller_start:",
    "sti",
    "2:",
    "mov ebx, {script}",
    "3:",
    "mov rax, [rbx]",
    "cmp rax, -1",
    "je 2b",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov ebp, {text}",
    "call rbp",
    "test rax, rax",
    "jz 4f",
    "cmp rax, {peer_gone}",
    "je 4f",
    "cmp qword ptr [rbx + 48], 0",
    "jne 3b",
    "4:",
    "add rbx, {bytes}",
    "jmp 3b",
    "soak_caller_end:",
    "soak_counter_start:",
    "sti",
    "inc qword ptr [{lent}]",
    "jmp soak_counter_start",
    "soak_counter_end:",
    ".popsection",
    script = const SCRIPT,
    text = const TEXT,
    lent = const LENT,
    bytes = const WORDS * 8,
    peer_gone = const Error::PeerGone.number(),
);

/// The code of a child that makes calls.
pub fn caller() -> &'static [u8] {
    extern "C" {
        static soak_caller_start: u8;
        static soak_caller_end: u8;
    }
    between(&raw const soak_caller_start, &raw const soak_caller_end)
}

/// The code of a child that counts in what it is lent.
pub fn counter() -> &'static [u8] {
    extern "C" {
        static soak_counter_start: u8;
        static soak_counter_end: u8;
    }
    between(&raw const soak_counter_start, &raw const soak_counter_end)
}

fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: both are the assembler's symbols, with read-only bytes between them.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// A call as a child finds it.
pub fn words(call: &Call, must_succeed: bool) -> [u64; WORDS] {
    let raw = call.encode();
    let [first, second, third, fourth, fifth] = raw.arguments;
    let must_succeed = u64::from(must_succeed);
    [raw.verb, first, second, third, fourth, fifth, must_succeed]
}

/// The end of a list.
pub const END: [u64; WORDS] = [u64::MAX, 0, 0, 0, 0, 0, 0];
