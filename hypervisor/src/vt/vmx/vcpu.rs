//! A virtual CPU on VT-x: its control structure and what the structure does not keep.

#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::rc::Rc;

use nuncio_abi::{RawCall, MAX_VALUES};

use crate::mem::Extent;
use crate::vt::{ControlRegisters, Exit, GuestException, Left, StartState, VirtualCpu};

use super::asid::Vpid;
use super::controls::INTERRUPT_WINDOW;
use super::exit::{self, DebugAccess, RawExit};
use super::insn::{self, SwitchFrame};
use super::switched::Switched;
use super::vmcs::{self, Segment, Vmcs};
use super::Features;

/// A virtual CPU.
pub struct VmxVcpu {
    pub(super) vmcs: Vmcs,
    /// Boxed, because the control structure has an address on the stack that goes with it.
    pub(super) frame: Box<SwitchFrame>,
    pub(super) switched: Rc<Switched>,
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
    reason: u32,
    entry_refused: bool,
    /// Keep the frames of the structure and of the page with the task priority.
    _frames: [Extent; 2],
}

const START_EFER: u64 = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11;
/// Protection, monitor coprocessor, extension type, numeric error, write protect, paging.
const START_CR0: u64 = 0x8001_0033;
/// Physical address extension, FXSAVE and SSE exceptions.
const START_CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const START_RFLAGS: u64 = 0x2;
const START_DR7: u64 = 0x400;
/// The page-attribute table after reset (Intel SDM vol. 3, 11.12.4).
const START_PAT: u64 = 0x0007_0406_0007_0406;
/// 64-bit code, present, readable, accessed (24.4.1).
const CODE_ACCESS: u32 = 0xA09B;
/// Flat data, present, writable, accessed.
const DATA_ACCESS: u32 = 0xC093;
/// A busy 64-bit task-state segment.
const TASK_ACCESS: u32 = 0x008B;
const UNUSABLE: u32 = 1 << 16;
const CODE_SELECTOR: u16 = 0x08;
const DATA_SELECTOR: u16 = 0x10;

