//! The world switch and the other instructions that only VT-x has.

// UNSAFETY: these instructions have no safe form; each function says what its caller must hold.
#![allow(unsafe_code)]

use core::arch::{asm, naked_asm};
use core::mem::offset_of;

use crate::mem::HostPhysical;
use crate::vt::registers::{load_registers, store_registers, Registers};

use super::control_block::HOST_RSP;

/// A VMX instruction failed: VMfailInvalid or VMfailValid (Intel SDM vol. 3, 30.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmFail;

/// What the world switch loads and stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SwitchFrame {
    /// The general registers.
    pub registers: Registers,
    /// The host's stack pointer as the control structure has it.
    host_rsp: u64,
}

/// One instruction with one memory operand or register operand; CF or ZF says that it failed.
macro_rules! vmx {
    ($instruction:literal, $($operand:tt)*) => {{
        let failed: u8;
        asm!($instruction, "setbe {failed}", failed = out(reg_byte) failed, $($operand)*);
        if failed == 0 { Ok(()) } else { Err(VmFail) }
    }};
}

macro_rules! with_address {
    ($( $(#[$attribute:meta])* $name:ident = $instruction:literal, )+) => { $(
        $(#[$attribute])*
        pub unsafe fn $name(region: HostPhysical) -> Result<(), VmFail> {
            // SAFETY: as the caller says.
            unsafe { vmx!($instruction, at = in(reg) &raw const region.0, options(nostack)) }
        }
    )+ };
}

with_address! {
    /// Enters VMX operation.
    ///
    /// # Safety
    /// CR4.VMXE is set, IA32_FEATURE_CONTROL allows it, and the region is a frame with the CPU's
    /// revision that nothing else uses as long as guests run.
    vmxon = "vmxon [{at}]",
    /// Takes a control structure out of the CPU.
    ///
    /// # Safety
    /// In VMX operation; the region is a frame for a control structure, with the CPU's revision.
    vmclear = "vmclear [{at}]",
    /// Makes a control structure the current one.
    ///
    /// # Safety
    /// As for VMCLEAR, which came before.
    vmptrld = "vmptrld [{at}]",
}

/// Reads a field of the current control structure, or ends the hypervisor: the CPU has no such
/// field.
#[cfg(not(test))]
#[inline(always)]
pub fn vmread(field: u64) -> u64 {
    let value: u64;
    // SAFETY: reads a field or does not come back. Vcpus exist only in VMX operation; outside it
    // the instruction is #UD, which ends the hypervisor too.
    unsafe {
        asm!(
            "vmread {value}, {field}",
            "jbe {unknown}",
            value = out(reg) value,
            field = in(reg) field,
            unknown = sym unknown_field,
            options(nostack),
        );
    }
    value
}

/// Reads a field of the current control structure; `None` if the CPU has no such field.
#[cfg(not(test))]
pub fn vmread_if_present(field: u64) -> Option<u64> {
    let value: u64;
    // SAFETY: reads a field or changes nothing; as for `vmread`.
    let result = unsafe {
        vmx!("vmread {value}, {field}", value = out(reg) value, field = in(reg) field, options(nostack))
    };
    result.ok().map(|()| value)
}

/// Writes a field of the current control structure, or ends the hypervisor.
///
/// # Safety
/// What the field means for host and guest is the caller's business.
#[cfg(not(test))]
#[inline(always)]
pub unsafe fn vmwrite(field: u64, value: u64) {
    // SAFETY: as the caller says; if the CPU refuses, it does not come back.
    unsafe {
        asm!(
            "vmwrite {field}, {value}",
            "jbe {unknown}",
            field = in(reg) field,
            value = in(reg) value,
            unknown = sym unknown_field,
            options(nostack),
        );
    }
}

/// CF or ZF after VMREAD or VMWRITE: one jump on the way to a panic, none on the way past it.
#[cfg(not(test))]
#[unsafe(naked)]
unsafe extern "C" fn unknown_field() -> ! {
    naked_asm!("and rsp, -16", "call {panic}", "ud2", panic = sym field_panic)
}

#[cfg(not(test))]
extern "C" fn field_panic() -> ! {
    panic!("the CPU refuses a field of a control structure")
}

/// Forgets translations that carry this root of nested tables, or all (Intel SDM vol. 3, 30.3).
pub fn invept(root: Option<u64>) -> Result<(), VmFail> {
    let descriptor = [root.unwrap_or(0), 0];
    let kind: u64 = if root.is_some() { 1 } else { 2 };
    // SAFETY: forgetting translations changes nothing but time.
    unsafe {
        vmx!("invept {kind}, [{at}]", kind = in(reg) kind, at = in(reg) &raw const descriptor, options(nostack))
    }
}

/// Forgets the translations of all identifiers.
pub fn invvpid_all() -> Result<(), VmFail> {
    let descriptor = [0u64; 2];
    // SAFETY: as for INVEPT. 2: all contexts.
    unsafe {
        vmx!("invvpid {kind}, [{at}]", kind = in(reg) 2u64, at = in(reg) &raw const descriptor, options(nostack))
    }
}

/// Runs the guest of the current control structure until its next exit (Intel SDM vol. 3, 26 and
/// 27). Returns false if the entry failed at once.
///
/// # Safety
/// The current structure is complete and has [`exit_point`] as its host's RIP; `frame` is valid
/// and always the same for one structure; `launched` is false exactly if no entry of the structure
/// has succeeded since it was cleared. Interrupts are off.
#[inline(always)]
pub unsafe fn enter_guest(frame: *mut SwitchFrame, launched: bool) -> bool {
    let has_run: u64;
    // SAFETY: the caller holds the structure and the frame. Every register that the guest may
    // change is an output, or pushed and popped by the switch (RBX and RBP cannot be operands).
    unsafe {
        asm!(
            "call {switch}",
            switch = sym switch,
            inout("rdi") frame => _,
            inout("rsi") u64::from(launched) => _,
            out("rax") has_run,
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
    has_run != 0
}

/// Into the guest: RDI is the frame, RSI whether it was launched. All registers are lost but RBX,
/// RBP and RSP; RAX is not 0 if the guest has run.
///
/// The stack pointer is written to the structure only when it differs from the last one, so calls
/// from the same depth save the instruction.
#[unsafe(naked)]
unsafe extern "C" fn switch() {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push rdi",
        "cmp rsp, [rdi + {host_rsp}]",
        "jne 4f",
        "2:",
        "test esi, esi",
        // No MOV changes the flags.
        "mov rax, [rdi]",
        load_registers!(),
        "jz 3f",
        "vmresume",
        "jmp 5f",
        "3:",
        "vmlaunch",
        // Only a failed entry comes here, with everything as it was.
        "5:",
        "pop rdi",
        "pop rbx",
        "pop rbp",
        "xor eax, eax",
        "ret",
        "4:",
        "mov eax, {field}",
        "vmwrite rax, rsp",
        "mov [rdi + {host_rsp}], rsp",
        "jmp 2b",
        host_rsp = const offset_of!(SwitchFrame, host_rsp),
        field = const HOST_RSP.number,
    )
}

/// Where the CPU goes on after an exit, with the stack as the switch left it: the frame, RBX, RBP
/// and the way back.
#[unsafe(naked)]
pub unsafe extern "C" fn exit_point() {
    naked_asm!(
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi], rax",
        store_registers!(),
        // Not 0, whatever the guest's registers were.
        "pop rax",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
