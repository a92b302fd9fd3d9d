//! Why a guest stopped running, decoded the same way for both vendors.

#![forbid(unsafe_code)]

use crate::mem::GuestPhysical;

use super::event::RFLAGS_INTERRUPT;
use super::registers::Register;
use super::VirtualCpu;

const MACHINE_CHECK: u8 = 18;

/// How memory was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load, or a page-table walk.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// An exception to raise in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestException {
    /// #UD: the instruction does not exist for this guest.
    InvalidOpcode,
    /// #GP(0): the instruction exists and its operand is refused.
    GeneralProtection,
    /// An exception that the guest raised itself and that was caught on its way.
    Reflected {
        /// Its vector, 0 to 31.
        vector: u8,
        /// Its error code, if it has one.
        error_code: Option<u32>,
    },
    /// An exception that the guest's monitor raises.
    Raised {
        /// Its vector, 0 to 31.
        vector: u8,
        /// Its error code, if it has one.
        error_code: Option<u32>,
    },
}

/// Why the guest stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The call instruction.
    Call {
        /// The guest's privilege level, 0 to 3.
        privilege: u8,
    },
    /// CPUID.
    Cpuid {
        /// EAX.
        leaf: u32,
        /// ECX.
        subleaf: u32,
    },
    /// RDMSR.
    MsrRead {
        /// ECX.
        index: u32,
    },
    /// WRMSR.
    MsrWrite {
        /// ECX.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// HLT.
    Halt {
        /// Whether an interrupt could wake it.
        interrupts_enabled: bool,
    },
    /// An I/O port is read or written. Nothing has happened yet.
    Io {
        /// The first of the ports.
        port: u16,
        /// How many bytes: 1, 2 or 4.
        bytes: u8,
        /// Whether it reads: IN or INS.
        is_read: bool,
        /// Whether the bytes are in memory and not in RAX: INS or OUTS.
        is_string: bool,
        /// Whether the string instruction is repeated.
        repeats: bool,
    },
    /// The nested page tables have no such memory, or not with that right.
    Memory {
        /// The guest-physical address.
        address: GuestPhysical,
        /// How it was touched.
        access: Access,
    },
    /// An interrupt for the hypervisor is pending, or the guest has run as long as it was to.
    Interrupt,
    /// A non-maskable interrupt for the hypervisor is pending.
    Nmi,
    /// An exception that must not loop inside the CPU is handed back to the guest.
    Exception {
        /// Its vector, 0 to 31.
        vector: u8,
        /// Its error code, if it has one.
        error_code: Option<u32>,
    },
    /// The machine reported a hardware error while the guest ran.
    MachineCheck,
    /// An instruction that does not exist for guests.
    ForbiddenInstruction,
    /// An instruction that reads what guests may not see.
    RefusedInstruction,
    /// WBINVD or INVD: nothing to do, since guests share only coherent memory.
    CacheFlush,
    /// XSETBV.
    ExtendedControlWrite {
        /// ECX.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// A triple fault.
    Shutdown,
    /// The CPU refuses to run the guest's state.
    BadState,
    /// The nested page tables have an entry that the CPU does not understand.
    BrokenTables {
        /// The guest-physical address.
        address: GuestPhysical,
    },
    /// The vendor's own affair, which it has settled.
    Internal,
    /// An exit nobody asked for.
    Other {
        /// The vendor's number.
        code: u64,
    },
}

/// What the decoders of both vendors make of plain values.
impl Exit {
    /// HLT, with the guest's flags.
    pub const fn halt(rflags: u64) -> Self {
        Exit::Halt {
            interrupts_enabled: rflags & RFLAGS_INTERRUPT != 0,
        }
    }

    /// An exception that was caught.
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Self {
        match vector {
            MACHINE_CHECK => Exit::MachineCheck,
            _ => Exit::Exception { vector, error_code },
        }
    }

    /// An access to a port of that many bytes, with the bits that say that it reads, that it is a
    /// string instruction, and that it repeats. Both vendors have the port's number in bits 16 to 31
    /// (Intel SDM vol. 3, table 27-5; AMD APM vol. 2, section 15.10.2).
    pub const fn port(information: u64, bytes: u8, [read, string, repeat]: [u64; 3]) -> Self {
        Exit::Io {
            port: (information >> 16) as u16,
            bytes,
            is_read: information & read != 0,
            is_string: information & string != 0,
            repeats: information & repeat != 0,
        }
    }

    /// An access that the nested page tables do not allow.
    pub const fn memory(address: u64, is_write: bool, is_fetch: bool) -> Self {
        let access = match (is_fetch, is_write) {
            (true, _) => Access::Execute,
            (false, true) => Access::Write,
            (false, false) => Access::Read,
        };
        Exit::Memory {
            address: GuestPhysical(address),
            access,
        }
    }
}

/// The registers in which instructions that exit have their operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Operands {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
}

