//! Exits that go to a monitor, and what a monitor answers: three words each.
//!
//! They are x86-64's and belong to the binding. A vcpu with a port gets them as messages of 24 bytes
//! and as the answers to them; [`crate::Call::Run`] has them in its registers.

use core::fmt;

use crate::table::abi_table;
use crate::{Error, Rights};

abi_table! {
    /// Why a vcpu needs its monitor.
    pub enum ExitKind {
        0 Port "port" "It used an I/O port.",
        1 Memory "memory" "It touched memory that it was not given.",
        2 MsrRead "msr-read" "It read a model-specific register that costs an exit.",
        3 MsrWrite "msr-write" "It wrote a model-specific register that costs an exit.",
        4 Cpuid "cpuid" "It executed CPUID.",
        5 Halt "halt" "It executed HLT.",
        6 Call "call" "It executed the call instruction.",
        7 Exception "exception" "It raised an exception that its monitor wants to see.",
        8 Shutdown "shutdown" "It faulted while its CPU delivered a double fault.",
        9 Refused "refused" "The CPU refuses to run the state that it has.",
        10 Recalled "recalled" "Somebody has stopped it, or its runner has an event.",
    }
}

impl ExitKind {
    /// Its bit in the word of the state page that says which exits go to the monitor.
    pub const fn bit(self) -> u64 {
        1 << self.number()
    }

    /// Whether there is an instruction that the monitor can complete in the vcpu's stead.
    pub const fn has_instruction(self) -> bool {
        match self {
            ExitKind::Port
            | ExitKind::MsrRead
            | ExitKind::MsrWrite
            | ExitKind::Cpuid
            | ExitKind::Halt
            | ExitKind::Call => true,
            ExitKind::Memory
            | ExitKind::Exception
            | ExitKind::Shutdown
            | ExitKind::Refused
            | ExitKind::Recalled => false,
        }
    }
}

/// Words of an exit, and of an answer to one.
pub const EXIT_WORDS: usize = 3;

/// Why a vcpu needs its monitor, with what belongs to it.
///
/// ```
/// use nuncio_abi::{ExitKind, VcpuExit};
///
/// let exit = VcpuExit::from_words([0x0101_0000, 0x3FD, 0x20_1000]).unwrap();
/// assert_eq!(exit.kind(), ExitKind::Port);
/// assert!(matches!(exit, VcpuExit::Port { port: 0x3FD, bytes: 1, is_input: true, .. }));
/// assert_eq!(exit.to_words(), [0x0101_0000, 0x3FD, 0x20_1000]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuExit {
    /// An I/O port was read or written.
    Port {
        /// The port.
        port: u16,
        /// Bytes that go through it at a time: 1, 2 or 4.
        bytes: u8,
        /// Whether it is read.
        is_input: bool,
        /// Whether the bytes go to or from memory (INS, OUTS).
        is_string: bool,
        /// Whether the instruction has a repeat prefix.
        repeats: bool,
        /// What is written by OUT; the instruction pointer else.
        value: u64,
    },
    /// Memory that is not mapped, or not with that right.
    Memory {
        /// The guest-physical address.
        address: u64,
        /// Read, write or execute.
        access: Rights,
        /// The instruction pointer.
        instruction: u64,
    },
    /// RDMSR.
    MsrRead {
        /// The number of the register.
        index: u32,
        /// The instruction pointer.
        instruction: u64,
    },
    /// WRMSR.
    MsrWrite {
        /// The number of the register.
        index: u32,
        /// What is written.
        value: u64,
    },
    /// CPUID.
    Cpuid {
        /// EAX.
        leaf: u32,
        /// ECX.
        subleaf: u32,
        /// The instruction pointer.
        instruction: u64,
    },
    /// HLT.
    Halt {
        /// Whether RFLAGS.IF is 1.
        interrupts_enabled: bool,
        /// The instruction pointer.
        instruction: u64,
    },
    /// The call instruction.
    Call {
        /// The privilege level, 0 to 3.
        privilege: u8,
        /// RAX.
        verb: u64,
        /// The instruction pointer.
        instruction: u64,
    },
    /// An exception.
    Exception {
        /// Its vector, 0 to 31.
        vector: u8,
        /// Its error code, if it has one.
        error_code: Option<u32>,
        /// The guest-virtual address of a page fault, which is not in CR2; 0 for others.
        address: u64,
        /// The instruction pointer.
        instruction: u64,
    },
    /// A triple fault.
    Shutdown {
        /// The instruction pointer.
        instruction: u64,
    },
    /// The CPU refuses the state.
    Refused {
        /// The instruction pointer.
        instruction: u64,
    },
    /// It was stopped between two instructions.
    Recalled {
        /// The instruction pointer.
        instruction: u64,
    },
}

