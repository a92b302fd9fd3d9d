//! A virtual CPU on VT-x: its control structure and what the structure does not keep.

#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use crate::cpu::system_registers::{add_debug_status, SystemRegisters};
use crate::cpu::traps;
use crate::mem::{Extent, Frame, Words, PAGE_BYTES};
use crate::vt::event::{takes_interrupt, Event, CAUGHT_EXCEPTIONS};
use crate::vt::exit::Operands;
use crate::vt::identifiers::Identifier;
use crate::vt::start_state::{self, StartState};
use crate::vt::{
    calls_at, EntryFailure, Exit, GuestException, Left, Register, RegisterLimits, Registers,
    Segment, SegmentRegister, SystemRegister, VirtualCpu, CALL_BYTES,
};

use super::control_block::{self as vmcs, Place, Vmcs};
use super::controls::INTERRUPT_WINDOW;
use super::exit::{self, RawExit};
use super::insn::SwitchFrame;
use super::Features;

/// A virtual CPU.
pub struct VmxVcpu {
    pub(super) vmcs: Vmcs,
    /// Boxed, because the control structure has an address on the stack that goes with it.
    pub(super) frame: Box<SwitchFrame>,
    pub(super) system: Arc<SystemRegisters>,
    pub(super) vpid: Identifier,
    /// The identifier, a flush or an upcall must be looked at before the next entry.
    pub(super) needs_attention: bool,
    /// Whether an entry has succeeded since the structure was cleared.
    pub(super) launched: bool,
    /// Another CPU has run it last: what the structure says of the host is that one's.
    pub(super) is_newcomer: bool,
    /// The root of the nested tables as the CPU wants it.
    pub(super) ept_pointer: u64,
    /// The vector of an upcall that has not been handed to the CPU yet.
    upcall: Option<u8>,
    /// Whether the preemption timer has been given a time.
    is_limited: bool,
    timer_shift: u32,
    /// Bits of CR4 that are set and that the guest sees clear: it cannot change them.
    cr4_hidden: u64,
    /// The privilege level at which the call instruction is a call.
    calls_at: u8,
    limits: RegisterLimits,
    virtual_apic: &'static Words,
    /// As of the last exit; reports ask for it when another vcpu may be loaded.
    rip: u64,
    pub(super) reason: u32,
    pub(super) entry_refused: bool,
    /// Keep the frames of the structure and of the page with the task priority.
    _frames: [Extent; 2],
}

/// What stands in the pointer to the nested tables beside their address.
const PAGE_OFFSET: u64 = PAGE_BYTES - 1;
const CR0_PROTECTION: u64 = 1 << 0;
/// "IA-32e mode guest" (table 24-14).
const ENTRY_LONG_MODE: u64 = 1 << 9;
/// Blocking by STI and by MOV SS (table 24-3).
const INTERRUPT_SHADOW: u64 = 3;
/// The word of the virtual-APIC page with the task priority.
const TASK_PRIORITY: usize = 0x80 / 8;

/// How long a guest goes on, in ticks, when its time is up and the machine's timer is not quite.
const SHORT_RUN_TICKS: u64 = 1 << 14;

const DEBUG_VECTOR: u8 = 1;
/// The bits of DR6 that the exit qualification of #DB has (table 27-1).
const DEBUG_STATUS: u64 = 0xF | 1 << 13 | 1 << 14;

