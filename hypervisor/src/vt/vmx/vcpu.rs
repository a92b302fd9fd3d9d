//! A virtual CPU on VT-x: its control structure and what the structure does not keep.

#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::rc::Rc;

use nuncio_abi::{RawCall, MAX_VALUES};

use crate::cpu::system_registers::{self, SystemRegisters, DEBUG_STATUS as STATUS};
use crate::mem::Extent;
use crate::vt::{
    ControlRegisters, EntryFailure, Exit, GuestException, Left, StartState, VirtualCpu,
};

use super::asid::Vpid;
use super::controls::INTERRUPT_WINDOW;
use super::exit::{self, RawExit};
use super::insn::{self, SwitchFrame, R10, R8, RAX, RBX, RCX, RDI, RDX, RSI};
use super::vmcs::{self, Vmcs};
use super::Features;

/// A virtual CPU.
pub struct VmxVcpu {
    pub(super) vmcs: Vmcs,
    /// Boxed, because the control structure has an address on the stack that goes with it.
    pub(super) frame: Box<SwitchFrame>,
    pub(super) system: Rc<SystemRegisters>,
    pub(super) vpid: Vpid,
    /// The identifier, a flush or an upcall must be looked at before the next entry.
    pub(super) needs_attention: bool,
    /// Whether an entry has succeeded.
    pub(super) launched: bool,
    /// The root of the nested tables as the CPU wants it.
    pub(super) ept_pointer: u64,
    /// The vector of an upcall that has not been handed to the CPU yet.
    upcall: Option<u8>,
    /// Whether the guest exits as soon as it takes interrupts.
    window: bool,
    /// Whether the preemption timer has been given a time.
    is_limited: bool,
    timer_shift: u32,
    /// As of the last exit; reports ask for it when another vcpu may be loaded.
    rip: u64,
    pub(super) reason: u32,
    pub(super) entry_refused: bool,
    /// Keep the frames of the structure and of the page with the task priority.
    _frames: [Extent; 2],
}

const CR0_PROTECTION: u64 = 1 << 0;
const RFLAGS_INTERRUPT: u64 = 1 << 9;

/// Event injection (24.8.3).
const EVENT_VALID: u64 = exit::EVENT_VALID as u64;
const EVENT_HAS_ERROR_CODE: u64 = exit::EVENT_HAS_ERROR_CODE as u64;
/// Vector, type and whether there is an error code; the other bits are the CPU's own.
const EVENT_BITS: u64 = EVENT_VALID | 0xFFF;
const EVENT_EXCEPTION: u64 = 3 << 8;
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;

/// Blocking by STI and by MOV SS (table 24-3).
const INTERRUPT_SHADOW: u64 = 3;

/// How long a guest goes on, in ticks, when its time is up and the machine's timer is not quite.
const SHORT_RUN_TICKS: u64 = 1 << 14;

const DEBUG_VECTOR: u8 = 1;
/// The bits of DR6 that the exit qualification of #DB has (table 27-1).
const DEBUG_STATUS: u64 = 0xF | 1 << 13 | 1 << 14;

impl VmxVcpu {
    /// A vcpu whose structure is current and gets its fields by [`VmxVcpu::set_start_state`].
    pub(super) fn new(
        vmcs: Vmcs,
        frames: [Extent; 2],
        start: &StartState,
        features: &Features,
    ) -> Self {
        let mut frame = Box::<SwitchFrame>::default();
        frame.registers[RDI] = start.argument.0;
        // Four levels, write-back (24.6.11).
        let accessed_and_dirty = u64::from(features.accessed_and_dirty) << 6;
        VmxVcpu {
            vmcs,
            frame,
            system: Rc::default(),
            vpid: Vpid::default(),
            needs_attention: true,
            launched: false,
            ept_pointer: start.nested_root.start().0 | 3 << 3 | 6 | accessed_and_dirty,
            upcall: None,
            window: false,
            is_limited: false,
            timer_shift: features.timer_shift,
            rip: start.entry.0,
            reason: 0,
            entry_refused: false,
            _frames: frames,
        }
    }

    /// How the guest has just left.
    #[inline(always)]
    pub(super) fn left(&mut self, has_run: bool) -> Left {
        if !has_run {
            self.entry_refused = true;
            return Left::ByExit;
        }
        self.launched = true;
        self.reason = self.vmcs.get(vmcs::EXIT_REASON) as u32;
        self.rip = self.vmcs.get(vmcs::RIP);
        if self.reason == u32::from(exit::VMCALL) && self.vmcs.privilege() == 0 {
            Left::ByCall
        } else {
            Left::ByExit
        }
    }

