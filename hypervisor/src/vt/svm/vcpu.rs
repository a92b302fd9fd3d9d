//! A virtual CPU on SVM: its control block and what the block does not keep.

#![forbid(unsafe_code)]

use nuncio_abi::{RawCall, MAX_VALUES};

use crate::mem::{Extent, HostPhysical, Words};
use crate::vt::{
    ControlRegisters, EntryFailure, Exit, GuestException, Left, Registers, StartState, VirtualCpu,
};

use super::asid::Asid;
use super::exit::{self, RawExit};
use super::explain::StartWords;
use super::vmcb::{self, VirtualInterrupt, Vmcb};

/// A virtual CPU.
pub struct SvmVcpu {
    pub(super) vmcb: Vmcb,
    pub(super) registers: Registers,
    pub(super) asid: Asid,
    /// The identifier or what is to be flushed must be looked at before the next entry.
    pub(super) asid_is_stale: bool,
    /// What a CPU may overwrite when it refuses the first entry.
    pub(super) start: Option<StartWords>,
    block: HostPhysical,
    /// Keeps the frame of the block.
    _frame: Extent,
    /// Whether the CPU saves the address of the next instruction.
    has_next_rip: bool,
}

const EFER_SVME: u64 = 1 << 12;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
const EFER_NO_EXECUTE: u64 = 1 << 11;
const EFER_SYSCALL: u64 = 1 << 0;
/// Protection, monitor coprocessor, extension type, numeric error, write protect, paging.
const START_CR0: u64 = 0x8001_0033;
/// Physical address extension, FXSAVE and SSE exceptions.
const START_CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const START_RFLAGS: u64 = 0x2;
const START_DR6: u64 = 0xFFFF_0FF0;
const START_DR7: u64 = 0x400;
/// The page-attribute table after reset (APM volume 2, section 7.8.2).
const START_PAT: u64 = 0x0007_0406_0007_0406;
/// 64-bit code, present, readable, accessed.
const CODE_ATTRIBUTES: u16 = 0xA9B;
/// Flat data, present, writable, accessed.
const DATA_ATTRIBUTES: u16 = 0xC93;
/// A busy 64-bit task-state segment.
const TASK_ATTRIBUTES: u16 = 0x08B;
const CODE_SELECTOR: u16 = 0x08;
const DATA_SELECTOR: u16 = 0x10;

/// RFLAGS, bit 9: the guest takes interrupts.
const INTERRUPT_FLAG: u64 = 1 << 9;

/// Event injection (APM volume 2, section 15.20). External interrupts have type 0.
const EVENT_VALID: u64 = 1 << 31;
const EVENT_TYPE: u64 = 7 << 8;
const EVENT_VECTOR: u64 = 0xFF;
const EVENT_HAS_ERROR_CODE: u64 = 1 << 11;
const EVENT_EXCEPTION: u64 = 3 << 8;
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;

const INTERRUPT_SHADOW: u64 = 1;

impl SvmVcpu {
    pub(super) fn new(
        frame: Extent,
        words: &'static Words,
        start: &StartState,
        has_next_rip: bool,
    ) -> Self {
        let vcpu = SvmVcpu {
            vmcb: Vmcb::new(words),
            registers: Registers {
                rdi: start.argument.0,
                ..Registers::default()
            },
            asid: Asid::default(),
            asid_is_stale: true,
            start: None,
            block: frame.first().start(),
            _frame: frame,
            has_next_rip,
        };
        vcpu.set_start_state(start);
        vcpu
    }

    #[inline(always)]
    pub(super) const fn block(&self) -> HostPhysical {
        self.block
    }

    fn set_start_state(&self, start: &StartState) {
        let vmcb = self.vmcb;
        vmcb.set_segment(vmcb::CS, CODE_SELECTOR, CODE_ATTRIBUTES, u32::MAX);
        for segment in [vmcb::SS, vmcb::DS, vmcb::ES, vmcb::FS, vmcb::GS] {
            vmcb.set_segment(segment, DATA_SELECTOR, DATA_ATTRIBUTES, u32::MAX);
        }
        vmcb.set_segment(vmcb::TR, 0, TASK_ATTRIBUTES, 0xFFFF);
        vmcb.set_segment(vmcb::LDTR, 0, 0, 0);
        vmcb.set(
            vmcb::EFER,
            EFER_SVME | EFER_LONG_MODE | EFER_NO_EXECUTE | EFER_SYSCALL,
        );
        vmcb.set(vmcb::CR0, START_CR0);
        vmcb.set(vmcb::CR4, START_CR4);
        vmcb.set(vmcb::CR3, start.page_table.0);
        vmcb.set(vmcb::RFLAGS, START_RFLAGS);
        vmcb.set(vmcb::DR6, START_DR6);
        vmcb.set(vmcb::DR7, START_DR7);
        vmcb.set(vmcb::GUEST_PAT, START_PAT);
        vmcb.set(vmcb::RIP, start.entry.0);
        vmcb.set(vmcb::RSP, start.stack.0);
        vmcb.set(vmcb::VIRTUAL_INTERRUPT, VirtualInterrupt::MASKING);
        vmcb.set(vmcb::NESTED_CONTROL, 1);
        vmcb.set(vmcb::NESTED_CR3, start.nested_root.start().0);
    }