const CR0_PROTECTION: u64 = 1 << 0;
const CR0_NOT_WRITE_THROUGH: u64 = 1 << 29;
const CR0_CACHE_DISABLE: u64 = 1 << 30;
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
        frame.registers.rdi = start.argument.0;
        // Four levels, write-back (24.6.11).
        let accessed_and_dirty = u64::from(features.accessed_and_dirty) << 6;
        VmxVcpu {
            vmcs,
            frame,
            switched: Rc::new(Switched::new()),
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

    pub(super) fn set_start_state(&mut self, start: &StartState, features: &Features) {
        let vmcs = &self.vmcs;
        vmcs.set_segment(Segment::Cs, CODE_SELECTOR, CODE_ACCESS, u32::MAX);
        for segment in [
            Segment::Ss,
            Segment::Ds,
            Segment::Es,
            Segment::Fs,
            Segment::Gs,
        ] {
            vmcs.set_segment(segment, DATA_SELECTOR, DATA_ACCESS, u32::MAX);
        }
        vmcs.set_segment(Segment::Tr, 0, TASK_ACCESS, 0xFFFF);
        vmcs.set_segment(Segment::Ldtr, 0, UNUSABLE, 0);
        // Entries and exits leave the bits for the cache as they are (26.3.2.1, 27.5.1), so a
        // guest's would turn it off for everybody.
        let cr0_mask = features.cr0_fixed | CR0_NOT_WRITE_THROUGH | CR0_CACHE_DISABLE;
        for (field, value) in [
            (vmcs::GUEST_EFER, START_EFER),
            (vmcs::CR0, START_CR0 | features.cr0_fixed),
            (vmcs::CR0_MASK, cr0_mask),
            (vmcs::CR0_SHADOW, START_CR0),
            (vmcs::CR4, START_CR4 | features.cr4_fixed),
            (vmcs::CR4_MASK, features.cr4_fixed),
            (vmcs::CR4_SHADOW, START_CR4),
            (vmcs::CR3, start.page_table.0),
            (vmcs::RFLAGS, START_RFLAGS),
            (vmcs::DR7, START_DR7),
            (vmcs::GUEST_PAT, START_PAT),
            (vmcs::RIP, start.entry.0),
            (vmcs::RSP, start.stack.0),
            (vmcs::LINK_POINTER, u64::MAX),
            (vmcs::EPT_POINTER, self.ept_pointer),
        ] {
            vmcs.set(field, value);
        }
        self.limit_run(None);
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

    /// A guest writes CR0 with other values for bits that it cannot have. It gets its way in the
    /// shadow that it reads; then it tries again, and the CPU takes the rest of the value.
    fn write_cr0(&self, qualification: u64) -> Exit {
        let value = self.general(qualification >> 8 & 15);
        if value & CR0_NOT_WRITE_THROUGH != 0 && value & CR0_CACHE_DISABLE == 0 {
            return Exit::RefusedInstruction;
        }
        self.vmcs.set(vmcs::CR0_SHADOW, value);
        Exit::Internal
    }

    /// MOV to and from the debug registers but DR7, whose values are in the CPU.
    fn move_debug_register(&mut self, qualification: u64) -> Exit {
        let access = DebugAccess::new(qualification);
        if access.is_read {
            let value = match access.number {
                7 => self.vmcs.get(vmcs::DR7),
                number => insn::read_debug_register(number),
            };
            self.set_general(u64::from(access.general), value);
        } else {
            let value = self.general(u64::from(access.general));
            if access.number == 6 && value >> 32 != 0 {
                return Exit::RefusedInstruction;
            }
            insn::write_debug_register(access.number, value);
        }
        self.skip_instruction();
        Exit::Internal
    }

    /// A general register by its number in instructions.
    fn general(&self, number: u64) -> u64 {
        let SwitchFrame { registers, rax, .. } = &*self.frame;
        match number {
            0 => *rax,
            1 => registers.rcx,
            2 => registers.rdx,
            3 => registers.rbx,
            4 => self.vmcs.get(vmcs::RSP),
            5 => registers.rbp,
            6 => registers.rsi,
            7 => registers.rdi,
            8 => registers.r8,
            9 => registers.r9,
            10 => registers.r10,
            11 => registers.r11,
            12 => registers.r12,
            13 => registers.r13,
            14 => registers.r14,
            _ => registers.r15,
        }
    }

    fn set_general(&mut self, number: u64, value: u64) {
        let SwitchFrame { registers, rax, .. } = &mut *self.frame;
        *match number {
            0 => rax,
            1 => &mut registers.rcx,
            2 => &mut registers.rdx,
            3 => &mut registers.rbx,
            4 => return self.vmcs.set(vmcs::RSP, value),
            5 => &mut registers.rbp,
            6 => &mut registers.rsi,
            7 => &mut registers.rdi,
            8 => &mut registers.r8,
            9 => &mut registers.r9,
            10 => &mut registers.r10,
            11 => &mut registers.r11,
            12 => &mut registers.r12,
            13 => &mut registers.r13,
            14 => &mut registers.r14,
            _ => &mut registers.r15,
        } = value;
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
            rax: self.frame.rax,
            rcx: self.frame.registers.rcx,
            rdx: self.frame.registers.rdx,
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
                let status = insn::read_debug_register(6) | qualification & DEBUG_STATUS;
                insn::write_debug_register(6, status);
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
            let error = self.vmcs.get(vmcs::INSTRUCTION_ERROR);
            log::error!("VM entry failed with error {error} (Intel SDM vol. 3, 30.4)");
            return Exit::BadState;
        }
        let raw = self.raw_exit();
        if raw.reason & exit::ENTRY_FAILED != 0 {
            let RawExit {
                reason,
                qualification,
                ..
            } = raw;
            log::error!(
                "VM entry failed with reason {reason:#x}, qualification {qualification:#x}"
            );
        } else {
            self.deliver_again();
        }
        self.attend_exit(exit::decode(&raw), raw.qualification)
    }

    #[inline(always)]
    fn call(&self) -> RawCall {
        RawCall {
            verb: self.frame.rax,
            arguments: self.frame.registers.arguments(),
        }
    }

    #[inline(always)]
    fn set_pair(&mut self, first: u64, second: u64) {
        self.frame.registers.set_pair(first, second);
    }

    fn set_values(&mut self, values: &[u64; MAX_VALUES]) {
        self.frame.registers.set_values(values);
    }

    #[inline(always)]
    fn complete_call(&mut self, status: u64) {
        self.frame.rax = status;
        self.advance(self.rip.wrapping_add(exit::CALL_BYTES));
    }

    fn complete_cpuid(&mut self, answer: [u32; 4]) {
        let [eax, ebx, ecx, edx] = answer.map(u64::from);
        self.frame.rax = eax;
        self.frame.registers.rbx = ebx;
        self.frame.registers.rcx = ecx;
        self.frame.registers.rdx = edx;
        self.skip_instruction();
    }

    fn complete_msr_read(&mut self, value: u64) {
        self.frame.rax = value & 0xFFFF_FFFF;
        self.frame.registers.rdx = value >> 32;
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
