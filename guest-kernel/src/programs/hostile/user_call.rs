//! `program=user-call`: the call instruction at CPL 3 must fault, not call.
//!
//! Maps the text page and one page of code for CPL 3 and goes there. The code calls the text page
//! with the verb `hello` and, if that returns, ends in UD2; where the fault comes from tells which.
// UNSAFETY: goes to CPL 3 and comes back by a fault.
#![allow(unsafe_code)]

use core::arch::global_asm;

use nuncio_abi::{Verb, PAGE_BYTES, VERSION};

use crate::attempt;
use crate::machine::Native;
use crate::mm::{active, Access};
use crate::println;
use crate::programs::{Context, ExitCode, FAILED, GOOD};
use crate::trap::attempt::{Fault, GENERAL_PROTECTION, INVALID_OPCODE};
use crate::trap::descriptor::{USER_CODE, USER_DATA};

global_asm!(
    ".pushsection .user, \"ax\", @progbits",
    // R11 is the entry for calls, which the kernel put there.
    "user_code:",
    "call r11",
    "user_code_after_call:",
    "ud2",
    ".popsection",
);

extern "C" {
    static user_code: u8;
    static user_code_after_call: u8;
}

/// Flags at CPL 3: interrupts off, like everywhere in this kernel.
const USER_FLAGS: u64 = 0b10;

/// Runs the program.
pub(super) fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let text = context.boot.text_page;
    let stack = crate::trap::user_stack_page();
    let (code_start, code_end) = active::user_code_range();
    let mapped = active::map(code_start, code_end, Access::UserExecute)
        .and_then(|()| active::map(text, text + PAGE_BYTES, Access::UserExecute))
        .and_then(|()| active::map(stack, stack + PAGE_BYTES, Access::UserWrite));
    if mapped.is_err() {
        return FAILED;
    }
    let fault = go_to_user(text, stack + PAGE_BYTES);
    let after_call = (&raw const user_code_after_call).addr() as u64;
    match fault {
        Some(Fault { rip, .. }) if rip == after_call => {
            println!("user-call FAILED: the call returned to CPL 3");
            FAILED
        }
        Some(Fault {
            vector: vector @ (INVALID_OPCODE | GENERAL_PROTECTION),
            rip,
            ..
        }) if rip.wrapping_sub(text) < PAGE_BYTES => {
            println!("user-call ok: vector {vector}");
            GOOD
        }
        other => {
            println!("user-call FAILED: {other:x?}");
            FAILED
        }
    }
}

fn go_to_user(entry: u64, stack_top: u64) -> Option<Fault> {
    let code = (&raw const user_code).addr() as u64;
    // SAFETY: the code at CPL 3 can reach its own pages and the text page, and ends in a fault,
    // after which this goes on here. It leaves RBX and RBP alone; the rest is listed.
    unsafe {
        attempt!(
            "push {user_data}",
            "push {stack_top}",
            "push {flags}",
            "push {user_code}",
            "push {code}",
            "iretq";
            user_data = const USER_DATA,
            stack_top = in(reg) stack_top,
            flags = const USER_FLAGS,
            user_code = const USER_CODE,
            code = in(reg) code,
            in("r11") entry,
            inout("rax") Verb::Hello.number() => _,
            inout("rdi") u64::from(VERSION.to_raw()) => _,
            inout("rsi") 0u64 => _,
            inout("rdx") 0u64 => _,
            inout("r10") 0u64 => _,
            inout("r8") 0u64 => _,
        )
    }
}