    /// Hands a waiting upcall to the CPU if the guest takes interrupts, or else has the guest exit
    /// as soon as it does.
    pub(super) fn prepare_upcall(&mut self) {
        let Some(vector) = self.upcall else { return };
        let vmcs = &self.vmcs;
        let is_open = vmcs.get(vmcs::ENTRY_EVENT) & EVENT_VALID == 0
            && vmcs.get(vmcs::RFLAGS) & RFLAGS_INTERRUPT != 0
            && vmcs.get(vmcs::INTERRUPTIBILITY) & INTERRUPT_SHADOW == 0;
        if is_open {
            vmcs.set(vmcs::ENTRY_EVENT, EVENT_VALID | u64::from(vector));
            self.upcall = None;
        }
        if self.window == is_open {
            let controls = vmcs.get(vmcs::PRIMARY_CONTROLS);
            vmcs.set(
                vmcs::PRIMARY_CONTROLS,
                controls ^ u64::from(INTERRUPT_WINDOW),
            );
            self.window = !is_open;
        }
    }

    /// Goes on at `next`, the instruction behind the one that caused the exit.
    #[inline(always)]
    fn advance(&mut self, next: u64) {
        self.rip = next;
        self.vmcs.set(vmcs::RIP, next);
        // A shadow of STI or MOV SS ends with the instruction it covered.
        self.end_shadow();
    }

    #[inline(always)]
    fn end_shadow(&self) {
        let shadow = self.vmcs.get(vmcs::INTERRUPTIBILITY);
        if shadow & INTERRUPT_SHADOW != 0 {
            self.vmcs
                .set(vmcs::INTERRUPTIBILITY, shadow & !INTERRUPT_SHADOW);
        }
    }

    /// An event whose delivery caused the exit is delivered again, unless its handler decides
    /// otherwise (27.2.4).
    fn deliver_again(&self) {
        let event = self.vmcs.get(vmcs::VECTORING_EVENT);
        if event & EVENT_VALID != 0 {
            self.set_event(
                event & EVENT_BITS,
                self.vmcs.get(vmcs::VECTORING_ERROR_CODE),
            );
        }
    }

    fn set_event(&self, event: u64, error_code: u64) {
        // The length matters for events that come from an instruction (24.8.3).
        let length = self.vmcs.get(vmcs::EXIT_INSTRUCTION_LENGTH);
        self.vmcs.set(vmcs::ENTRY_INSTRUCTION_LENGTH, length);
        // In real mode there are no error codes (26.2.1.3).
        let is_real = self.vmcs.get(vmcs::CR0) & CR0_PROTECTION == 0;
        let event = if is_real {
            event & !EVENT_HAS_ERROR_CODE
        } else {
            event
        };
        self.vmcs.set(vmcs::ENTRY_ERROR_CODE, error_code);
        self.vmcs.set(vmcs::ENTRY_EVENT, event);
    }

    fn run_for(&self, ticks: u64) {
        let counts = (ticks >> self.timer_shift).saturating_add(1);
        self.vmcs
            .set(vmcs::PREEMPTION_TIMER, counts.min(u64::from(u32::MAX)));
    }

    fn raw_exit(&self) -> RawExit {
        let vmcs = &self.vmcs;
        RawExit {
            reason: self.reason,
            qualification: vmcs.get(vmcs::EXIT_QUALIFICATION),
            guest_physical: vmcs.get(vmcs::GUEST_PHYSICAL_ADDRESS),
            event: vmcs.get(vmcs::EXIT_EVENT) as u32,
            error_code: vmcs.get(vmcs::EXIT_ERROR_CODE) as u32,
            rax: self.frame.registers[RAX],
            rcx: self.frame.registers[RCX],
            rdx: self.frame.registers[RDX],
            rflags: vmcs.get(vmcs::RFLAGS),
            privilege: vmcs.privilege(),
        }
    }

    /// What an exit takes before the loop sees it; most take nothing.
    fn attend_exit(&mut self, exit: Exit, qualification: u64) -> Exit {
        match (exit, self.reason as u16) {
            (Exit::Nmi, _) => insn::handle_nmi(),
            (Exit::Exception { vector, .. }, _) if vector == DEBUG_VECTOR => {
                // #DB exits before it changes DR6 (27.1).
                let status =
                    system_registers::read_debug_register(STATUS) | qualification & DEBUG_STATUS;
                system_registers::write_debug_register(STATUS, status);
            }
            (_, exit::PREEMPTION_TIMER) => self.run_for(if self.is_limited {
                SHORT_RUN_TICKS
            } else {
                u64::MAX
            }),
            (Exit::Internal, exit::CR_ACCESS) => return self.write_cr0(qualification),
            (Exit::Internal, exit::MOV_DR) => return self.move_debug_register(qualification),
            (Exit::Internal, _) => self.needs_attention = true,
            _ => {}
        }
        exit
    }
}

