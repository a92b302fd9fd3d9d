//! SVM exit codes (AMD APM volume 2, appendix C) into the shared exit enum: a pure function.

#![forbid(unsafe_code)]

use crate::mem::GuestPhysical;
use crate::vt::{Access, Exit};

/// What the control block and the registers say after an exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawExit {
    /// EXITCODE.
    pub code: u64,
    /// EXITINFO1.
    pub info_1: u64,
    /// EXITINFO2.
    pub info_2: u64,
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

const WRITE_DR5: u32 = 0x35;
const WRITE_DR7: u32 = 0x37;
const EXCEPTION_FIRST: u32 = 0x40;
const EXCEPTION_LAST: u32 = 0x5F;
pub const INTR: u32 = 0x60;
const NMI: u32 = 0x61;
const RDPMC: u32 = 0x6F;
const CPUID: u32 = 0x72;
const RSM: u32 = 0x73;
const INVD: u32 = 0x76;
const HLT: u32 = 0x78;
const INVLPGA: u32 = 0x7A;
const IOIO: u32 = 0x7B;
const MSR: u32 = 0x7C;
const SHUTDOWN: u32 = 0x7F;
const VMRUN: u32 = 0x80;
/// VMMCALL: the guest's call.
pub const VMMCALL: u64 = 0x81;
const VMLOAD: u32 = 0x82;
const VMSAVE: u32 = 0x83;
const STGI: u32 = 0x84;
const CLGI: u32 = 0x85;
const SKINIT: u32 = 0x86;
const WBINVD: u32 = 0x89;
const MONITOR: u32 = 0x8A;
const MWAIT: u32 = 0x8B;
const MWAIT_ARMED: u32 = 0x8C;
const RDPRU: u32 = 0x8E;
pub const NESTED_PAGE_FAULT: u32 = 0x400;
pub const INVALID: u32 = 0xFFFF_FFFF;

const MACHINE_CHECK_VECTOR: u8 = 18;
const RFLAGS_INTERRUPT: u64 = 1 << 9;

/// Decodes an exit.
pub fn decode(raw: &RawExit) -> Exit {
    // VMEXIT_INVALID is -1: all 64 bits by the manual, the lower 32 on QEMU.
    match raw.code as u32 {
        code @ EXCEPTION_FIRST..=EXCEPTION_LAST => exception(code, raw.info_1),
        INTR => Exit::Interrupt,
        NMI => Exit::Nmi,
        CPUID => Exit::Cpuid {
            leaf: raw.rax as u32,
            subleaf: raw.rcx as u32,
        },
        INVD | WBINVD => Exit::CacheFlush,
        HLT => Exit::Halt {
            interrupts_enabled: raw.rflags & RFLAGS_INTERRUPT != 0,
        },
        IOIO => Exit::Io {
            // EXITINFO1 has the port in its upper half (section 15.10.2).
            port: (raw.info_1 >> 16) as u16,
        },
        MSR => model_specific_register(raw),
        SHUTDOWN => Exit::Shutdown,
        0x81 => Exit::Call {
            privilege: raw.privilege,
        },
        RDPMC | WRITE_DR5 | WRITE_DR7 => Exit::RefusedInstruction,
        RSM | INVLPGA | VMRUN | VMLOAD | VMSAVE | STGI | CLGI | SKINIT | MONITOR | MWAIT
        | MWAIT_ARMED | RDPRU => Exit::ForbiddenInstruction,
        NESTED_PAGE_FAULT => Exit::Memory {
            address: GuestPhysical(raw.info_2),
            access: fault_access(raw.info_1),
        },
        INVALID => Exit::BadState,
        _ => Exit::Other { code: raw.code },
    }
}

/// Bytes in VMMCALL.
pub const CALL_BYTES: u64 = 3;

/// The length of the instruction behind an exit, for CPUs that do not save the next RIP; 0 where
/// there is no instruction to be completed.
///
/// The encodings have one length each as compilers write them; a guest that pads one with
/// prefixes continues inside its own instruction and harms only itself.
pub const fn instruction_length(code: u64) -> u64 {
    match code as u32 {
        0x81 => CALL_BYTES,
        CPUID | MSR | INVD | WBINVD => 2,
        HLT => 1,
        _ => 0,
    }
}

fn exception(code: u32, error_code: u64) -> Exit {
    let vector = (code & 31) as u8;
    if vector == MACHINE_CHECK_VECTOR {
        return Exit::MachineCheck;
    }
    // Vectors that push an error code: APM volume 2, section 8.2, table 8-1.
    let has_error_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
    Exit::Exception {
        vector,
        error_code: has_error_code.then_some(error_code as u32),
    }
}