    /// How the guest has just left.
    #[inline(always)]
    pub(super) fn left(&self) -> Left {
        let is_call = self.vmcb.get(vmcb::EXIT_CODE) == exit::VMMCALL;
        if is_call && self.vmcb.privilege() == 0 {
            Left::ByCall
        } else {
            Left::ByExit
        }
    }

    /// Goes on at `next`, the instruction behind the one that caused the exit.
    #[inline(always)]
    fn advance(&self, next: u64) {
        let vmcb = self.vmcb;
        vmcb.set(vmcb::RIP, next);
        // A shadow of STI or MOV SS ends with the instruction it covered.
        let shadow = vmcb.get(vmcb::INTERRUPT_SHADOW);
        if shadow & INTERRUPT_SHADOW != 0 {
            vmcb.set(vmcb::INTERRUPT_SHADOW, shadow & !INTERRUPT_SHADOW);
        }
    }

    /// Makes an upcall pending as a virtual interrupt, which the CPU delivers when the guest turns
    /// interrupts on.
    fn hold_upcall(&self, vector: u8) {
        let task_priority = self.vmcb.get(vmcb::VIRTUAL_INTERRUPT) & VirtualInterrupt::PRIORITY;
        let pending = VirtualInterrupt::pending(vector);
        self.vmcb
            .set(vmcb::VIRTUAL_INTERRUPT, pending | task_priority);
    }

    /// Injects the pending upcall if the guest takes interrupts now.
    ///
    /// Real CPUs would deliver the virtual interrupt just as well. Bochs looks for one only when
    /// the guest changes its interrupt flag: a guest that has it set would wait for ever.
    fn inject_pending_upcall(&self) {
        let vmcb = self.vmcb;
        let takes_interrupts = vmcb.get(vmcb::RFLAGS) & INTERRUPT_FLAG != 0
            && vmcb.get(vmcb::INTERRUPT_SHADOW) & INTERRUPT_SHADOW == 0;
        if !takes_interrupts || vmcb.get(vmcb::EVENT_INJECTION) & EVENT_VALID != 0 {
            return;
        }
        let interrupt = vmcb.get(vmcb::VIRTUAL_INTERRUPT);
        let vector = interrupt >> VirtualInterrupt::VECTOR_SHIFT & EVENT_VECTOR;
        vmcb.set(vmcb::EVENT_INJECTION, EVENT_VALID | vector);
        vmcb.set(
            vmcb::VIRTUAL_INTERRUPT,
            interrupt & !VirtualInterrupt::PENDING,
        );
    }

    /// The vector of the upcall that the next entry delivers.
    fn injected_upcall(&self) -> Option<u8> {
        let event = self.vmcb.get(vmcb::EVENT_INJECTION);
        let is_upcall = event & EVENT_VALID != 0 && event & EVENT_TYPE == 0;
        is_upcall.then_some((event & EVENT_VECTOR) as u8)
    }

    fn next_instruction(&self) -> u64 {
        let vmcb = self.vmcb;
        if self.has_next_rip {
            return vmcb.get(vmcb::NEXT_RIP);
        }
        let length = exit::instruction_length(vmcb.get(vmcb::EXIT_CODE));
        vmcb.get(vmcb::RIP).wrapping_add(length)
    }
}

