//! A virtual CPU on SVM: its control block and what the block does not keep.

#![forbid(unsafe_code)]

use crate::mem::{Extent, Frame, HostPhysical, Words};
use crate::vt::event::{takes_interrupt, Event, CAUGHT_EXCEPTIONS};
use crate::vt::exit::Operands;
use crate::vt::identifiers::Identifier;
use crate::vt::{
    calls_at, EntryFailure, Exit, GuestException, Left, Register, RegisterLimits, Registers,
    Segment, SegmentRegister, StartState, SystemRegister, VirtualCpu, CALL_BYTES,
};

use super::control_block::{self as vmcb, VirtualInterrupt, Vmcb};
use super::exit::{self, RawExit};
use super::explain::StateWords;
use super::start_state;
use super::Features;

/// A virtual CPU.
pub struct SvmVcpu {
    pub(super) vmcb: Vmcb,
    /// RAX is in the control block.
    pub(super) registers: Registers,
    pub(super) asid: Identifier,
    /// The identifier or what is to be flushed must be looked at before the next entry.
    pub(super) asid_is_stale: bool,
    /// What the next entry meets was set by the hypervisor and not left by the guest.
    pub(super) has_new_state: bool,
    /// The last entry met such state.
    pub(super) met_new_state: bool,
    /// What of it a CPU may overwrite when it refuses the entry.
    pub(super) new_state: StateWords,
    limits: RegisterLimits,
    block: HostPhysical,
    /// Keeps the frame of the block.
    _frame: Extent,
    /// Whether the CPU saves the address of the next instruction.
    has_next_rip: bool,
    /// The privilege level at which the call instruction is a call.
    calls_at: u8,
}

/// SVM is on; VMRUN insists on it, and guests do not see it.
pub const EFER_SVME: u64 = 1 << 12;

const INTERRUPT_SHADOW: u64 = 1;

impl SvmVcpu {
    pub(super) fn new(
        frame: Extent,
        words: &'static Words,
        start: &StartState,
        features: &Features,
    ) -> Self {
        let mut registers = Registers::default();
        registers[Register::RDI] = start.argument.0;
        let vcpu = SvmVcpu {
            vmcb: Vmcb::new(words),
            registers,
            asid: Identifier::default(),
            asid_is_stale: true,
            has_new_state: true,
            met_new_state: false,
            new_state: StateWords::default(),
            limits: features.limits,
            block: frame.first().start(),
            _frame: frame,
            has_next_rip: features.next_rip,
            calls_at: calls_at(false),
        };
        start_state::write(vcpu.vmcb, start);
        vcpu
    }

    /// Comes to another CPU, whose identifiers are others. The block is whole: this hypervisor marks nothing
    /// of it clean, so every CPU reads all of it (section 15.15).
    pub(super) fn come(&mut self) {
        self.asid = Identifier::default();
        self.asid_is_stale = true;
    }

    #[inline(always)]
    pub(super) const fn block(&self) -> HostPhysical {
        self.block
    }

    /// How the guest has just left.
    #[inline(always)]
    pub(super) fn left(&self) -> Left {
        let is_call = self.vmcb.get(vmcb::EXIT_CODE) == u64::from(exit::VMMCALL);
        if is_call && self.vmcb.privilege() == self.calls_at {
            Left::ByCall
        } else {
            Left::ByExit
        }
    }

    /// The event that the next entry delivers.
    fn next_event(&self) -> Event {
        let word = self.vmcb.get(vmcb::EVENT_INJECTION);
        Event {
            information: word as u32,
            error_code: (word >> 32) as u32,
        }
    }

    fn set_next_event(&self, event: Event) {
        let word = u64::from(event.information) | u64::from(event.error_code) << 32;
        self.vmcb.set(vmcb::EVENT_INJECTION, word);
    }

    fn upcall_is_held(&self) -> bool {
        self.vmcb.get(vmcb::VIRTUAL_INTERRUPT) & VirtualInterrupt::PENDING != 0
    }

