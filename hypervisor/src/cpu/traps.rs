//! The interrupt descriptor table, the entry stubs, and the one handler behind them.

// UNSAFETY: entry code in assembly and the table that points to it.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::arch::{asm, naked_asm};
use core::sync::atomic::Ordering;

use spin::Once;
use x86_64::structures::idt::{Entry, InterruptDescriptorTable};
use x86_64::VirtAddr;

use super::per_cpu;
use super::stacks::InterruptStack;
use super::{fixup, local_apic, report, stop, TrapFrame};

const EXCEPTIONS: u64 = 32;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;

/// RFLAGS.RF: instruction breakpoints are off for one instruction.
const RESUME: u64 = 1 << 16;

/// The 8259s deliver here, were they ever unmasked: 16 vectors.
pub(super) const LEGACY_PIC: u8 = 0x20;
/// The local APIC's timer.
pub(super) const TIMER: u8 = 0x40;
/// What one CPU sends to another to be looked at.
pub(super) const SIGNAL: u8 = 0x41;
/// The local APIC's spurious interrupts; the low four bits are 1, as old APICs require
/// (Intel SDM vol. 3, 10.9).
pub(super) const SPURIOUS: u8 = 0xFF;

/// Exceptions for which the CPU pushes an error code, one bit each: 8, 10 to 14, 17, 21, 29, 30
/// (Intel SDM vol. 3, table 6-1; AMD APM vol. 2, 8.2).
const WITH_ERROR_CODE: u32 = 1 << 8 | 0b11111 << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// Every stub has this length, so that a stub's address follows from its vector.
const STUB_BYTES: u64 = 12;

/// The table of all CPUs.
static TABLE: Once<&'static InterruptDescriptorTable> = Once::new();

/// Loads the table that the boot CPU has built, on another CPU, after `segments::load`.
pub(super) fn load_again() {
    if let Some(table) = TABLE.get() {
        table.load();
    }
}

/// Builds and loads the table; called once, on the boot CPU, after `segments::load`.
pub fn load() {
    let mut table = Box::new(InterruptDescriptorTable::new());
    macro_rules! set_exceptions {
        ($( $vector:literal $name:ident, )+) => { $( set(&mut table.$name, $vector); )+ };
    }
    set_exceptions! {
        0 divide_error, 1 debug, 2 non_maskable_interrupt, 3 breakpoint, 4 overflow,
        5 bound_range_exceeded, 6 invalid_opcode, 7 device_not_available, 8 double_fault,
        10 invalid_tss, 11 segment_not_present, 12 stack_segment_fault,
        13 general_protection_fault, 14 page_fault, 16 x87_floating_point, 17 alignment_check,
        18 machine_check, 19 simd_floating_point, 20 virtualization, 21 cp_protection_exception,
        28 hv_injection_exception, 29 vmm_communication_exception, 30 security_exception,
    }
    for (vector, entry) in (EXCEPTIONS..).zip(table.slice_mut(EXCEPTIONS as u8..)) {
        set(entry, vector);
    }
    // #DB stays on the stack that is in use: it can come right after VMRUN (`ignore_debug`), when
    // TR still holds the guest's task register and the interrupt stack table would be the guest's.
    set_stack(&mut table.non_maskable_interrupt, InterruptStack::Nmi);
    set_stack(&mut table.double_fault, InterruptStack::DoubleFault);
    set_stack(&mut table.machine_check, InterruptStack::MachineCheck);
    set_stack(&mut table.page_fault, InterruptStack::PageFault);
    TABLE.call_once(|| Box::leak(table)).load();
}

fn set<Handler>(entry: &mut Entry<Handler>, vector: u64) {
    let first = trap_stubs as *const () as u64;
    let stub = VirtAddr::new(first + vector * STUB_BYTES);
    // SAFETY: the stub of this vector pushes an error code exactly if the CPU does not, and
    // returns with IRETQ.
    unsafe { entry.set_handler_addr(stub) };
}

fn set_stack<Handler>(entry: &mut Entry<Handler>, stack: InterruptStack) {
    let stub = entry.handler_addr();
    // SAFETY: the address is the one that `set` put there; the stack's index is its place in the
    // interrupt stack table, and no two vectors share a stack.
    unsafe { entry.set_handler_addr(stub).set_stack_index(stack as u16) };
}

