//! The vendor boundary: what the hypervisor asks of VT-x or SVM, and what it is told.
//!
//! One trait for the CPU ([`Vendor`]), one for what runs on it ([`VirtualCpu`]), one enum for why
//! it stopped running ([`Exit`]). Each vendor is a folder with the same file names; the choice is
//! made once, from CPUID, and everything above is compiled for the vendor it got.
//!
//! Invariant: nothing outside this folder knows a VMCB, a VMCS or an exit code, and nothing
//! inside it decides what a guest may do.

#[cfg(test)]
mod behaviour;
pub mod entry_rules;
mod event;
mod exit;
#[cfg(test)]
mod exit_cases;
#[cfg(test)]
pub mod fake;
pub mod fields;
mod flush_log;
mod identifiers;
mod permission;
mod registers;
mod start_state;
pub mod state;
#[cfg(test)]
mod state_behaviour;
pub mod svm;
mod system_register;
mod unsupported;
pub mod vmx;

use alloc::sync::Arc;

use nuncio_abi::{RawCall, MAX_VALUES};

use crate::mem::{Account, Frame, OutOfFrames};
use crate::nested::EntryFormat;

pub use entry_rules::EntryFailure;
pub use exit::{Access, Exit, ExitKind, GuestException, EXIT_KINDS};
pub use flush_log::{FlushLog, FlushRecorder, Step};
pub use registers::{Register, Registers};
pub use start_state::{Segment, SegmentRegister, StartState};
pub use system_register::{RegisterLimits, SystemRegister};
pub use unsupported::{Extension, Unsupported};

use registers::ARGUMENTS;

/// Bytes in [`Vendor::CALL_INSTRUCTION`].
const CALL_BYTES: u64 = 3;

/// A CPU that can run guests.
pub trait Vendor: 'static {
    /// The name in reports: `svm` or `vmx`.
    const NAME: &'static str;

    /// The instruction by which guests call; it stands in the text page.
    const CALL_INSTRUCTION: [u8; CALL_BYTES as usize];

    /// What it runs.
    type Vcpu: VirtualCpu + Send;

    /// The format of its nested page tables.
    fn entry_format(&self) -> &'static dyn EntryFormat;

    /// Makes a virtual CPU that starts in 64-bit mode; its frames are paid by `account`.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    fn create_vcpu(
        &mut self,
        account: &Arc<Account>,
        start: &StartState,
    ) -> Result<Self::Vcpu, OutOfFrames>;

    /// Writes down from now on what the CPU is told to forget.
    fn record_flushes(&mut self, recorder: FlushRecorder);

    /// Gets ready to run this vcpu after another one.
    fn load(&mut self, vcpu: &mut Self::Vcpu);

    /// Lets go of a vcpu that is to run on another CPU: nothing of it is left in this one.
    fn release(&mut self, vcpu: &mut Self::Vcpu);

    /// Takes over a vcpu that another CPU has let go of. What it has had cached there, or here before that,
    /// is forgotten before it runs.
    fn adopt(&mut self, vcpu: &mut Self::Vcpu);

    /// Runs the guest until it needs the hypervisor.
    fn run(&mut self, vcpu: &mut Self::Vcpu) -> Left;
}

/// How a guest left the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Its kernel made a call: by far the most frequent exit, so it is not decoded any further.
    ByCall,
    /// For the reason that [`VirtualCpu::exit`] gives.
    ByExit,
}

/// The privilege level at which the call instruction is a call; none if all of them are exits.
const fn calls_at(calls_exit: bool) -> u8 {
    if calls_exit {
        u8::MAX
    } else {
        0
    }
}

/// The registers that decide in which mode a guest runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlRegisters {
    /// CR0.
    pub cr0: u64,
    /// CR4.
    pub cr4: u64,
    /// Extended features.
    pub efer: u64,
    /// The page-attribute table.
    pub page_attributes: u64,
}

/// A virtual CPU between two runs. Only the vcpu loop calls what changes it.
pub trait VirtualCpu {
    /// Why it left the CPU, after [`Left::ByExit`].
    fn exit(&mut self) -> Exit;

    /// Why it could not be entered, after [`Exit::BadState`], while it is still loaded.
    fn entry_failure(&self) -> EntryFailure;

    /// A general register.
    fn register(&self, register: Register) -> u64;

    /// Sets a general register.
    fn set_register(&mut self, register: Register, value: u64);

    /// The general registers but RAX and RSP, which some vendor keeps elsewhere.
    fn registers_mut(&mut self) -> &mut Registers;

    /// Puts the status of a reply into RAX and moves past the call instruction.
    fn complete_call(&mut self, status: u64);

    /// Moves past the instruction that caused the exit.
    fn skip_instruction(&mut self);

    /// Raises an exception in the guest at the instruction that caused the exit.
    fn inject(&mut self, exception: GuestException);

    /// Lets the upcall arrive at this vector as soon as the guest takes interrupts.
    fn request_upcall(&mut self, vector: u8);

    /// The vector of an upcall that was requested and has not arrived yet.
    fn pending_upcall(&self) -> Option<u8>;

    /// Takes such an upcall back.
    fn take_upcall(&mut self) -> Option<u8>;

    /// Forgets what the CPU has cached of the nested page tables before the next run.
    fn flush_translations(&mut self);

