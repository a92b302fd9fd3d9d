//! SVM exit codes (AMD APM volume 2, appendix C) into the shared exit enum: a pure function.

#![forbid(unsafe_code)]

use crate::vt::exit::{Exit, Operands};

pub use crate::vt::fields::svm::exit_code::*;

/// What the control block and the registers say after an exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawExit {
    /// EXITCODE.
    pub code: u64,
    /// EXITINFO1.
    pub info_1: u64,
    /// EXITINFO2.
    pub info_2: u64,
    /// The guest's RAX, RCX and RDX.
    pub operands: Operands,
    /// The guest's RFLAGS.
    pub rflags: u64,
    /// The guest's privilege level.
    pub privilege: u8,
}

/// Decodes an exit.
pub fn decode(raw: &RawExit) -> Exit {
    // VMEXIT_INVALID is -1: all 64 bits by the manual, the lower 32 on QEMU.
    match raw.code as u32 {
        code @ EXCEPTION_FIRST..=EXCEPTION_LAST => exception(code, raw.info_1),
        INTR => Exit::Interrupt,
        NMI => Exit::Nmi,
        CPUID => raw.operands.cpuid(),
        INVD | WBINVD => Exit::CacheFlush,
        HLT => Exit::halt(raw.rflags),
        // Bits 4 to 6 are the sizes of 1, 2 and 4 bytes; bits 0, 2 and 3 are for reads, strings,
        // repetition.
        IOIO => Exit::port(raw.info_1, (raw.info_1 >> 4) as u8 & 7, [1, 4, 8]),
        MSR if raw.info_1 & 1 == 0 => raw.operands.msr_read(),
        MSR => raw.operands.msr_write(),
        SHUTDOWN => Exit::Shutdown,
        VMMCALL => Exit::Call {
            privilege: raw.privilege,
        },
        RDPMC | WRITE_DR5 | WRITE_DR7 => Exit::RefusedInstruction,
        RSM | INVLPGA | VMRUN | VMLOAD | VMSAVE | STGI | CLGI | SKINIT | MONITOR | MWAIT
        | MWAIT_ARMED | RDPRU => Exit::ForbiddenInstruction,
        // The page-fault error code in EXITINFO1 (section 15.25.6): bit 1 write, bit 4 fetch.
        NESTED_PAGE_FAULT => Exit::memory(
            raw.info_2,
            raw.info_1 & 1 << 1 != 0,
            raw.info_1 & 1 << 4 != 0,
        ),
        INVALID => Exit::BadState,
        _ => Exit::Other { code: raw.code },
    }
}

fn exception(code: u32, error_code: u64) -> Exit {
    let vector = (code & 31) as u8;
    // Vectors that push an error code: APM volume 2, section 8.2, table 8-1.
    let has_error_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
    Exit::exception(vector, has_error_code.then_some(error_code as u32))
}

/// The length of the instruction behind an exit, for CPUs that do not save the next RIP; 0 where
/// there is no instruction to be completed.
///
/// The encodings have one length each as compilers write them; a guest that pads one with
/// prefixes continues inside its own instruction and harms only itself.
pub const fn instruction_length(code: u64) -> u64 {
    match code as u32 {
        VMMCALL => 3,
        CPUID | MSR | INVD | WBINVD => 2,
        HLT => 1,
        _ => 0,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::mem::GuestPhysical;
    use crate::vt::exit::Access;
    use crate::vt::exit_cases::{check, Happened};

    const INSTRUCTION_FETCH: u64 = 1 << 4;
    const WRITE: u64 = 1 << 1;
    /// Behind an instruction of two bytes with which a guest of `behaviour` begins.
    const NEXT_INSTRUCTION: u64 = 0x20_0002;

    /// How SVM says what has happened.
    pub fn raw(happened: &Happened) -> RawExit {
        let exit = |code: u32| RawExit {
            code: u64::from(code),
            ..RawExit::default()
        };
        let with = |code, info_1, info_2| RawExit {
            info_1,
            info_2,
            ..exit(code)
        };
        match *happened {
            Happened::Interrupt => exit(0x60),
            Happened::Nmi => exit(0x61),
            Happened::Rdpmc => exit(0x6F),
            Happened::Cpuid => exit(0x72),
            Happened::Invd => exit(0x76),
            Happened::Wbinvd => exit(0x89),
            Happened::Halt => exit(0x78),
            Happened::Call => exit(0x81),
            Happened::Vmrun => exit(0x80),
            Happened::Mwait => exit(0x8B),
            Happened::Monitor => exit(0x8A),
            Happened::Rsm => exit(0x73),
            Happened::TripleFault => exit(0x7F),
            Happened::BadState => exit(u32::MAX),
            Happened::ReadMsr => with(0x7C, 0, 0),
            Happened::WriteMsr => with(0x7C, 1, 0),
            Happened::WriteDr7 => exit(0x37),
            Happened::PortIo(access) => {
                let (read, string) = (u64::from(access.is_read), u64::from(access.is_string));
                let repeat = u64::from(access.repeats);
                // Bit 9: addresses of 64 bits. The next instruction is in EXITINFO2.
                let information = u64::from(access.port) << 16
                    | 1 << 9
                    | u64::from(access.bytes) << 4
                    | repeat << 3
                    | string << 2
                    | read;
                with(0x7B, information, NEXT_INSTRUCTION)
            }
            Happened::Exception { vector, error_code } => with(
                0x40 + u32::from(vector),
                u64::from(error_code.unwrap_or(0)),
                0,
            ),
            Happened::MissingPage {
                address,
                is_write,
                is_fetch,
            } => {
                let write = if is_write { WRITE } else { 0 };
                let fetch = if is_fetch { INSTRUCTION_FETCH } else { 0 };
                with(0x400, 1 << 32 | write | fetch, address)
            }
        }
    }

    #[test]
    fn what_happens_on_every_cpu_decodes_to_the_shared_enum() {
        check(|happened, guest| {
            let raw = RawExit {
                operands: guest.operands,
                rflags: guest.rflags,
                privilege: guest.privilege,
                ..raw(happened)
            };
            decode(&raw)
        });
    }

    #[test]
    fn what_only_this_vendor_has_decodes_too() {
        let exit = |code, info_1| {
            decode(&RawExit {
                code,
                info_1,
                ..RawExit::default()
            })
        };
        for forbidden in [0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8C, 0x8E] {
            assert_eq!(exit(forbidden, 0), Exit::ForbiddenInstruction);
        }
        assert_eq!(exit(0x35, 0), Exit::RefusedInstruction, "DR5");
        assert_eq!(exit(0xFFFF_FFFF, 0), Exit::BadState, "as QEMU says it");
        assert_eq!(exit(u64::MAX, 0), Exit::BadState);
        assert_eq!(exit(0x403, 0), Exit::Other { code: 0x403 });
        // A fault of the walk itself has bit 33 in place of bit 32.
        let walk = Exit::Memory {
            address: GuestPhysical(0),
            access: Access::Read,
        };
        assert_eq!(exit(0x400, 1 << 33), walk);
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
