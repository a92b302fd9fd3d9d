//! VT-x exit reasons (Intel SDM vol. 3, appendix C) into the shared exit enum: a pure function.

#![forbid(unsafe_code)]

use crate::mem::GuestPhysical;
use crate::vt::{Access, Exit};

use super::moves::DebugAccess;

/// What the control structure and the registers say after an exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawExit {
    /// The exit reason, all 32 bits.
    pub reason: u32,
    /// The exit qualification.
    pub qualification: u64,
    /// The guest-physical address.
    pub guest_physical: u64,
    /// The exit interruption information.
    pub event: u32,
    /// Its error code.
    pub error_code: u32,
    /// The guest's RAX.
    pub rax: u64,
    /// The guest's RCX.
    pub rcx: u64,
    /// The guest's RDX.
    pub rdx: u64,
    /// The guest's RFLAGS.
    pub rflags: u64,
    /// The guest's privilege level.
    pub privilege: u8,
}

/// Set in the reason if the entry failed.
pub const ENTRY_FAILED: u32 = 1 << 31;

macro_rules! reasons {
    ($( $name:ident = $number:literal, )+) => { $( pub const $name: u16 = $number; )+ };
}

// VMCALL is the guest's call.
reasons! {
    EXCEPTION_OR_NMI = 0, EXTERNAL_INTERRUPT = 1, TRIPLE_FAULT = 2, INTERRUPT_WINDOW = 7,
    CPUID = 10, GETSEC = 11, HLT = 12, INVD = 13, RDPMC = 15, RSM = 17, VMCALL = 18,
    VMX_FIRST = 19, VMX_LAST = 27, CR_ACCESS = 28, MOV_DR = 29, IO = 30, RDMSR = 31, WRMSR = 32,
    MWAIT = 36, MONITOR = 39, MACHINE_CHECK_ON_ENTRY = 41, EPT_VIOLATION = 48,
    EPT_MISCONFIGURATION = 49, INVEPT = 50, PREEMPTION_TIMER = 52, INVVPID = 53, WBINVD = 54,
    XSETBV = 55, VMFUNC = 59,
}

/// Interruption information (24.9.2).
pub const EVENT_VALID: u32 = 1 << 31;
pub const EVENT_HAS_ERROR_CODE: u32 = 1 << 11;
pub const EVENT_TYPE: u32 = 7 << 8;
pub const EVENT_NMI: u32 = 2 << 8;
const MACHINE_CHECK_VECTOR: u8 = 18;
const RFLAGS_INTERRUPT: u64 = 1 << 9;

/// Bytes in VMCALL.
pub const CALL_BYTES: u64 = 3;

/// Decodes an exit.
pub fn decode(raw: &RawExit) -> Exit {
    let reason = raw.reason as u16;
    if reason == MACHINE_CHECK_ON_ENTRY {
        return Exit::MachineCheck;
    }
    if raw.reason & ENTRY_FAILED != 0 {
        return Exit::BadState;
    }
    match reason {
        EXCEPTION_OR_NMI => exception(raw),
        EXTERNAL_INTERRUPT | PREEMPTION_TIMER => Exit::Interrupt,
        TRIPLE_FAULT => Exit::Shutdown,
        CPUID => Exit::Cpuid {
            leaf: raw.rax as u32,
            subleaf: raw.rcx as u32,
        },
        INVD | WBINVD => Exit::CacheFlush,
        HLT => Exit::Halt {
            interrupts_enabled: raw.rflags & RFLAGS_INTERRUPT != 0,
        },
        IO => Exit::Io {
            // Table 27-5: the port is in the third and fourth byte.
            port: (raw.qualification >> 16) as u16,
        },
        RDMSR => Exit::MsrRead {
            index: raw.rcx as u32,
        },
        WRMSR => Exit::MsrWrite {
            index: raw.rcx as u32,
            value: register_pair(raw),
        },
        XSETBV => Exit::ExtendedControlWrite {
            index: raw.rcx as u32,
            value: register_pair(raw),
        },
        VMCALL => Exit::Call {
            privilege: raw.privilege,
        },
        RDPMC => Exit::RefusedInstruction,
        CR_ACCESS => control_register(raw.qualification),
        MOV_DR => debug_register(raw.qualification),
        GETSEC | RSM | VMX_FIRST..=VMX_LAST | MWAIT | MONITOR | INVEPT | INVVPID | VMFUNC => {
            Exit::ForbiddenInstruction
        }
        EPT_VIOLATION => Exit::Memory {
            address: GuestPhysical(raw.guest_physical),
            access: fault_access(raw.qualification),
        },
        EPT_MISCONFIGURATION => Exit::BrokenTables {
            address: GuestPhysical(raw.guest_physical),
        },
        INTERRUPT_WINDOW => Exit::Internal,
        _ => Exit::Other {
            code: u64::from(raw.reason),
        },
    }
}

const fn register_pair(raw: &RawExit) -> u64 {
    (raw.rdx << 32) | (raw.rax & 0xFFFF_FFFF)
}

fn exception(raw: &RawExit) -> Exit {
    let vector = (raw.event & 31) as u8;
    if raw.event & EVENT_TYPE == EVENT_NMI {
        return Exit::Nmi;
    }
    if vector == MACHINE_CHECK_VECTOR {
        return Exit::MachineCheck;
    }
    let has_error_code = raw.event & EVENT_HAS_ERROR_CODE != 0;
    Exit::Exception {
        vector,
        error_code: has_error_code.then_some(raw.error_code),
    }
}