const FIRST_DETAIL: u32 = 16;
const BYTES_MASK: u64 = 0xFF;
const INPUT: u64 = 1 << 24;
const STRING: u64 = 1 << 25;
const REPEATS: u64 = 1 << 26;
const INTERRUPTS_ENABLED: u64 = 1 << 16;
const HAS_ERROR_CODE: u64 = 1 << 24;

const fn flag(is_set: bool, bit: u64) -> u64 {
    if is_set {
        bit
    } else {
        0
    }
}

impl VcpuExit {
    /// Its kind.
    pub const fn kind(&self) -> ExitKind {
        match self {
            VcpuExit::Port { .. } => ExitKind::Port,
            VcpuExit::Memory { .. } => ExitKind::Memory,
            VcpuExit::MsrRead { .. } => ExitKind::MsrRead,
            VcpuExit::MsrWrite { .. } => ExitKind::MsrWrite,
            VcpuExit::Cpuid { .. } => ExitKind::Cpuid,
            VcpuExit::Halt { .. } => ExitKind::Halt,
            VcpuExit::Call { .. } => ExitKind::Call,
            VcpuExit::Exception { .. } => ExitKind::Exception,
            VcpuExit::Shutdown { .. } => ExitKind::Shutdown,
            VcpuExit::Refused { .. } => ExitKind::Refused,
            VcpuExit::Recalled { .. } => ExitKind::Recalled,
        }
    }

    /// The three words: what happened, where, and the value or the instruction pointer.
    pub const fn to_words(self) -> [u64; EXIT_WORDS] {
        let kind = self.kind().number();
        match self {
            VcpuExit::Port {
                port,
                bytes,
                is_input,
                is_string,
                repeats,
                value,
            } => {
                let flags =
                    flag(is_input, INPUT) | flag(is_string, STRING) | flag(repeats, REPEATS);
                let first = kind | (bytes as u64) << FIRST_DETAIL | flags;
                [first, port as u64, value]
            }
            VcpuExit::Memory {
                address,
                access,
                instruction,
            } => [kind | access.bits() << FIRST_DETAIL, address, instruction],
            VcpuExit::MsrRead { index, instruction } => [kind, index as u64, instruction],
            VcpuExit::MsrWrite { index, value } => [kind, index as u64, value],
            VcpuExit::Cpuid {
                leaf,
                subleaf,
                instruction,
            } => [kind, leaf as u64 | (subleaf as u64) << 32, instruction],
            VcpuExit::Halt {
                interrupts_enabled,
                instruction,
            } => [
                kind | flag(interrupts_enabled, INTERRUPTS_ENABLED),
                0,
                instruction,
            ],
            VcpuExit::Call {
                privilege,
                verb,
                instruction,
            } => [kind | (privilege as u64) << FIRST_DETAIL, verb, instruction],
            VcpuExit::Exception {
                vector,
                error_code,
                address,
                instruction,
            } => {
                let code = match error_code {
                    Some(code) => HAS_ERROR_CODE | (code as u64) << 32,
                    None => 0,
                };
                let first = kind | (vector as u64) << FIRST_DETAIL | code;
                [first, address, instruction]
            }
            VcpuExit::Shutdown { instruction }
            | VcpuExit::Refused { instruction }
            | VcpuExit::Recalled { instruction } => [kind, 0, instruction],
        }
    }