fn model_specific_register(raw: &RawExit) -> Exit {
    let index = raw.rcx as u32;
    if raw.info_1 & 1 == 0 {
        Exit::MsrRead { index }
    } else {
        Exit::MsrWrite {
            index,
            value: (raw.rdx << 32) | (raw.rax & 0xFFFF_FFFF),
        }
    }
}

/// The page-fault error code in EXITINFO1 (section 15.25.6): bit 1 write, bit 4 fetch.
const fn fault_access(error: u64) -> Access {
    if error & 1 << 4 != 0 {
        Access::Execute
    } else if error & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every exit that this hypervisor asks for, with the answer all vendors must give.
    #[test]
    fn exits_decode_to_the_shared_enum() {
        let raw = |code| RawExit {
            code,
            ..RawExit::default()
        };
        let cases = [
            (raw(0x60), Exit::Interrupt),
            (raw(0x61), Exit::Nmi),
            (
                RawExit {
                    rax: 0xFFFF_FFFF_8000_0001,
                    rcx: 7,
                    ..raw(0x72)
                },
                Exit::Cpuid {
                    leaf: 0x8000_0001,
                    subleaf: 7,
                },
            ),
            (
                RawExit {
                    rflags: 0x202,
                    ..raw(0x78)
                },
                Exit::Halt {
                    interrupts_enabled: true,
                },
            ),
            (
                raw(0x78),
                Exit::Halt {
                    interrupts_enabled: false,
                },
            ),
            (
                RawExit {
                    info_1: 0x03F8_0011,
                    ..raw(0x7B)
                },
                Exit::Io { port: 0x3F8 },
            ),
            (
                RawExit {
                    rcx: 0xC000_0080,
                    ..raw(0x7C)
                },
                Exit::MsrRead { index: 0xC000_0080 },
            ),
            (
                RawExit {
                    info_1: 1,
                    rcx: 0x10,
                    rax: 0xFFFF_FFFF_0000_0002,
                    rdx: 1,
                    ..raw(0x7C)
                },
                Exit::MsrWrite {
                    index: 0x10,
                    value: 0x1_0000_0002,
                },
            ),
            (raw(0x7F), Exit::Shutdown),
            (
                RawExit {
                    privilege: 3,
                    ..raw(0x81)
                },
                Exit::Call { privilege: 3 },
            ),
            (raw(0x80), Exit::ForbiddenInstruction),
            (raw(0x8B), Exit::ForbiddenInstruction),
            (raw(0x8E), Exit::ForbiddenInstruction),
            (raw(0x37), Exit::RefusedInstruction),
            (raw(0x6F), Exit::RefusedInstruction),
            (raw(0x76), Exit::CacheFlush),
            (raw(0x89), Exit::CacheFlush),
            (
                raw(0x41),
                Exit::Exception {
                    vector: 1,
                    error_code: None,
                },
            ),
            (
                RawExit {
                    info_1: 4,
                    ..raw(0x51)
                },
                Exit::Exception {
                    vector: 17,
                    error_code: Some(4),
                },
            ),
            (raw(0x52), Exit::MachineCheck),
            (raw(u64::MAX), Exit::BadState),
            (raw(0xFFFF_FFFF), Exit::BadState),
            (raw(0x403), Exit::Other { code: 0x403 }),
        ];
        for (raw, exit) in cases {
            assert_eq!(decode(&raw), exit, "{raw:?}");
        }
    }

    #[test]
    fn a_nested_fault_says_how_memory_was_touched() {
        let cases = [
            (1 << 32, Access::Read),
            (1 << 33, Access::Read),
            (1 << 32 | 1 << 1, Access::Write),
            (1 << 32 | 1 << 4, Access::Execute),
        ];
        for (info_1, access) in cases {
            let exit = decode(&RawExit {
                code: 0x400,
                info_1,
                info_2: 0x1234_5678,
                ..RawExit::default()
            });
            let address = GuestPhysical(0x1234_5678);
            assert_eq!(exit, Exit::Memory { address, access });
        }
    }

    #[test]
    fn lengths_are_those_of_the_encodings() {
        let lengths = [
            (0x81, 3),
            (0x72, 2),
            (0x7C, 2),
            (0x89, 2),
            (0x78, 1),
            (0x60, 0),
        ];
        for (code, length) in lengths {
            assert_eq!(instruction_length(code), length, "{code:#x}");
        }
    }
}