    fn held_vector(&self) -> u8 {
        (self.vmcb.get(vmcb::VIRTUAL_INTERRUPT) >> VirtualInterrupt::VECTOR_SHIFT) as u8
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
        let rflags = vmcb.get(vmcb::RFLAGS);
        if takes_interrupt(rflags, self.is_in_shadow(), self.next_event()) {
            self.set_next_event(Event::interrupt(self.held_vector()));
            let interrupt = vmcb.get(vmcb::VIRTUAL_INTERRUPT);
            let delivered = interrupt & !VirtualInterrupt::PENDING;
            vmcb.set(vmcb::VIRTUAL_INTERRUPT, delivered);
        }
    }

    fn next_instruction(&self) -> u64 {
        let vmcb = self.vmcb;
        let code = vmcb.get(vmcb::EXIT_CODE);
        match code as u32 {
            // Every CPU says it for ports (section 15.10.2).
            exit::IOIO => vmcb.get(vmcb::EXIT_INFO_2),
            _ if self.has_next_rip => vmcb.get(vmcb::NEXT_RIP),
            _ => vmcb
                .get(vmcb::RIP)
                .wrapping_add(exit::instruction_length(code)),
        }
    }
}

/// Goes on at `next`, the instruction behind the one that caused the exit.
#[inline(always)]
fn advance(vmcb: Vmcb, next: u64) {
    vmcb.set(vmcb::RIP, next);
    // A shadow of STI or MOV SS ends with the instruction it covered.
    let shadow = vmcb.get(vmcb::INTERRUPT_SHADOW);
    if shadow & INTERRUPT_SHADOW != 0 {
        vmcb.set(vmcb::INTERRUPT_SHADOW, shadow & !INTERRUPT_SHADOW);
    }
}

impl VirtualCpu for SvmVcpu {
    fn exit(&mut self) -> Exit {
        let vmcb = self.vmcb;
        // An event whose delivery caused the exit is delivered again, unless its handler decides
        // otherwise (section 15.7.2).
        let interrupted = vmcb.get(vmcb::EXIT_INTERRUPT_INFO);
        let event = Event::interrupted(interrupted, interrupted >> 32);
        if event.is_valid() {
            self.set_next_event(event);
        }
        exit::decode(&RawExit {
            code: vmcb.get(vmcb::EXIT_CODE),
            info_1: vmcb.get(vmcb::EXIT_INFO_1),
            info_2: vmcb.get(vmcb::EXIT_INFO_2),
            operands: Operands::of(self),
            rflags: vmcb.get(vmcb::RFLAGS),
            privilege: vmcb.privilege(),
        })
    }

    fn entry_failure(&self) -> EntryFailure {
        self.explain()
    }

    #[inline(always)]
    fn register(&self, register: Register) -> u64 {
        match register {
            Register::RAX => self.vmcb.get(vmcb::RAX),
            Register::RSP => self.vmcb.get(vmcb::RSP),
            register => self.registers[register],
        }
    }

    #[inline(always)]
    fn set_register(&mut self, register: Register, value: u64) {
        match register {
            Register::RAX => self.vmcb.set(vmcb::RAX, value),
            Register::RSP => self.vmcb.set(vmcb::RSP, value),
            register => self.registers[register] = value,
        }
    }