    /// What three words say; `None` if no hypervisor writes them so.
    pub fn from_words(words: [u64; EXIT_WORDS]) -> Option<Self> {
        let [first, second, third] = words;
        let exit = match ExitKind::from_number(first & 0xFF)? {
            ExitKind::Port => VcpuExit::Port {
                port: second as u16,
                bytes: (first >> FIRST_DETAIL & BYTES_MASK) as u8,
                is_input: first & INPUT != 0,
                is_string: first & STRING != 0,
                repeats: first & REPEATS != 0,
                value: third,
            },
            ExitKind::Memory => VcpuExit::Memory {
                address: second,
                access: Rights::from_bits(first >> FIRST_DETAIL)?,
                instruction: third,
            },
            ExitKind::MsrRead => VcpuExit::MsrRead {
                index: second as u32,
                instruction: third,
            },
            ExitKind::MsrWrite => VcpuExit::MsrWrite {
                index: second as u32,
                value: third,
            },
            ExitKind::Cpuid => VcpuExit::Cpuid {
                leaf: second as u32,
                subleaf: (second >> 32) as u32,
                instruction: third,
            },
            ExitKind::Halt => VcpuExit::Halt {
                interrupts_enabled: first & INTERRUPTS_ENABLED != 0,
                instruction: third,
            },
            ExitKind::Call => VcpuExit::Call {
                privilege: (first >> FIRST_DETAIL & 3) as u8,
                verb: second,
                instruction: third,
            },
            ExitKind::Exception => VcpuExit::Exception {
                vector: (first >> FIRST_DETAIL & 31) as u8,
                error_code: (first & HAS_ERROR_CODE != 0).then_some((first >> 32) as u32),
                address: second,
                instruction: third,
            },
            ExitKind::Shutdown => VcpuExit::Shutdown { instruction: third },
            ExitKind::Refused => VcpuExit::Refused { instruction: third },
            ExitKind::Recalled => VcpuExit::Recalled { instruction: third },
        };
        (exit.to_words() == words).then_some(exit)
    }
}

abi_table! {
    /// What becomes of the instruction that has caused an exit.
    pub enum ResumeAction {
        0 Go "go" "The vcpu goes on where its instruction pointer is: the instruction is executed once more.",
        1 Complete "complete" "The instruction is done: its results are written and the vcpu goes on behind it.",
    }
}

/// Something that arrives at a vcpu when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// An interrupt with that vector, as soon as the vcpu takes one.
    Interrupt(u8),
    /// An exception, before the next instruction.
    Exception {
        /// Its vector.
        vector: u8,
        /// Its error code: exactly if the vector is 8, 10 to 14 or 17.
        error_code: Option<u32>,
    },
}

/// A monitor's answer to an exit: how the vcpu goes on.
///
/// ```
/// use nuncio_abi::{Arrival, Resume};
///
/// // A byte for IN, and the interrupt of a timer.
/// let resume = Resume::complete(0x61).with(Arrival::Interrupt(0x20));
/// assert_eq!(resume.to_words(), [0x1_2001, 0x61, 0]);
/// assert_eq!(Resume::from_words([0x1_2001, 0x61, 0]), Ok(resume));
/// assert_eq!(resume.to_string(), "complete+interrupt:0x20");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Action and arrival, as they stand in a register.
    first: u64,
    results: [u64; 2],
}

const ACTION_MASK: u64 = 0xFF;
const VECTOR_SHIFT: u32 = 8;
const INTERRUPT: u64 = 1 << 16;
const EXCEPTION: u64 = 1 << 17;
const WITH_ERROR_CODE: u64 = 1 << 18;

/// Exceptions that can arrive: all that name a fault of the guest, and no NMI (2) or machine check
/// (18).
const EXCEPTIONS: u32 = 0b1011_0111_1101_1111_1011;
/// Those of them that have an error code.
const EXCEPTIONS_WITH_CODE: u32 = 1 << 8 | 0b1_1111 << 10 | 1 << 17;

impl Resume {
    /// Executes the instruction once more.
    pub const GO: Resume = Resume {
        first: ResumeAction::Go.number(),
        results: [0; 2],
    };

    /// Goes on behind the instruction, with that result.
    pub const fn complete(result: u64) -> Self {
        Self::complete_with([result, 0])
    }

    /// Goes on behind the instruction, with these results: for CPUID EAX and EBX in the first, ECX and
    /// EDX in the second, the former of each pair in the lower half. Other instructions have one at
    /// most: what IN or RDMSR reads, RAX after a call.
    pub const fn complete_with(results: [u64; 2]) -> Self {
        Resume {
            first: ResumeAction::Complete.number(),
            results,
        }
    }

    /// The same, and that arrives; whether it can is for the hypervisor to say.
    pub const fn with(self, arrival: Arrival) -> Self {
        let arrival = match arrival {
            Arrival::Interrupt(vector) => INTERRUPT | (vector as u64) << VECTOR_SHIFT,
            Arrival::Exception { vector, error_code } => {
                let code = match error_code {
                    Some(code) => WITH_ERROR_CODE | (code as u64) << 32,
                    None => 0,
                };
                EXCEPTION | (vector as u64) << VECTOR_SHIFT | code
            }
        };
        Resume {
            first: self.first & ACTION_MASK | arrival,
            ..self
        }
    }

    /// What becomes of the instruction.
    pub const fn action(self) -> ResumeAction {
        match self.first & ACTION_MASK {
            0 => ResumeAction::Go,
            _ => ResumeAction::Complete,
        }
    }