impl VirtualCpu for SvmVcpu {
    fn exit(&mut self) -> Exit {
        let vmcb = self.vmcb;
        // An event whose delivery caused the exit is delivered again, unless its handler decides
        // otherwise (section 15.7.2).
        let interrupted = vmcb.get(vmcb::EXIT_INTERRUPT_INFO);
        if interrupted & EVENT_VALID != 0 {
            vmcb.set(vmcb::EVENT_INJECTION, interrupted);
        }
        exit::decode(&RawExit {
            code: vmcb.get(vmcb::EXIT_CODE),
            info_1: vmcb.get(vmcb::EXIT_INFO_1),
            info_2: vmcb.get(vmcb::EXIT_INFO_2),
            rax: vmcb.get(vmcb::RAX),
            rcx: self.registers.rcx,
            rdx: self.registers.rdx,
            rflags: vmcb.get(vmcb::RFLAGS),
            privilege: vmcb.privilege(),
        })
    }

    fn entry_failure(&self, is_first: bool) -> EntryFailure {
        self.explain(is_first)
    }

    #[inline(always)]
    fn call(&self) -> RawCall {
        RawCall {
            verb: self.vmcb.get(vmcb::RAX),
            arguments: self.registers.arguments(),
        }
    }

    #[inline(always)]
    fn set_pair(&mut self, first: u64, second: u64) {
        self.registers.set_pair(first, second);
    }

    fn set_values(&mut self, values: &[u64; MAX_VALUES]) {
        self.registers.set_values(values);
    }

    #[inline(always)]
    fn complete_call(&mut self, status: u64) {
        let vmcb = self.vmcb;
        vmcb.set(vmcb::RAX, status);
        self.advance(vmcb.get(vmcb::RIP).wrapping_add(exit::CALL_BYTES));
    }

    fn complete_cpuid(&mut self, answer: [u32; 4]) {
        let [eax, ebx, ecx, edx] = answer.map(u64::from);
        self.vmcb.set(vmcb::RAX, eax);
        self.registers.rbx = ebx;
        self.registers.rcx = ecx;
        self.registers.rdx = edx;
        self.skip_instruction();
    }

    fn complete_msr_read(&mut self, value: u64) {
        self.vmcb.set(vmcb::RAX, value & 0xFFFF_FFFF);
        self.registers.rdx = value >> 32;
        self.skip_instruction();
    }

    fn skip_instruction(&mut self) {
        self.advance(self.next_instruction());
        // HLT may have been the instruction in the shadow of STI that held an upcall back.
        if self.vmcb.get(vmcb::VIRTUAL_INTERRUPT) & VirtualInterrupt::PENDING != 0 {
            self.inject_pending_upcall();
        }
    }

    fn inject(&mut self, exception: GuestException) {
        // One event at a time: an upcall waits until the exception has been delivered.
        if let Some(vector) = self.injected_upcall() {
            self.hold_upcall(vector);
        }
        let event = match exception {
            GuestException::InvalidOpcode => INVALID_OPCODE,
            GuestException::GeneralProtection => GENERAL_PROTECTION | EVENT_HAS_ERROR_CODE,
            GuestException::Reflected {
                vector,
                error_code: None,
            } => u64::from(vector),
            GuestException::Reflected {
                vector,
                error_code: Some(code),
            } => u64::from(vector) | EVENT_HAS_ERROR_CODE | u64::from(code) << 32,
        };
        self.vmcb
            .set(vmcb::EVENT_INJECTION, EVENT_VALID | EVENT_EXCEPTION | event);
    }

    fn request_upcall(&mut self, vector: u8) {
        if self.injected_upcall().is_none() {
            self.hold_upcall(vector);
            self.inject_pending_upcall();
        }
    }

    fn upcall_is_pending(&self) -> bool {
        let is_held = self.vmcb.get(vmcb::VIRTUAL_INTERRUPT) & VirtualInterrupt::PENDING != 0;
        is_held || self.injected_upcall().is_some()
    }

    fn flush_translations(&mut self) {
        self.asid.request_flush();
        self.asid_is_stale = true;
    }

    fn control_registers(&self) -> ControlRegisters {
        ControlRegisters {
            cr0: self.vmcb.get(vmcb::CR0),
            cr4: self.vmcb.get(vmcb::CR4),
            efer: self.vmcb.get(vmcb::EFER) & !EFER_SVME,
            page_attributes: self.vmcb.get(vmcb::GUEST_PAT),
        }
    }

    fn set_efer(&mut self, value: u64) {
        self.vmcb.set(vmcb::EFER, value | EFER_SVME);
    }

    fn set_page_attributes(&mut self, value: u64) {
        self.vmcb.set(vmcb::GUEST_PAT, value);
        // Cached translations have the memory types of the old table.
        self.flush_translations();
    }

    fn instruction_pointer(&self) -> u64 {
        self.vmcb.get(vmcb::RIP)
    }
}

#[cfg(test)]
mod tests;