impl VmxVcpu {
    /// A vcpu whose structure is current and gets its fields by `start_state::write`.
    pub(super) fn new(
        vmcs: Vmcs,
        frames: [Extent; 2],
        virtual_apic: &'static Words,
        start: &StartState,
        features: &Features,
    ) -> Self {
        let mut frame = Box::<SwitchFrame>::default();
        frame.registers[Register::RDI] = start.argument.0;
        // Four levels, write-back (24.6.11).
        let accessed_and_dirty = u64::from(features.accessed_and_dirty) << 6;
        VmxVcpu {
            vmcs,
            frame,
            system: Arc::default(),
            vpid: Identifier::default(),
            needs_attention: true,
            launched: false,
            is_newcomer: false,
            ept_pointer: start.nested_root.start().0 | 3 << 3 | 6 | accessed_and_dirty,
            upcall: None,
            is_limited: true,
            timer_shift: features.timer_shift,
            cr4_hidden: features.cr4_fixed & !start_state::CR4,
            calls_at: calls_at(false),
            limits: features.limits,
            virtual_apic,
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
        let is_call = self.reason == u32::from(exit::VMCALL);
        if is_call && vmcs::privilege(self.vmcs.get(vmcs::SS_ACCESS)) == self.calls_at {
            Left::ByCall
        } else {
            Left::ByExit
        }
    }

    /// Lets go of the CPU that has run it. The structure holds all its fields then, and has to be launched
    /// anew (SDM vol. 3, 24.11.1 and 24.11.3).
    pub(super) fn leave(&mut self) {
        self.vmcs.retire();
        self.launched = false;
    }

    /// Comes to another CPU, whose identifiers are others.
    pub(super) fn come(&mut self) {
        self.vpid = Identifier::default();
        self.is_newcomer = true;
        self.needs_attention = true;
    }

    /// Hands a waiting upcall to the CPU if the guest takes interrupts, or else has the guest exit
    /// as soon as it does.
    pub(super) fn prepare_upcall(&mut self) {
        let Some(vector) = self.upcall else { return };
        let vmcs = &self.vmcs;
        let rflags = vmcs.get(vmcs::RFLAGS);
        let is_open = takes_interrupt(rflags, self.is_in_shadow(), self.next_event());
        if is_open {
            let event = Event::interrupt(vector);
            vmcs.set(vmcs::ENTRY_EVENT, u64::from(event.information));
            self.upcall = None;
        }
        let controls = vmcs.get(vmcs::PRIMARY_CONTROLS) & !u64::from(INTERRUPT_WINDOW);
        let window = u64::from(if is_open { 0 } else { INTERRUPT_WINDOW });
        vmcs.set(vmcs::PRIMARY_CONTROLS, controls | window);
    }

    /// Goes on behind the instruction that caused the exit, which has this length.
    #[inline(always)]
    fn advance(&mut self, length_bytes: u64) {
        self.rip = self.rip.wrapping_add(length_bytes);
        self.vmcs.set(vmcs::RIP, self.rip);
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
        let event = Event::interrupted(self.vmcs.get(vmcs::VECTORING_EVENT), 0);
        if event.is_valid() {
            self.set_next_event(Event {
                error_code: self.vmcs.get(vmcs::VECTORING_ERROR_CODE) as u32,
                ..event
            });
        }
    }

    /// The event that the next entry delivers, without its error code.
    fn next_event(&self) -> Event {
        Event {
            information: self.vmcs.get(vmcs::ENTRY_EVENT) as u32,
            error_code: 0,
        }
    }

    fn set_next_event(&self, event: Event) {
        let vmcs = &self.vmcs;
        // The length matters for events that come from an instruction (24.8.3).
        let length = vmcs.get(vmcs::EXIT_INSTRUCTION_LENGTH);
        vmcs.set(vmcs::ENTRY_INSTRUCTION_LENGTH, length);
        // In real mode there are no error codes (26.2.1.3).
        let event = match vmcs.get(vmcs::CR0) & CR0_PROTECTION {
            0 => event.without_error_code(),
            _ => event,
        };
        vmcs.set(vmcs::ENTRY_ERROR_CODE, u64::from(event.error_code));
        vmcs.set(vmcs::ENTRY_EVENT, u64::from(event.information));
    }

    fn run_for(&self, ticks: u64) {
        let counts = (ticks >> self.timer_shift).saturating_add(1);
        self.vmcs
            .set(vmcs::PREEMPTION_TIMER, counts.min(u64::from(u32::MAX)));
    }

    /// What an exit takes before the loop sees it; most take nothing.
    fn attend_exit(&mut self, exit: Exit, qualification: u64) -> Exit {
        match (exit, self.reason as u16) {
            (Exit::Nmi, _) => traps::handle_taken_nmi(),
            (Exit::Exception { vector, .. }, _) if vector == DEBUG_VECTOR => {
                // #DB exits before it changes DR6 (27.1).
                add_debug_status(qualification & DEBUG_STATUS);
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
    const LIMITS_RUNS: bool = true;

    fn exit(&mut self) -> Exit {
        if self.entry_refused {
            return Exit::BadState;
        }
        let raw = RawExit::read(self.reason, Operands::of(self), |field| {
            self.vmcs.get(field)
        });
        if raw.reason & exit::ENTRY_FAILED == 0 {
            self.deliver_again();
        }
        self.attend_exit(exit::decode(&raw), raw.qualification)
    }

    fn entry_failure(&self) -> EntryFailure {
        self.explain()
    }

    #[inline(always)]
    fn register(&self, register: Register) -> u64 {
        match register {
            Register::RSP => self.vmcs.get(vmcs::RSP),
            register => self.frame.registers[register],
        }
    }

    #[inline(always)]
    fn set_register(&mut self, register: Register, value: u64) {
        match register {
            Register::RSP => self.vmcs.set(vmcs::RSP, value),
            register => self.frame.registers[register] = value,
        }
    }

    #[inline(always)]
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.frame.registers
    }

    #[inline(always)]
    fn complete_call(&mut self, status: u64) {
        self.frame.registers[Register::RAX] = status;
        self.advance(CALL_BYTES);
    }

    fn skip_instruction(&mut self) {
        self.advance(self.vmcs.get(vmcs::EXIT_INSTRUCTION_LENGTH));
    }

    fn inject(&mut self, exception: GuestException) {
        let event = match exception {
            // As it was: INT1 goes on behind its instruction, other debug exceptions do not.
            GuestException::Reflected { .. } => {
                let caught = Event::interrupted(self.vmcs.get(vmcs::EXIT_EVENT), 0);
                Event::exception(exception).of_kind(caught)
            }
            _ => Event::exception(exception),
        };
        self.set_next_event(event);
        self.end_shadow();
    }

    fn request_upcall(&mut self, vector: u8) {
        self.upcall = Some(vector);
        self.needs_attention = true;
    }

    fn pending_upcall(&self) -> Option<u8> {
        self.next_event().interrupt_vector().or(self.upcall)
    }

    fn take_upcall(&mut self) -> Option<u8> {
        let vector = self.pending_upcall();
        if self.next_event().interrupt_vector().is_some() {
            self.vmcs.set(vmcs::ENTRY_EVENT, 0);
        }
        self.upcall = None;
        vector
    }

    fn flush_translations(&mut self) {
        self.vpid.request_flush();
        self.needs_attention = true;
    }

    fn set_nested_root(&mut self, root: Frame) {
        self.ept_pointer = self.ept_pointer & PAGE_OFFSET | root.start().0;
        self.vmcs.set(vmcs::EPT_POINTER, self.ept_pointer);
        self.flush_translations();
    }

    fn set_calls_exit(&mut self, calls_exit: bool) {
        self.calls_at = calls_at(calls_exit);
    }

    fn catch_exceptions(&mut self, vectors: u32) {
        let exceptions = u64::from(CAUGHT_EXCEPTIONS | vectors);
        self.vmcs.set(vmcs::EXCEPTION_BITMAP, exceptions);
    }

    fn fault_address(&self) -> u64 {
        self.vmcs.get(vmcs::EXIT_QUALIFICATION)
    }

    /// Not every CPU lets an interrupt stop a guest that does not take interrupts itself (Bochs
    /// does not), so the preemption timer runs beside the machine's.
    fn limit_run(&mut self, ticks: Option<u64>) {
        // Without a limit before and after, whatever is left will do.
        if ticks.is_some() || self.is_limited {
            self.is_limited = ticks.is_some();
            self.run_for(ticks.unwrap_or(u64::MAX));
        }
    }

    #[inline(always)]
    fn system_register(&self, register: SystemRegister) -> u64 {
        let vmcs = &self.vmcs;
        match (register, vmcs::place(register)) {
            (SystemRegister::Cr0, _) => {
                let hidden = vmcs.get(vmcs::CR0_MASK);
                vmcs.get(vmcs::CR0) & !hidden | vmcs.get(vmcs::CR0_SHADOW) & hidden
            }
            (SystemRegister::Cr4, _) => vmcs.get(vmcs::CR4) & !self.cr4_hidden,
            (_, Place::Field(field)) => vmcs.get(field),
            (_, Place::Cpu(register)) => self.system.get(register),
            (_, Place::VirtualApic) => self.virtual_apic[TASK_PRIORITY].load(Relaxed) >> 4,
        }
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        let vmcs = &self.vmcs;
        match (register, vmcs::place(register)) {
            (SystemRegister::Cr0, _) => {
                let hidden = vmcs.get(vmcs::CR0_MASK);
                let own = vmcs.get(vmcs::CR0) & hidden;
                vmcs.set(vmcs::CR0, value & !hidden | own);
                vmcs.set(vmcs::CR0_SHADOW, value);
            }
            (SystemRegister::Cr4, _) => vmcs.set(vmcs::CR4, value | self.cr4_hidden),
            (_, Place::Field(field)) => vmcs.set(field, value),
            (_, Place::Cpu(register)) => self.system.set(register, value),
            (_, Place::VirtualApic) => self.virtual_apic[TASK_PRIORITY].store(value << 4, Relaxed),
        }
        match register {
            SystemRegister::Rip => self.rip = value,
            // The entry goes by a control and not by LMA, one bit above it; exits set both (27.2).
            SystemRegister::Efer => {
                let controls = vmcs.get(vmcs::ENTRY_CONTROLS) & !ENTRY_LONG_MODE;
                vmcs.set(
                    vmcs::ENTRY_CONTROLS,
                    controls | value >> 1 & ENTRY_LONG_MODE,
                );
            }
            _ => {}
        }
    }

    fn segment(&self, register: SegmentRegister) -> Segment {
        Segment::from_vmcs(register, |field| self.vmcs.get(field))
    }

    fn set_segment(&mut self, segment: &Segment) {
        self.vmcs.set_all(segment.to_vmcs());
    }

    fn is_in_shadow(&self) -> bool {
        self.vmcs.get(vmcs::INTERRUPTIBILITY) & INTERRUPT_SHADOW != 0
    }

    fn set_shadow(&mut self, is_in_shadow: bool) {
        self.end_shadow();
        if is_in_shadow {
            for (part, value) in vmcs::shadow(self.vmcs.get(vmcs::RFLAGS)) {
                let word = self.vmcs.get(part);
                self.vmcs.set(part, part.put(word, value));
            }
        }
    }

    fn register_limits(&self) -> RegisterLimits {
        self.limits
    }

    #[inline(always)]
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
