//! The last words of a kernel that met an exception it has no answer to.
#![forbid(unsafe_code)]

use core::fmt::Write;

use nuncio_abi::PAGE_BYTES;

use super::stubs::Frame;
use super::{current_vcpu, guard_pages, interrupts, EXCEPTIONS, OOPS_EXIT_CODE};
use crate::instructions::{control_registers, page_fault_address};
use crate::kernel;

const PAGE_FAULT: u64 = 14;

const REGISTER_NAMES: [&str; 15] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8 ", "r9 ", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// Prints what happened and stops the domain.
pub(super) fn stop(frame: &Frame) -> ! {
    kernel::give_up(OOPS_EXIT_CODE + frame.vector, |console| {
        // The console cannot fail; what it loses it counts itself.
        let _ = print_lines(console, frame);
    })
}

fn print_lines(console: &mut dyn Write, frame: &Frame) -> core::fmt::Result {
    let address = page_fault_address();
    writeln!(
        console,
        "\noops on CPU {}: {} (vector {}), error code {:#x}",
        current_vcpu(),
        name(frame.vector),
        frame.vector,
        frame.error_code
    )?;
    if frame.vector >= EXCEPTIONS {
        let count = interrupts::unexpected();
        writeln!(console, "nobody takes it; {count} such have come")?;
    }
    if frame.vector == PAGE_FAULT {
        writeln!(
            console,
            "{} at {address:#x}",
            page_fault_text(frame.error_code)
        )?;
        if is_guard_page(address) {
            writeln!(console, "that is the page below a stack: it has overflowed")?;
        }
    }
    let [cr0, cr3, cr4] = control_registers();
    writeln!(console, "rip {:#018x} cs {:#x}", frame.rip, frame.cs)?;
    writeln!(console, "rsp {:#018x} ss {:#x}", frame.rsp, frame.ss)?;
    writeln!(console, "rflags {:#x} cr2 {address:#x}", frame.rflags)?;
    writeln!(console, "cr0 {cr0:#x} cr3 {cr3:#x} cr4 {cr4:#x}")?;
    for (index, (name, value)) in REGISTER_NAMES.iter().zip(frame.registers).enumerate() {
        let separator = if index % 3 == 2 { '\n' } else { ' ' };
        write!(console, "{name} {value:#018x}{separator}")?;
    }
    Ok(())
}

/// Whether it lies below a stack of this vcpu.
fn is_guard_page(address: u64) -> bool {
    let mut guard_pages = guard_pages().into_iter().filter(|page| *page != 0);
    guard_pages.any(|page| address.wrapping_sub(page) < PAGE_BYTES)
}

fn page_fault_text(error_code: u64) -> &'static str {
    match (error_code & 1, error_code & 0x12) {
        (0, 0x02) => "write to unmapped memory",
        (0, 0x10) => "jump into unmapped memory",
        (0, _) => "read of unmapped memory",
        (_, 0x02) => "write to read-only memory",
        (_, 0x10) => "jump into memory that is not code",
        _ => "access without the right",
    }
}

/// Names of the exceptions (Intel SDM 3A, table 6-1; AMD APM 2, 8.2).
fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        20 => "virtualization exception",
        21 => "control protection",
        EXCEPTIONS.. => "interrupt",
        _ => "exception",
    }
}
