//! VT-x exit reasons (Intel SDM vol. 3, appendix C) into the shared exit enum: a pure function.

#![forbid(unsafe_code)]

use crate::mem::GuestPhysical;
use crate::vt::event::Event;
use crate::vt::exit::{Exit, Operands};

pub use crate::vt::fields::vmx::exit_reason::*;

use super::control_block::{self as vmcs, Field};
use super::moves::DebugAccess;

/// What the control structure and the registers say after an exit, as far as its reason needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawExit {
    /// The exit reason, all 32 bits.
    pub reason: u32,
    /// The exit qualification.
    pub qualification: u64,
    /// The guest-physical address.
    pub guest_physical: u64,
    /// The exception or NMI.
    pub event: Event,
    /// The guest's RAX, RCX and RDX.
    pub operands: Operands,
    /// The guest's RFLAGS.
    pub rflags: u64,
    /// The access rights of the guest's SS, which have its privilege level (24.4.1).
    pub stack_access: u64,
}

/// Set in the reason if the entry failed.
pub const ENTRY_FAILED: u32 = 1 << 31;

impl RawExit {
    /// Reads with `get` what [`decode`] looks at after this reason. Every field costs a VMREAD, and
    /// the most frequent reasons need none.
    #[inline]
    pub fn read(reason: u32, operands: Operands, get: impl Fn(Field) -> u64) -> Self {
        let mut raw = RawExit {
            reason,
            operands,
            ..RawExit::default()
        };
        match reason as u16 {
            EXCEPTION_OR_NMI => {
                raw.event = Event {
                    information: get(vmcs::EXIT_EVENT) as u32,
                    error_code: get(vmcs::EXIT_ERROR_CODE) as u32,
                };
                // What a debug exception would have put into DR6.
                raw.qualification = get(vmcs::EXIT_QUALIFICATION);
            }
            HLT => raw.rflags = get(vmcs::RFLAGS),
            VMCALL => raw.stack_access = get(vmcs::SS_ACCESS),
            CR_ACCESS | MOV_DR | IO | BAD_GUEST_STATE | BAD_MSR_LOAD => {
                raw.qualification = get(vmcs::EXIT_QUALIFICATION);
            }
            EPT_VIOLATION | EPT_MISCONFIGURATION => {
                raw.qualification = get(vmcs::EXIT_QUALIFICATION);
                raw.guest_physical = get(vmcs::GUEST_PHYSICAL_ADDRESS);
            }
            _ => {}
        }
        raw
    }
}

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
        EXCEPTION_OR_NMI if raw.event.is_nmi() => Exit::Nmi,
        EXCEPTION_OR_NMI => Exit::exception(raw.event.vector(), raw.event.error_code()),
        EXTERNAL_INTERRUPT | PREEMPTION_TIMER => Exit::Interrupt,
        TRIPLE_FAULT => Exit::Shutdown,
        CPUID => raw.operands.cpuid(),
        INVD | WBINVD => Exit::CacheFlush,
        HLT => Exit::halt(raw.rflags),
        // Table 27-5: bits 0 to 2 are the size less 1; bits 3 to 5 are for reads, strings, repetition.
        IO => Exit::port(
            raw.qualification,
            raw.qualification as u8 % 8 + 1,
            [8, 16, 32],
        ),
        RDMSR => raw.operands.msr_read(),
        WRMSR => raw.operands.msr_write(),
        XSETBV => raw.operands.extended_control_write(),
        VMCALL => Exit::Call {
            privilege: vmcs::privilege(raw.stack_access),
        },
        RDPMC => Exit::RefusedInstruction,
        CR_ACCESS => control_register(raw.qualification),
        MOV_DR => debug_register(raw.qualification),
        GETSEC | RSM | VMX_FIRST..=VMX_LAST | MWAIT | MONITOR | INVEPT | INVVPID | VMFUNC => {
            Exit::ForbiddenInstruction
        }
        // Table 27-7: bit 1 write, bit 2 fetch.
        EPT_VIOLATION => Exit::memory(
            raw.guest_physical,
            raw.qualification & 1 << 1 != 0,
            raw.qualification & 1 << 2 != 0,
        ),
        EPT_MISCONFIGURATION => Exit::BrokenTables {
            address: GuestPhysical(raw.guest_physical),
        },
        INTERRUPT_WINDOW => Exit::Internal,
        _ => Exit::Other {
            code: u64::from(raw.reason),
        },
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

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::vt::exit::Access;
    use crate::vt::exit_cases::{check, Guest, Happened};
    use std::vec;
    use std::vec::Vec;

    /// How VT-x says what has happened: the fields that it writes, others left as they are.
    pub fn fields(happened: &Happened) -> (u32, Vec<(Field, u64)>) {
        match *happened {
            Happened::Interrupt => (1, vec![]),
            Happened::Nmi => (0, vec![(vmcs::EXIT_EVENT, 0x8000_0202)]),
            Happened::Rdpmc => (15, vec![]),
            Happened::Cpuid => (10, vec![]),
            Happened::Invd => (13, vec![]),
            Happened::Wbinvd => (54, vec![]),
            Happened::Halt => (12, vec![]),
            Happened::Call => (18, vec![]),
            // VMLAUNCH to VMXON.
            Happened::Vmrun => (24, vec![]),
            Happened::Mwait => (36, vec![]),
            Happened::Monitor => (39, vec![]),
            Happened::Rsm => (17, vec![]),
            Happened::TripleFault => (2, vec![]),
            Happened::BadState => (0x8000_0021, vec![]),
            Happened::ReadMsr => (31, vec![]),
            Happened::WriteMsr => (32, vec![]),
            Happened::WriteDr7 => (29, vec![(vmcs::EXIT_QUALIFICATION, 7)]),
            Happened::PortIo(access) => {
                let flags = [access.is_read, access.is_string, access.repeats];
                let bits = flags
                    .iter()
                    .rev()
                    .fold(0, |bits, flag| bits << 1 | u64::from(*flag));
                // Bit 6: the port is an immediate operand.
                let qualification =
                    u64::from(access.port) << 16 | 1 << 6 | bits << 3 | u64::from(access.bytes - 1);
                (30, vec![(vmcs::EXIT_QUALIFICATION, qualification)])
            }
            Happened::Exception { vector, error_code } => {
                let flag = if error_code.is_some() { 1 << 11 } else { 0 };
                let event = 0x8000_0300 | flag | u64::from(vector);
                let code = u64::from(error_code.unwrap_or(0xBAD));
                let fields = [(vmcs::EXIT_EVENT, event), (vmcs::EXIT_ERROR_CODE, code)];
                (0, fields.into())
            }
            Happened::MissingPage {
                address,
                is_write,
                is_fetch,
            } => {
                let access = match (is_write, is_fetch) {
                    (_, true) => 1 << 2,
                    (true, _) => 1 << 1,
                    _ => 1 << 0,
                };
                // Bit 7: the guest's linear address is valid.
                let fields = [
                    (vmcs::EXIT_QUALIFICATION, 1 << 7 | access),
                    (vmcs::GUEST_PHYSICAL_ADDRESS, address),
                ];
                (48, fields.into())
            }
        }
    }

    /// Reads an exit from fields that are nonsense unless the exit has written them.
    fn read(happened: &Happened, guest: &Guest) -> RawExit {
        let (reason, fields) = fields(happened);
        RawExit::read(reason, guest.operands, |field| match field {
            vmcs::RFLAGS => guest.rflags,
            vmcs::SS_ACCESS => 0xC093 | u64::from(guest.privilege) << 5,
            field => fields
                .iter()
                .find(|(written, _)| *written == field)
                .map_or(0xBAD0_BAD0_BAD0, |(_, value)| *value),
        })
    }

    #[test]
    fn what_happens_on_every_cpu_decodes_to_the_shared_enum() {
        check(|happened, guest| decode(&read(happened, guest)));
    }

    #[test]
    fn what_only_this_vendor_has_decodes_too() {
        let exit = |reason, qualification| {
            decode(&RawExit {
                reason,
                qualification,
                guest_physical: 0x5000,
                operands: Operands {
                    rax: 7,
                    ..Operands::default()
                },
                ..RawExit::default()
            })
        };
        for forbidden in [11, 19, 20, 21, 22, 23, 25, 26, 27, 50, 53, 59] {
            assert_eq!(exit(forbidden, 0), Exit::ForbiddenInstruction);
        }
        let address = GuestPhysical(0x5000);
        for (reason, qualification, expected) in [
            (52, 0, Exit::Interrupt),
            (7, 0, Exit::Internal),
            (0x8000_0022, 0, Exit::BadState),
            (0x8000_0029, 0, Exit::MachineCheck),
            (28, 0, Exit::Internal),
            (28, 4, Exit::RefusedInstruction),
            (29, 5, Exit::RefusedInstruction),
            (29, 0x10 | 7, Exit::Internal),
            (55, 0, Exit::ExtendedControlWrite { index: 0, value: 7 }),
            (49, 0, Exit::BrokenTables { address }),
            (9, 0, Exit::Other { code: 9 }),
        ] {
            assert_eq!(exit(reason, qualification), expected, "{reason}");
        }
        // A read and a write, as of ADD to memory.
        let access = Access::Write;
        assert_eq!(exit(48, 0b11), Exit::Memory { address, access });
    }
}
