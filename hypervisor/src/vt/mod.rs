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
mod identifiers;
mod permission;
mod registers;
mod start_state;
pub mod svm;
mod unsupported;
pub mod vmx;

use alloc::sync::Arc;

use nuncio_abi::{RawCall, MAX_VALUES};

use crate::mem::{Account, OutOfFrames};
use crate::nested::EntryFormat;

pub use entry_rules::EntryFailure;
pub use exit::{Access, Exit, ExitKind, GuestException, EXIT_KINDS};
pub use registers::{Register, Registers};
pub use start_state::StartState;
pub use unsupported::{Extension, Unsupported};

use registers::{ARGUMENTS, VALUES};

/// Bytes in [`Vendor::CALL_INSTRUCTION`].
const CALL_BYTES: u64 = 3;

/// A CPU that can run guests.
pub trait Vendor {
    /// The name in reports: `svm` or `vmx`.
    const NAME: &'static str;

    /// The instruction by which guests call; it stands in the text page.
    const CALL_INSTRUCTION: [u8; CALL_BYTES as usize];

    /// What it runs.
    type Vcpu: VirtualCpu;

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

    /// Gets ready to run this vcpu after another one.
    fn load(&mut self, vcpu: &mut Self::Vcpu);

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

    /// Why it could not be entered, after [`Exit::BadState`], while it is still loaded. `is_first`
    /// says that it has not run yet.
    fn entry_failure(&self, is_first: bool) -> EntryFailure;

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

    /// Whether an upcall was requested and has not arrived yet.
    fn upcall_is_pending(&self) -> bool;

    /// Forgets what the CPU has cached of the nested page tables before the next run.
    fn flush_translations(&mut self);

    /// Whether [`VirtualCpu::limit_run`] has to be told. Where guests always leave for the machine's
    /// timer it has not.
    const LIMITS_RUNS: bool = false;

    /// Has the guest leave the CPU with [`Exit::Interrupt`] after about this many ticks, or when
    /// it likes.
    fn limit_run(&mut self, _ticks: Option<u64>) {}

    /// The control registers as the guest sees them.
    fn control_registers(&self) -> ControlRegisters;

    /// Sets the extended-feature-enable register, keeping what the vendor needs in it.
    fn set_efer(&mut self, value: u64);

    /// Sets the page-attribute table, which must have no reserved types.
    fn set_page_attributes(&mut self, value: u64);

    /// CR4 as the guest sees it.
    fn cr4(&self) -> u64;

    /// The instruction pointer as of the last exit.
    fn instruction_pointer(&self) -> u64;

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
        let registers = self.registers_mut();
        registers[VALUES[0]] = first;
        registers[VALUES[1]] = second;
    }

    /// Puts the five values of a long reply into their registers.
    fn set_values(&mut self, values: &[u64; MAX_VALUES]) {
        let registers = self.registers_mut();
        for (register, value) in VALUES.into_iter().zip(values) {
            registers[register] = *value;
        }
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

    /// Puts the value of a model-specific register into EDX:EAX and moves past RDMSR.
    fn complete_msr_read(&mut self, value: u64) {
        self.set_register(Register::RAX, value & 0xFFFF_FFFF);
        self.set_register(Register::RDX, value >> 32);
        self.skip_instruction();
    }
}