    /// Has the guest run on these nested tables, which may not be those that it ran on before.
    fn set_nested_root(&mut self, root: Frame);

    /// Whether calls of its kernel are exits like all others instead of [`Left::ByCall`].
    fn set_calls_exit(&mut self, calls_exit: bool);

    /// Has these exceptions exit, a bit each, beside those that always do.
    fn catch_exceptions(&mut self, vectors: u32);

    /// The guest-virtual address of the page fault that has exited.
    fn fault_address(&self) -> u64;

    /// Whether [`VirtualCpu::limit_run`] has to be told. Where guests always leave for the machine's
    /// timer it has not.
    const LIMITS_RUNS: bool = false;

    /// Has the guest leave the CPU with [`Exit::Interrupt`] after about this many ticks, or when
    /// it likes.
    fn limit_run(&mut self, _ticks: Option<u64>) {}

    /// A system register as the guest sees it. The vcpu is the one that was loaded last: VT-x has its
    /// registers in the CPU.
    fn system_register(&self, register: SystemRegister) -> u64;

    /// Sets a system register to a value that the CPU lets a guest have, but for what only makes the
    /// next entry fail. What the vendor needs in it is kept. Whoever changes what translations depend on
    /// has them flushed. The vcpu is the one that was loaded last.
    fn set_system_register(&mut self, register: SystemRegister, value: u64);

    /// A segment register. The vcpu is the one that was loaded last.
    fn segment(&self, register: SegmentRegister) -> Segment;

    /// Sets a segment register, and with SS the privilege level. The vcpu is the one that was loaded
    /// last.
    fn set_segment(&mut self, segment: &Segment);

    /// Whether an instruction of the guest's, such as STI, holds interrupts back for one more.
    fn is_in_shadow(&self) -> bool;

    /// Puts the guest into such a shadow or takes it out; RFLAGS are set already.
    fn set_shadow(&mut self, is_in_shadow: bool);

    /// What values system registers can have.
    fn register_limits(&self) -> RegisterLimits;

    /// Has an entry that fails because of what was set above explained, on CPUs that overwrite it.
    fn state_was_loaded(&mut self) {}

    /// The instruction pointer as of the last exit.
    fn instruction_pointer(&self) -> u64;

    /// Whether an upcall was requested and has not arrived yet.
    fn upcall_is_pending(&self) -> bool {
        self.pending_upcall().is_some()
    }

    /// The control registers as the guest sees them.
    fn control_registers(&self) -> ControlRegisters {
        ControlRegisters {
            cr0: self.system_register(SystemRegister::Cr0),
            cr4: self.cr4(),
            efer: self.system_register(SystemRegister::Efer),
            page_attributes: self.system_register(SystemRegister::PageAttributes),
        }
    }

    /// CR4 as the guest sees it.
    #[inline(always)]
    fn cr4(&self) -> u64 {
        self.system_register(SystemRegister::Cr4)
    }

    /// Sets the extended-feature-enable register.
    fn set_efer(&mut self, value: u64) {
        self.set_system_register(SystemRegister::Efer, value);
    }

    /// Sets the page-attribute table, which must have no reserved types.
    fn set_page_attributes(&mut self, value: u64) {
        self.set_system_register(SystemRegister::PageAttributes, value);
        // Cached translations have the memory types of the old table.
        self.flush_translations();
    }

    /// The registers of a call.
    #[inline(always)]
    fn call(&self) -> RawCall {
        RawCall {
            verb: self.register(Register::RAX),
            arguments: ARGUMENTS.map(|register| self.register(register)),
        }
    }

    /// Puts the two values of a short reply into their registers.
    #[inline(always)]
    fn set_pair(&mut self, first: u64, second: u64) {
        self.registers_mut().set_pair(first, second);
    }

    /// Puts the five values of a long reply into their registers.
    fn set_values(&mut self, values: &[u64; MAX_VALUES]) {
        self.registers_mut().set_values(values);
    }

    /// Puts CPUID's answer (EAX, EBX, ECX, EDX) into the registers and moves past it.
    fn complete_cpuid(&mut self, answer: [u32; 4]) {
        let [eax, ebx, ecx, edx] = answer.map(u64::from);
        self.set_register(Register::RAX, eax);
        self.set_register(Register::RBX, ebx);
        self.set_register(Register::RCX, ecx);
        self.set_register(Register::RDX, edx);
        self.skip_instruction();
    }

    /// Puts what an IN of that many bytes has read into RAX: 1 and 2 leave the bits above as they are,
    /// 4 clears them. It does not move past the instruction.
    fn set_port_input(&mut self, bytes: u8, value: u32) {
        let value = u64::from(value);
        let rax = self.register(Register::RAX);
        let rax = match bytes {
            1 => rax & !0xFF | value & 0xFF,
            2 => rax & !0xFFFF | value & 0xFFFF,
            _ => value,
        };
        self.set_register(Register::RAX, rax);
    }

    /// Puts the value of a model-specific register into EDX:EAX and moves past RDMSR.
    fn complete_msr_read(&mut self, value: u64) {
        self.set_register(Register::RAX, value & 0xFFFF_FFFF);
        self.set_register(Register::RDX, value >> 32);
        self.skip_instruction();
    }
}