impl Operands {
    /// Those of a vcpu.
    pub fn of(vcpu: &impl VirtualCpu) -> Self {
        Operands {
            rax: vcpu.register(Register::RAX),
            rcx: vcpu.register(Register::RCX),
            rdx: vcpu.register(Register::RDX),
        }
    }

    /// CPUID.
    pub const fn cpuid(&self) -> Exit {
        Exit::Cpuid {
            leaf: self.rax as u32,
            subleaf: self.rcx as u32,
        }
    }

    /// RDMSR.
    pub const fn msr_read(&self) -> Exit {
        Exit::MsrRead {
            index: self.rcx as u32,
        }
    }

    /// WRMSR.
    pub const fn msr_write(&self) -> Exit {
        Exit::MsrWrite {
            index: self.rcx as u32,
            value: self.pair(),
        }
    }

    /// XSETBV.
    pub const fn extended_control_write(&self) -> Exit {
        Exit::ExtendedControlWrite {
            index: self.rcx as u32,
            value: self.pair(),
        }
    }

    /// EDX:EAX.
    const fn pair(&self) -> u64 {
        (self.rdx << 32) | (self.rax & 0xFFFF_FFFF)
    }
}

/// The column of an exit in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum ExitKind {
    Call,
    Cpuid,
    Msr,
    Halt,
    Io,
    Memory,
    Interrupt,
    Nmi,
    Fault,
    Shutdown,
    Other,
}

/// The names of the columns, in the order of [`ExitKind`].
pub const EXIT_KINDS: [&str; 11] = [
    "call",
    "cpuid",
    "msr",
    "halt",
    "io",
    "memory",
    "interrupt",
    "nmi",
    "fault",
    "shutdown",
    "other",
];

const _: () = assert!(ExitKind::Other as usize + 1 == EXIT_KINDS.len());

impl Exit {
    /// The column that counts this exit.
    #[inline]
    pub const fn kind(&self) -> ExitKind {
        match self {
            Exit::Call { .. } => ExitKind::Call,
            Exit::Cpuid { .. } => ExitKind::Cpuid,
            Exit::MsrRead { .. } | Exit::MsrWrite { .. } => ExitKind::Msr,
            Exit::Halt { .. } => ExitKind::Halt,
            Exit::Io { .. } => ExitKind::Io,
            Exit::Memory { .. } => ExitKind::Memory,
            Exit::Interrupt => ExitKind::Interrupt,
            Exit::Nmi => ExitKind::Nmi,
            Exit::Exception { .. }
            | Exit::ForbiddenInstruction
            | Exit::RefusedInstruction
            | Exit::BadState => ExitKind::Fault,
            Exit::Shutdown => ExitKind::Shutdown,
            Exit::MachineCheck
            | Exit::CacheFlush
            | Exit::ExtendedControlWrite { .. }
            | Exit::BrokenTables { .. }
            | Exit::Internal
            | Exit::Other { .. } => ExitKind::Other,
        }
    }
}