/// Table 27-3. CR4 exits only when a guest sets a bit that it cannot have. CR0 has bits that a
/// guest may change without effect, which is the vcpu's affair.
const fn control_register(qualification: u64) -> Exit {
    match qualification & 0xF {
        0 => Exit::Internal,
        _ => Exit::RefusedInstruction,
    }
}

/// Guests have no hardware breakpoints, as on SVM; all else the vcpu does itself.
const fn debug_register(qualification: u64) -> Exit {
    match DebugAccess::new(qualification) {
        DebugAccess {
            number: 7,
            is_read: false,
            ..
        } => Exit::RefusedInstruction,
        _ => Exit::Internal,
    }
}

/// Table 27-7: bit 1 write, bit 2 fetch.
const fn fault_access(qualification: u64) -> Access {
    if qualification & 1 << 2 != 0 {
        Access::Execute
    } else if qualification & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(reason: u32) -> RawExit {
        RawExit {
            reason,
            ..RawExit::default()
        }
    }

    /// Every exit that this hypervisor asks for, with the answer all vendors must give.
    #[test]
    fn exits_decode_to_the_shared_enum() {
        let cases = [
            (raw(1), Exit::Interrupt),
            (
                RawExit {
                    event: 0x8000_0202,
                    ..raw(0)
                },
                Exit::Nmi,
            ),
            (
                RawExit {
                    rax: 0xFFFF_FFFF_8000_0001,
                    rcx: 7,
                    ..raw(10)
                },
                Exit::Cpuid {
                    leaf: 0x8000_0001,
                    subleaf: 7,
                },
            ),
            (
                RawExit {
                    rflags: 0x202,
                    ..raw(12)
                },
                Exit::Halt {
                    interrupts_enabled: true,
                },
            ),
            (
                raw(12),
                Exit::Halt {
                    interrupts_enabled: false,
                },
            ),
            (
                RawExit {
                    qualification: 0x03F8_0008,
                    ..raw(30)
                },
                Exit::Io { port: 0x3F8 },
            ),
            (
                RawExit {
                    rcx: 0xC000_0080,
                    ..raw(31)
                },
                Exit::MsrRead { index: 0xC000_0080 },
            ),
            (
                RawExit {
                    rcx: 0x10,
                    rax: 0xFFFF_FFFF_0000_0002,
                    rdx: 1,
                    ..raw(32)
                },
                Exit::MsrWrite {
                    index: 0x10,
                    value: 0x1_0000_0002,
                },
            ),
            (raw(2), Exit::Shutdown),
            (
                RawExit {
                    privilege: 3,
                    ..raw(18)
                },
                Exit::Call { privilege: 3 },
            ),
            (raw(24), Exit::ForbiddenInstruction),
            (raw(36), Exit::ForbiddenInstruction),
            (raw(59), Exit::ForbiddenInstruction),
            (
                RawExit {
                    qualification: 7,
                    ..raw(29)
                },
                Exit::RefusedInstruction,
            ),
            (raw(15), Exit::RefusedInstruction),
            (raw(13), Exit::CacheFlush),
            (raw(54), Exit::CacheFlush),
            (
                RawExit {
                    event: 0x8000_0301,
                    ..raw(0)
                },
                Exit::Exception {
                    vector: 1,
                    error_code: None,
                },
            ),
            (
                RawExit {
                    event: 0x8000_0B11,
                    error_code: 4,
                    ..raw(0)
                },
                Exit::Exception {
                    vector: 17,
                    error_code: Some(4),
                },
            ),
            (
                RawExit {
                    event: 0x8000_0312,
                    ..raw(0)
                },
                Exit::MachineCheck,
            ),
            (raw(0x8000_0021), Exit::BadState),
            (raw(0x8000_0022), Exit::BadState),
            (raw(9), Exit::Other { code: 9 }),
        ];
        for (raw, exit) in cases {
            assert_eq!(decode(&raw), exit, "{raw:?}");
        }
    }

    #[test]
    fn what_only_this_vendor_has_decodes_too() {
        let cases = [
            (raw(52), Exit::Interrupt),
            (raw(7), Exit::Internal),
            (raw(0x8000_0029), Exit::MachineCheck),
            (raw(28), Exit::Internal),
            (
                RawExit {
                    qualification: 4,
                    ..raw(28)
                },
                Exit::RefusedInstruction,
            ),
            (
                RawExit {
                    qualification: 5,
                    ..raw(29)
                },
                Exit::RefusedInstruction,
            ),
            (
                RawExit {
                    qualification: 0x10 | 7,
                    ..raw(29)
                },
                Exit::Internal,
            ),
            (
                RawExit { rax: 7, ..raw(55) },
                Exit::ExtendedControlWrite { index: 0, value: 7 },
            ),
            (
                RawExit {
                    guest_physical: 0x5000,
                    ..raw(49)
                },
                Exit::BrokenTables {
                    address: GuestPhysical(0x5000),
                },
            ),
        ];
        for (raw, exit) in cases {
            assert_eq!(decode(&raw), exit, "{raw:?}");
        }
    }

    #[test]
    fn a_nested_fault_says_how_memory_was_touched() {
        let cases = [
            (1, Access::Read),
            (1 << 7 | 1, Access::Read),
            (1 << 1, Access::Write),
            (1 << 1 | 1, Access::Write),
            (1 << 2, Access::Execute),
        ];
        for (qualification, access) in cases {
            let exit = decode(&RawExit {
                qualification,
                guest_physical: 0x1234_5678,
                ..raw(48)
            });
            let address = GuestPhysical(0x1234_5678);
            assert_eq!(exit, Exit::Memory { address, access });
        }
    }
}
