//! The descriptor tables in memory, and the instructions that load them.
// UNSAFETY: LGDT, LIDT, LTR and segment registers.
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::descriptor::{
    interrupt_gate, segments, task_state, KERNEL_CODE, KERNEL_DATA, TASK_STATE,
};
use super::stacks::{DOUBLE_FAULT_STACK, EXCEPTION_STACK};
use super::stubs::{stub_address, STUBS};

const EXCEPTIONS: usize = 32;
const DOUBLE_FAULT: usize = 8;
const EXCEPTION_STACK_NUMBER: u8 = 1;
const DOUBLE_FAULT_STACK_NUMBER: u8 = 2;

// Atomics, because the CPU marks the task state segment busy in its descriptor.
static SEGMENTS: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];
static GATES: [AtomicU64; 2 * STUBS] = [const { AtomicU64::new(0) }; 2 * STUBS];
static TASK: [AtomicU32; 26] = [const { AtomicU32::new(0) }; 26];

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    address: u64,
}

impl TablePointer {
    fn to(table: &'static [AtomicU64]) -> Self {
        TablePointer {
            limit: (size_of_val(table) - 1) as u16,
            address: table.as_ptr().addr() as u64,
        }
    }
}

/// Fills the tables and loads them.
pub fn install() {
    fill();
    let segments = TablePointer::to(&SEGMENTS);
    let gates = TablePointer::to(&GATES);
    // SAFETY: the tables are complete and live for ever; the new code segment is like the old one,
    // 64-bit at CPL 0, so execution goes on after the far return.
    unsafe {
        asm!(
            "lgdt [{segments}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov ss, {data:x}",
            "mov fs, {zero:x}",
            "mov gs, {zero:x}",
            "ltr {task:x}",
            "lidt [{gates}]",
            segments = in(reg) &raw const segments,
            gates = in(reg) &raw const gates,
            code = in(reg) u64::from(KERNEL_CODE),
            data = in(reg) KERNEL_DATA,
            zero = in(reg) 0u16,
            task = in(reg) TASK_STATE,
            scratch = out(reg) _,
        );
    }
}

/// Loads a table without gates: the next exception is a triple fault.
pub fn remove_gates() {
    let none = TablePointer {
        limit: 0,
        address: 0,
    };
    // SAFETY: exceptions end the domain from here on, as the caller wants.
    unsafe { asm!("lidt [{}]", in(reg) &raw const none, options(nostack)) }
}

fn fill() {
    let task = task_state(EXCEPTION_STACK.top(), DOUBLE_FAULT_STACK.top());
    for (place, word) in TASK.iter().zip(task) {
        place.store(word, Ordering::Relaxed);
    }
    for (place, segment) in SEGMENTS.iter().zip(segments(TASK.as_ptr().addr() as u64)) {
        place.store(segment, Ordering::Relaxed);
    }
    for (vector, places) in GATES.as_chunks::<2>().0.iter().enumerate() {
        let stack = match vector {
            DOUBLE_FAULT => DOUBLE_FAULT_STACK_NUMBER,
            0..EXCEPTIONS => EXCEPTION_STACK_NUMBER,
            _ => 0,
        };
        for (place, word) in places
            .iter()
            .zip(interrupt_gate(stub_address(vector), stack))
        {
            place.store(word, Ordering::Relaxed);
        }
    }
}