    #[inline(always)]
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }

    #[inline(always)]
    fn complete_call(&mut self, status: u64) {
        let vmcb = self.vmcb;
        vmcb.set(vmcb::RAX, status);
        advance(vmcb, vmcb.get(vmcb::RIP).wrapping_add(CALL_BYTES));
    }

    fn skip_instruction(&mut self) {
        advance(self.vmcb, self.next_instruction());
        // HLT may have been the instruction in the shadow of STI that held an upcall back.
        if self.upcall_is_held() {
            self.inject_pending_upcall();
        }
    }

    fn inject(&mut self, exception: GuestException) {
        // One event at a time: an upcall waits until the exception has been delivered.
        if let Some(vector) = self.next_event().interrupt_vector() {
            self.hold_upcall(vector);
        }
        self.set_next_event(Event::exception(exception));
    }

    fn request_upcall(&mut self, vector: u8) {
        if self.next_event().interrupt_vector().is_none() {
            self.hold_upcall(vector);
            self.inject_pending_upcall();
        }
    }

    fn pending_upcall(&self) -> Option<u8> {
        let injected = self.next_event().interrupt_vector();
        injected.or_else(|| self.upcall_is_held().then(|| self.held_vector()))
    }

    fn take_upcall(&mut self) -> Option<u8> {
        let vector = self.pending_upcall();
        if self.next_event().interrupt_vector().is_some() {
            self.set_next_event(Event::default());
        }
        let word = self.vmcb.get(vmcb::VIRTUAL_INTERRUPT);
        self.vmcb
            .set(vmcb::VIRTUAL_INTERRUPT, word & !VirtualInterrupt::PENDING);
        vector
    }

    fn flush_translations(&mut self) {
        self.asid.request_flush();
        self.asid_is_stale = true;
    }

    fn set_nested_root(&mut self, root: Frame) {
        self.vmcb.set(vmcb::NESTED_CR3, root.start().0);
        self.flush_translations();
    }

    fn set_calls_exit(&mut self, calls_exit: bool) {
        self.calls_at = calls_at(calls_exit);
    }

    fn catch_exceptions(&mut self, vectors: u32) {
        let word = self.vmcb.get(vmcb::INTERCEPT_EXCEPTIONS_AND_3);
        let exceptions = u64::from(CAUGHT_EXCEPTIONS | vectors);
        let others = word & !u64::from(u32::MAX);
        self.vmcb
            .set(vmcb::INTERCEPT_EXCEPTIONS_AND_3, others | exceptions);
    }

    fn fault_address(&self) -> u64 {
        self.vmcb.get(vmcb::EXIT_INFO_2)
    }

    #[inline(always)]
    fn system_register(&self, register: SystemRegister) -> u64 {
        let field = vmcb::place(register);
        let value = field.of(self.vmcb.get(field));
        match register {
            SystemRegister::Efer => value & !EFER_SVME,
            _ => value,
        }
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        let field = vmcb::place(register);
        let value = match register {
            SystemRegister::Efer => value | EFER_SVME,
            _ => value,
        };
        self.vmcb.set(field, field.put(self.vmcb.get(field), value));
    }

    /// The CPU goes by the privilege level of the block and not by that of SS (section 15.5.1).
    fn segment(&self, register: SegmentRegister) -> Segment {
        let segment = Segment::from_vmcb(register, |field| self.vmcb.get(field));
        match register {
            SegmentRegister::Ss => segment.with_privilege(self.vmcb.privilege()),
            _ => segment,
        }
    }

    fn set_segment(&mut self, segment: &Segment) {
        self.vmcb.set_segment(segment);
        if segment.register == SegmentRegister::Ss {
            self.vmcb.set_privilege(segment.privilege());
        }
    }

    fn is_in_shadow(&self) -> bool {
        self.vmcb.get(vmcb::INTERRUPT_SHADOW) & INTERRUPT_SHADOW != 0
    }

    fn set_shadow(&mut self, is_in_shadow: bool) {
        let others = self.vmcb.get(vmcb::INTERRUPT_SHADOW) & !INTERRUPT_SHADOW;
        let shadow = if is_in_shadow { INTERRUPT_SHADOW } else { 0 };
        self.vmcb.set(vmcb::INTERRUPT_SHADOW, others | shadow);
    }

    fn register_limits(&self) -> RegisterLimits {
        self.limits
    }

    fn state_was_loaded(&mut self) {
        self.has_new_state = true;
        self.asid_is_stale = true;
    }

    #[inline(always)]
    fn instruction_pointer(&self) -> u64 {
        self.vmcb.get(vmcb::RIP)
    }
}

#[cfg(test)]
mod tests;