/// 256 stubs of `STUB_BYTES` each, then the code that they share. A stub makes the two words
/// below the CPU's frame uniform: error code (0 if the CPU pushed none) and vector. Instructions
/// are spelled as bytes where the assembler could choose a shorter form.
#[unsafe(naked)]
extern "C" fn trap_stubs() {
    naked_asm!(
        ".set nuncio_vector, 0",
        ".rept 32",
        ".if ({with_error_code} >> nuncio_vector) & 1",
        ".byte 0x66, 0x90",              // nop of two bytes
        ".else",
        ".byte 0x6A, 0x00",              // push 0
        ".endif",
        ".byte 0x68",                    // push imm32
        ".long nuncio_vector",
        ".byte 0xE9",                    // jmp rel32
        ".long 2f - . - 4",
        ".set nuncio_vector, nuncio_vector + 1",
        ".endr",
        ".rept 224",
        ".byte 0x6A, 0x00",
        ".byte 0x68",
        ".long nuncio_vector",
        ".byte 0xE9",
        ".long 2f - . - 4",
        ".set nuncio_vector, nuncio_vector + 1",
        ".endr",
        "2:",
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
        // The ABI wants DF clear. RSP is a multiple of 16 here: the CPU aligned it before its
        // five words (Intel SDM vol. 3, 6.14.2), and 17 more follow.
        "cld",
        "mov rdi, rsp",
        "call {handler}",
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
        with_error_code = const WITH_ERROR_CODE,
        handler = sym handle,
    )
}

/// Runs the handler of NMIs for one that is pending no more because a guest's exit has taken it.
/// The handler's IRETQ also ends the blocking of NMIs that such an exit leaves behind (Intel SDM
/// vol. 3, 27.5.5).
pub fn handle_taken_nmi() {
    // SAFETY: the handler has a stack of its own, saves all registers and returns.
    unsafe { asm!("int 2", options(nostack)) };
}

extern "C" fn handle(frame: &mut TrapFrame) {
    const TIMER_VECTOR: u64 = TIMER as u64;
    const SIGNAL_VECTOR: u64 = SIGNAL as u64;
    const SPURIOUS_VECTOR: u64 = SPURIOUS as u64;
    match frame.vector {
        DEBUG => ignore_debug(frame),
        NMI => {
            stop::if_asked();
            per_cpu::current()
                .events
                .nmis
                .fetch_add(1, Ordering::Relaxed);
        }
        INVALID_OPCODE | GENERAL_PROTECTION => match fixup::recovery(frame.rip) {
            Some(recovery) => frame.rip = recovery,
            None => report::fatal_trap(frame),
        },
        vector if vector < EXCEPTIONS => report::fatal_trap(frame),
        TIMER_VECTOR => {
            per_cpu::current()
                .events
                .timer_running
                .store(false, Ordering::Relaxed);
            per_cpu::current()
                .events
                .timer_fired
                .store(true, Ordering::Relaxed);
            per_cpu::current()
                .events
                .timer_interrupts
                .fetch_add(1, Ordering::Relaxed);
            local_apic::end_of_interrupt();
        }
        SIGNAL_VECTOR => {
            per_cpu::current()
                .events
                .signalled
                .store(true, Ordering::Relaxed);
            local_apic::end_of_interrupt();
        }
        // Not in service, so there is nothing to end (Intel SDM vol. 3, 10.9).
        SPURIOUS_VECTOR => {}
        _ => {
            per_cpu::current()
                .events
                .unexpected_interrupts
                .fetch_add(1, Ordering::Relaxed);
            local_apic::end_of_interrupt();
        }
    }
}

/// The hypervisor sets no breakpoints, so a #DB here is a guest's. AMD family 10h delivers one
/// behind VMRUN if the guest raised it in the shadow of MOV SS right before an exit (revision
/// guide 41322, erratum 246); QEMU keeps a guest's instruction breakpoints armed after an exit.
fn ignore_debug(frame: &mut TrapFrame) {
    per_cpu::current()
        .events
        .debug_exceptions
        .fetch_add(1, Ordering::Relaxed);
    // A breakpoint is hit before its instruction: without the resume flag, which the CPU does not
    // set for one (Intel SDM vol. 3, 17.3.1.1), it would be hit for ever.
    frame.rflags |= RESUME;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_exception_is_counted_and_does_not_repeat() {
        let mut frame = TrapFrame {
            vector: DEBUG,
            rip: 0x10_0000,
            rflags: 0x2,
            ..TrapFrame::default()
        };
        let before = per_cpu::current()
            .events
            .debug_exceptions
            .load(Ordering::Relaxed);
        handle(&mut frame);
        let after = per_cpu::current()
            .events
            .debug_exceptions
            .load(Ordering::Relaxed);
        assert_eq!(after, before + 1);
        assert_eq!((frame.rip, frame.rflags), (0x10_0000, 0x1_0002));
    }
}
