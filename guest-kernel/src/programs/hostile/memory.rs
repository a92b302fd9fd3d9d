//! Programs that touch memory which they must not.
//!
//! - `bad-memory`, `bad-memory-write`: guest-physical addresses at which nothing is mapped.
//! - `write-readonly`: the time page. `execute-noexec`: the same, as code.
//! - `page-fault`, `stack-overflow`: faults inside the guest, which end in an oops.
// UNSAFETY: raw accesses that are meant to fail.
#![allow(unsafe_code)]

use core::arch::asm;
use core::hint::black_box;

use nuncio_abi::PAGE_BYTES;

use super::SURVIVED;
use crate::machine::Native;
use crate::mm::{active, Access};
use crate::programs::{Context, ExitCode, FAILED};

/// Far beyond the RAM of any domain, so that it must be in no page table.
const UNMAPPED: u64 = 0x7000_0000_0000;

pub(super) fn bad_memory(context: &mut Context<'_, Native>) -> ExitCode {
    touch_hole(context, read)
}

pub(super) fn bad_memory_write(context: &mut Context<'_, Native>) -> ExitCode {
    touch_hole(context, write)
}

/// Maps a hole of the address space in our own tables, so that the guest's CPU sees no fault.
fn touch_hole(context: &mut Context<'_, Native>, touch: fn(u64)) -> ExitCode {
    let Ok(hole) = context.machine.reserve_window(PAGE_BYTES) else {
        return FAILED;
    };
    if active::map(hole, hole + PAGE_BYTES, Access::Write).is_err() {
        return FAILED;
    }
    touch(hole);
    SURVIVED
}

pub(super) fn write_readonly(context: &mut Context<'_, Native>) -> ExitCode {
    let page = context.boot.time_page;
    if active::map(page, page + PAGE_BYTES, Access::Write).is_err() {
        return FAILED;
    }
    write(page + PAGE_BYTES - 8);
    SURVIVED
}

pub(super) fn execute_noexec(context: &mut Context<'_, Native>) -> ExitCode {
    let page = context.boot.time_page;
    if active::map(page, page + PAGE_BYTES, Access::Execute).is_err() {
        return FAILED;
    }
    // SAFETY: the page holds no code; the first fetch ends the domain, or what it runs does.
    unsafe { asm!("call {}", in(reg) page, clobber_abi("C")) }
    SURVIVED
}

pub(super) fn page_fault(_: &mut Context<'_, Native>) -> ExitCode {
    touch_unmapped();
    SURVIVED
}

pub(super) fn stack_overflow(_: &mut Context<'_, Native>) -> ExitCode {
    descend(0)
}

/// Writes where our own tables map nothing.
pub(super) fn touch_unmapped() {
    write(UNMAPPED);
}

/// Calls itself until the stack has no page left.
pub(crate) fn descend(depth: u64) -> ExitCode {
    let page = black_box([depth; 64]);
    if depth == u64::MAX {
        return SURVIVED;
    }
    descend(depth + 1) + black_box(page[0] & 1)
}

fn read(address: u64) {
    // SAFETY: nothing of ours is there.
    unsafe { asm!("mov {}, [{}]", out(reg) _, in(reg) address, options(nostack)) }
}

fn write(address: u64) {
    // SAFETY: nothing of ours is there.
    unsafe { asm!("mov qword ptr [{}], 1", in(reg) address, options(nostack)) }
}