impl VirtualCpu for VmxVcpu {
    fn exit(&mut self) -> Exit {
        if self.entry_refused {
            return Exit::BadState;
        }
        let raw = self.raw_exit();
        if raw.reason & exit::ENTRY_FAILED == 0 {
            self.deliver_again();
        }
        self.attend_exit(exit::decode(&raw), raw.qualification)
    }

    fn entry_failure(&self, _is_first: bool) -> EntryFailure {
        self.explain()
    }

    #[inline(always)]
    fn call(&self) -> RawCall {
        let registers = &self.frame.registers;
        RawCall {
            verb: registers[RAX],
            arguments: [RDI, RSI, RDX, R10, R8].map(|place| registers[place]),
        }
    }

    #[inline(always)]
    fn set_pair(&mut self, first: u64, second: u64) {
        self.frame.registers[RDX] = first;
        self.frame.registers[R10] = second;
    }

    fn set_values(&mut self, values: &[u64; MAX_VALUES]) {
        for (place, value) in [RDX, R10, R8, RDI, RSI].into_iter().zip(values) {
            self.frame.registers[place] = *value;
        }
    }

    #[inline(always)]
    fn complete_call(&mut self, status: u64) {
        self.frame.registers[RAX] = status;
        self.advance(self.rip.wrapping_add(exit::CALL_BYTES));
    }

    fn complete_cpuid(&mut self, answer: [u32; 4]) {
        for (place, value) in [RAX, RBX, RCX, RDX].into_iter().zip(answer) {
            self.frame.registers[place] = u64::from(value);
        }
        self.skip_instruction();
    }

    fn complete_msr_read(&mut self, value: u64) {
        self.frame.registers[RAX] = value & 0xFFFF_FFFF;
        self.frame.registers[RDX] = value >> 32;
        self.skip_instruction();
    }

    fn skip_instruction(&mut self) {
        let length = self.vmcs.get(vmcs::EXIT_INSTRUCTION_LENGTH);
        self.advance(self.rip.wrapping_add(length));
    }

    fn inject(&mut self, exception: GuestException) {
        let (event, error_code) = match exception {
            GuestException::InvalidOpcode => (EVENT_EXCEPTION | INVALID_OPCODE, None),
            GuestException::GeneralProtection => (EVENT_EXCEPTION | GENERAL_PROTECTION, Some(0)),
            GuestException::Reflected { vector, error_code } => {
                // As it was: INT1 goes on behind its instruction, other debug exceptions do not.
                let kind = self.vmcs.get(vmcs::EXIT_EVENT) & u64::from(exit::EVENT_TYPE);
                (kind | u64::from(vector), error_code)
            }
        };
        let has_error_code = if error_code.is_some() {
            EVENT_HAS_ERROR_CODE
        } else {
            0
        };
        let error_code = u64::from(error_code.unwrap_or(0));
        self.set_event(EVENT_VALID | has_error_code | event, error_code);
        self.end_shadow();
    }

    fn request_upcall(&mut self, vector: u8) {
        self.upcall = Some(vector);
        self.needs_attention = true;
    }

    fn upcall_is_pending(&self) -> bool {
        self.upcall.is_some()
    }

    fn flush_translations(&mut self) {
        self.vpid.request_flush();
        self.needs_attention = true;
    }

    /// Not every CPU lets an interrupt stop a guest that does not take interrupts itself (Bochs
    /// does not), so the preemption timer runs beside the machine's.
    fn limit_run(&mut self, ticks: Option<u64>) {
        self.is_limited = ticks.is_some();
        self.run_for(ticks.unwrap_or(u64::MAX));
    }

    fn control_registers(&self) -> ControlRegisters {
        let seen = |register, mask, shadow| {
            let hidden = self.vmcs.get(mask);
            self.vmcs.get(register) & !hidden | self.vmcs.get(shadow) & hidden
        };
        ControlRegisters {
            cr0: seen(vmcs::CR0, vmcs::CR0_MASK, vmcs::CR0_SHADOW),
            cr4: seen(vmcs::CR4, vmcs::CR4_MASK, vmcs::CR4_SHADOW),
            efer: self.vmcs.get(vmcs::GUEST_EFER),
            page_attributes: self.vmcs.get(vmcs::GUEST_PAT),
        }
    }

    fn set_efer(&mut self, value: u64) {
        self.vmcs.set(vmcs::GUEST_EFER, value);
    }

    fn set_page_attributes(&mut self, value: u64) {
        self.vmcs.set(vmcs::GUEST_PAT, value);
        // Cached translations have the memory types of the old table.
        self.flush_translations();
    }

    fn instruction_pointer(&self) -> u64 {
        self.rip
    }
}

impl Drop for VmxVcpu {
    /// The CPU may keep the structure's fields and write them back at any time until it is told
    /// to let go of them (24.1); the frame is somebody else's then.
    fn drop(&mut self) {
        self.vmcs.retire();
    }
}

#[cfg(test)]
mod tests;
