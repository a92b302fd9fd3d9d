//! The descriptor tables in memory, and the instructions that load them. All vcpus have the same, but for the
//! task state segment.
// UNSAFETY: LGDT, LIDT, LTR, STR and segment registers.
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::descriptor::{
    interrupt_gate, segments, task_segment, task_selector, task_state, vcpu_of_selector,
    KERNEL_CODE, KERNEL_DATA,
};
use super::stacks::Stacks;
use super::stubs::{stub_address, STUBS};
use super::{EXCEPTIONS, VCPUS};

const DOUBLE_FAULT: usize = 8;
const EXCEPTION_STACK_NUMBER: u8 = 1;
const DOUBLE_FAULT_STACK_NUMBER: u8 = 2;

/// Segments before those of the tasks.
const PLAIN_SEGMENTS: usize = segments().len();
const SEGMENT_WORDS: usize = PLAIN_SEGMENTS + 2 * VCPUS;

// Atomics, because the CPU marks a task state segment busy in its descriptor.
static SEGMENTS: [AtomicU64; SEGMENT_WORDS] = [const { AtomicU64::new(0) }; SEGMENT_WORDS];
static GATES: [AtomicU64; 2 * STUBS] = [const { AtomicU64::new(0) }; 2 * STUBS];
/// The page below each stack of each vcpu, for the oops.
static GUARD_PAGES: [[AtomicU64; 3]; VCPUS] = [const { [const { AtomicU64::new(0) }; 3] }; VCPUS];
static TASKS: [Task; VCPUS] = [const { [const { AtomicU32::new(0) }; 26] }; VCPUS];

type Task = [AtomicU32; 26];

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

/// Fills the tables, but for what each vcpu has of its own.
pub fn install() {
    for (place, segment) in SEGMENTS.iter().zip(segments()) {
        place.store(segment, Ordering::Relaxed);
    }
    for (vector, places) in GATES.as_chunks::<2>().0.iter().enumerate() {
        let stack = match vector {
            DOUBLE_FAULT => DOUBLE_FAULT_STACK_NUMBER,
            _ if (vector as u64) < EXCEPTIONS => EXCEPTION_STACK_NUMBER,
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

/// Loads the tables on this vcpu, which has that number and these stacks from now on.
///
/// A vcpu that was stopped left its task state segment marked as busy; it is written anew.
pub fn load(vcpu: usize, stacks: &Stacks) {
    let task = set_task(vcpu, stacks);
    for (place, page) in GUARD_PAGES[vcpu].iter().zip(stacks.guard_pages()) {
        place.store(page, Ordering::Relaxed);
    }
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
            task = in(reg) task,
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

/// The number of the vcpu that asks, counted from 0.
pub fn current_vcpu() -> usize {
    let selector: u64;
    // SAFETY: reads a register.
    unsafe { asm!("str {}", out(reg) selector, options(nomem, nostack, preserves_flags)) }
    usize::from(vcpu_of_selector(selector as u16))
}

/// The pages below the stacks of the vcpu that asks.
pub fn guard_pages() -> [u64; 3] {
    let pages = GUARD_PAGES.get(current_vcpu());
    pages.map_or([0; 3], |[main, exception, double_fault]| {
        [main, exception, double_fault].map(|page| page.load(Ordering::Relaxed))
    })
}

/// Describes the vcpu's stacks to the CPU; the value is the selector.
fn set_task(vcpu: usize, stacks: &Stacks) -> u16 {
    let task = &TASKS[vcpu];
    let words = task_state(stacks.exception.top(), stacks.double_fault.top());
    for (place, word) in task.iter().zip(words) {
        place.store(word, Ordering::Relaxed);
    }
    let segment = task_segment(task.as_ptr().addr() as u64);
    let places = SEGMENTS.iter().skip(PLAIN_SEGMENTS + 2 * vcpu);
    for (place, word) in places.zip(segment) {
        place.store(word, Ordering::Relaxed);
    }
    task_selector(vcpu as u16)
}
