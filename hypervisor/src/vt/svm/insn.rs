//! The world switch and the other instructions that only SVM has.

// UNSAFETY: these instructions have no safe form; each function says what its caller must hold.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::mem::HostPhysical;
use crate::vt::registers::{load_registers, store_registers, Registers};

/// Stores what VMSAVE covers of the host's state (FS, GS, TR, LDTR, the SYSCALL and SYSENTER
/// registers; AMD APM volume 3, VMSAVE) in a control block.
///
/// # Safety
/// SVM is enabled and `block` is a frame that nothing else uses.
pub unsafe fn save_host_state(block: HostPhysical) {
    // SAFETY: the caller says that SVM is on and the frame is free for this.
    unsafe { asm!("vmsave rax", in("rax") block.0, options(nostack, preserves_flags)) };
}

/// Runs a guest until its next exit (AMD APM volume 2, section 15.5).
///
/// Interrupts are off before and after. While the guest runs they cause an exit and stay pending:
/// the global interrupt flag is clear from before VMRUN until the host's state is whole again.
///
/// # Safety
/// SVM is enabled; `guest` and `host` are control blocks, the second filled by
/// [`save_host_state`]; `registers` is valid for reads and writes.
#[inline(always)]
pub unsafe fn enter_guest(registers: *mut Registers, guest: HostPhysical, host: HostPhysical) {
    // SAFETY: the caller holds the two blocks and the registers. Every register that the guest
    // may change is an output, or pushed and popped here (RBX and RBP cannot be operands);
    // VMRUN keeps RSP, RIP and RFLAGS of the host.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "push rdi",
            "push rsi",
            // GIF is 0 from here on, so the interrupt flag only decides what exits the guest
            // (V_INTR_MASKING, section 15.21.1).
            "clgi",
            "sti",
            "vmload rax",
            load_registers!(),
            "vmrun rax",
            "vmsave rax",
            "push rdi",
            "mov rdi, [rsp + 16]",
            store_registers!(),
            // The task register decides on which stack an NMI lands, so the host's state comes
            // back before anything can be delivered.
            "pop rax",
            "vmload rax",
            "cli",
            "stgi",
            "pop rdi",
            "pop rbx",
            "pop rbp",
            inout("rax") guest.0 => _,
            inout("rdi") registers => _,
            inout("rsi") host.0 => _,
            out("rcx") _,
            out("rdx") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
}
