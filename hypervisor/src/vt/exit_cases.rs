//! What can happen to a guest on any CPU, and what the decoders of both vendors make of it: one
//! list for all. A vendor's tests say how its CPU reports what has happened.

use super::exit::{Access, Exit, Operands};
use crate::mem::GuestPhysical;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Interrupt,
    Nmi,
    TripleFault,
    /// The CPU refuses to run the guest.
    BadState,
    Call,
    Cpuid,
    ReadMsr,
    WriteMsr,
    Halt,
    Invd,
    Wbinvd,
    Rdpmc,
    Rsm,
    Monitor,
    Mwait,
    /// An instruction of the CPU's own virtualization.
    Vmrun,
    WriteDr7,
    PortIo(PortAccess),
    Exception {
        vector: u8,
        error_code: Option<u32>,
    },
    /// The nested tables do not have the page, or not with this right.
    MissingPage {
        address: u64,
        is_write: bool,
        is_fetch: bool,
    },
}

/// An instruction that reads or writes a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    pub port: u16,
    pub bytes: u8,
    pub is_read: bool,
    pub is_string: bool,
    pub repeats: bool,
}

/// The guest to which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    pub operands: Operands,
    pub rflags: u64,
    pub privilege: u8,
}

/// Only the lower halves of the registers count for the instructions that exit.
const KERNEL: Guest = Guest {
    operands: Operands {
        rax: 0xFFFF_FFFF_8000_0001,
        rcx: 0x1234_5678_C000_0080,
        rdx: 0x9ABC_DEF0_0000_0003,
    },
    rflags: 0x202,
    privilege: 0,
};
const USER: Guest = Guest {
    privilege: 3,
    ..KERNEL
};
const INTERRUPTS_OFF: Guest = Guest {
    rflags: 0x2,
    ..KERNEL
};

const fn missing(is_write: bool, is_fetch: bool) -> Happened {
    Happened::MissingPage {
        address: 0x1234_5678,
        is_write,
        is_fetch,
    }
}

const fn exception(vector: u8, error_code: Option<u32>) -> Happened {
    Happened::Exception { vector, error_code }
}

const fn refused(access: Access) -> Exit {
    Exit::Memory {
        address: GuestPhysical(0x1234_5678),
        access,
    }
}

const CASES: &[(Guest, Happened, Exit)] = &[
    (KERNEL, Happened::Interrupt, Exit::Interrupt),
    (KERNEL, Happened::Nmi, Exit::Nmi),
    (KERNEL, Happened::TripleFault, Exit::Shutdown),
    (KERNEL, Happened::BadState, Exit::BadState),
    (KERNEL, Happened::Call, Exit::Call { privilege: 0 }),
    (USER, Happened::Call, Exit::Call { privilege: 3 }),
    (
        USER,
        Happened::Cpuid,
        Exit::Cpuid {
            leaf: 0x8000_0001,
            subleaf: 0xC000_0080,
        },
    ),
    (
        KERNEL,
        Happened::ReadMsr,
        Exit::MsrRead { index: 0xC000_0080 },
    ),
    (
        KERNEL,
        Happened::WriteMsr,
        Exit::MsrWrite {
            index: 0xC000_0080,
            value: 0x3_8000_0001,
        },
    ),
    (
        KERNEL,
        Happened::Halt,
        Exit::Halt {
            interrupts_enabled: true,
        },
    ),
    (
        INTERRUPTS_OFF,
        Happened::Halt,
        Exit::Halt {
            interrupts_enabled: false,
        },
    ),
    (KERNEL, Happened::Invd, Exit::CacheFlush),
    (KERNEL, Happened::Wbinvd, Exit::CacheFlush),
    (KERNEL, Happened::Rdpmc, Exit::RefusedInstruction),
    (KERNEL, Happened::WriteDr7, Exit::RefusedInstruction),
    (KERNEL, Happened::Rsm, Exit::ForbiddenInstruction),
    (KERNEL, Happened::Monitor, Exit::ForbiddenInstruction),
    (KERNEL, Happened::Mwait, Exit::ForbiddenInstruction),
    (KERNEL, Happened::Vmrun, Exit::ForbiddenInstruction),
    (
        KERNEL,
        exception(1, None),
        Exit::Exception {
            vector: 1,
            error_code: None,
        },
    ),
    (
        USER,
        exception(17, Some(4)),
        Exit::Exception {
            vector: 17,
            error_code: Some(4),
        },
    ),
    (KERNEL, exception(18, None), Exit::MachineCheck),
    (KERNEL, missing(false, false), refused(Access::Read)),
    (KERNEL, missing(true, false), refused(Access::Write)),
    (KERNEL, missing(false, true), refused(Access::Execute)),
];

/// Every way to reach a port.
fn check_ports(decode: &impl Fn(&Happened, &Guest) -> Exit) {
    let flags = [false, true];
    for (port, bytes) in [(0x3F8, 1), (0, 2), (0xFFFF, 1), (0xCF8, 4)] {
        for (is_read, is_string, repeats) in flags
            .into_iter()
            .flat_map(|read| flags.map(|string| (read, string)))
            .flat_map(|(read, string)| flags.map(|repeat| (read, string, repeat)))
        {
            let happened = Happened::PortIo(PortAccess {
                port,
                bytes,
                is_read,
                is_string,
                repeats,
            });
            let expected = Exit::Io {
                port,
                bytes,
                is_read,
                is_string,
                repeats,
            };
            assert_eq!(decode(&happened, &USER), expected);
        }
    }
}

/// Runs a vendor's decoder through the list.
pub fn check(decode: impl Fn(&Happened, &Guest) -> Exit) {
    check_ports(&decode);
    for (guest, happened, expected) in CASES {
        assert_eq!(
            decode(happened, guest),
            *expected,
            "{happened:?} in {guest:?}"
        );
    }
}