    /// What arrives.
    pub const fn arrival(self) -> Option<Arrival> {
        let vector = (self.first >> VECTOR_SHIFT) as u8;
        let error_code = match self.first & WITH_ERROR_CODE {
            0 => None,
            _ => Some((self.first >> 32) as u32),
        };
        match self.first & (INTERRUPT | EXCEPTION) {
            INTERRUPT => Some(Arrival::Interrupt(vector)),
            EXCEPTION => Some(Arrival::Exception { vector, error_code }),
            _ => None,
        }
    }

    /// The results of the instruction.
    pub const fn results(self) -> [u64; 2] {
        self.results
    }

    /// The answer as three words.
    pub const fn to_words(self) -> [u64; EXIT_WORDS] {
        let [first, second] = self.results;
        [self.first, first, second]
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// `BadArgument` for a reserved bit, an action that does not exist, or an exception that cannot
    /// arrive or not so.
    pub fn from_words(words: [u64; EXIT_WORDS]) -> Result<Self, Error> {
        let [first, results @ ..] = words;
        let action = ResumeAction::from_number(first & ACTION_MASK).ok_or(Error::BadArgument)?;
        let read = Resume { first, results };
        let again = Resume {
            first: action.number(),
            results,
        };
        // What would be written otherwise has a bit where none belongs.
        let again = read.arrival().map_or(again, |arrival| again.with(arrival));
        let can_arrive = match read.arrival() {
            Some(Arrival::Exception { vector, error_code }) => {
                exception_has(vector, error_code.is_some())
            }
            Some(Arrival::Interrupt(_)) | None => true,
        };
        if again == read && can_arrive {
            Ok(read)
        } else {
            Err(Error::BadArgument)
        }
    }
}

/// `complete+interrupt:0x20`; the results are not in it.
impl fmt::Display for Resume {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.action())?;
        match self.arrival() {
            None => Ok(()),
            Some(Arrival::Interrupt(vector)) => write!(formatter, "+interrupt:{vector:#x}"),
            Some(Arrival::Exception { vector, error_code }) => {
                write!(formatter, "+exception:{vector}")?;
                error_code.map_or(Ok(()), |code| write!(formatter, ":{code:#x}"))
            }
        }
    }
}

/// Whether there is such an exception, with or without an error code.
const fn exception_has(vector: u8, error_code: bool) -> bool {
    let bit = match 1u32.checked_shl(vector as u32) {
        Some(bit) => bit,
        None => return false,
    };
    EXCEPTIONS & bit != 0 && (EXCEPTIONS_WITH_CODE & bit != 0) == error_code
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_words_say_is_written_as_the_same_words(kind in 0u64..12, rest: u64, second: u64, third: u64) {
            let words = [kind | rest << 16, second, third];
            if let Some(exit) = VcpuExit::from_words(words) {
                prop_assert_eq!(exit.to_words(), words);
                prop_assert_eq!(exit.kind().number(), kind);
            }
            if let Ok(resume) = Resume::from_words(words) {
                prop_assert_eq!(resume.to_words(), words);
            }
        }
    }

    #[test]
    fn only_exceptions_of_a_guest_arrive_and_with_their_error_code() {
        let arrives = |vector: u64, code: u64| {
            Resume::from_words([EXCEPTION | vector << VECTOR_SHIFT | code, 0, 0]).is_ok()
        };
        for vector in 0..=255u64 {
            let exists = matches!(vector, 0 | 1 | 3..=8 | 10..=14 | 16 | 17 | 19);
            let has_code = matches!(vector, 8 | 10..=14 | 17);
            assert_eq!(arrives(vector, 0), exists && !has_code, "{vector}");
            assert_eq!(
                arrives(vector, WITH_ERROR_CODE | 5 << 32),
                has_code,
                "{vector}"
            );
        }
        assert!(!arrives(13, 5 << 32), "an error code that is not announced");
    }

    #[test]
    fn an_answer_has_no_stray_bits() {
        for word in [
            2,
            1 << 8,
            1 << 19,
            1 << 32,
            INTERRUPT | EXCEPTION,
            INTERRUPT | WITH_ERROR_CODE,
        ] {
            assert_eq!(
                Resume::from_words([word, 0, 0]),
                Err(Error::BadArgument),
                "{word:#x}"
            );
        }
    }

    #[test]
    fn each_kind_has_a_bit() {
        let all = ExitKind::ALL.iter().fold(0, |bits, kind| bits | kind.bit());
        assert_eq!(all, (1 << ExitKind::ALL.len()) - 1);
    }
}
