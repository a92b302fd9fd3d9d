//! What `test=NAME` does on bare metal: faults that must be reported well, and proofs that memory is what it
//! should be.
// UNSAFETY: accesses that are meant to fail, and a look at a device's register.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::arch::asm;
use core::ptr;

use crate::mm::active;
use crate::programs::{descend, ExitCode, BAD_COMMAND_LINE, FAILED, GOOD};
use crate::{attempt, println};

type Test = fn() -> ExitCode;

const TESTS: [(&str, Test); 8] = [
    ("panic", || {
        panic!("this panic was asked for on the command line")
    }),
    ("oops", || write_to(0)),
    ("write-text", || write_to(active::code_range().0)),
    ("execute-data", execute_data),
    ("stack-overflow", || descend(0)),
    ("interrupt", interrupt),
    ("heap", use_heap),
    ("device", read_device),
];

/// Does what `test=` names.
pub fn run(name: &str) -> ExitCode {
    if let Some((_, test)) = TESTS.iter().find(|(found, _)| *found == name) {
        return test();
    }
    println!("no test={name}; there are:{}", Names);
    BAD_COMMAND_LINE
}

struct Names;

impl core::fmt::Display for Names {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        TESTS
            .iter()
            .try_for_each(|(name, _)| write!(formatter, " {name}"))
    }
}

/// Must be an oops.
fn write_to(address: u64) -> ExitCode {
    // SAFETY: the page is not mapped or read-only, so nothing is written.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) address, options(nostack)) };
    FAILED
}

/// Must be an oops, too: a function that returns, in a variable.
fn execute_data() -> ExitCode {
    const RETURN: [u8; 1] = [0xC3];
    let code = RETURN;
    // SAFETY: no page of the stack can be executed; could it be, the call would return at once.
    unsafe { asm!("call {}", in(reg) code.as_ptr()) };
    FAILED
}

/// An interrupt that nobody takes.
fn interrupt() -> ExitCode {
    // SAFETY: it ends in an oops.
    unsafe { asm!("int 0x4D") };
    FAILED
}

/// Takes all of the heap in pieces of a MiB, and writes to both ends of each.
fn use_heap() -> ExitCode {
    const PIECE_BYTES: usize = 1 << 20;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    loop {
        let (number, mut piece) = (pieces.len() as u8, Vec::new());
        if pieces.try_reserve(1).is_err() || piece.try_reserve_exact(PIECE_BYTES).is_err() {
            break;
        }
        for end in [0, PIECE_BYTES - 1] {
            piece.spare_capacity_mut()[end].write(number);
        }
        pieces.push(piece);
    }
    let is_kept = |(number, piece): (usize, &mut Vec<u8>)| {
        [0, PIECE_BYTES - 1].iter().all(|end| {
            // SAFETY: it was written above.
            let byte = unsafe { piece.spare_capacity_mut()[*end].assume_init_read() };
            byte == number as u8
        })
    };
    let all_kept = pieces.iter_mut().enumerate().all(is_kept);
    println!("heap: {} MiB", pieces.len());
    if all_kept {
        GOOD
    } else {
        FAILED
    }
}

/// The local APIC's version (Intel SDM 3A, 10.4.8), at first where nothing is mapped.
fn read_device() -> ExitCode {
    const LOCAL_APIC: u64 = 0xFEE0_0000;
    const VERSION: usize = 0x30;
    let at = LOCAL_APIC as usize + VERSION;
    // SAFETY: a read without effects.
    let fault = unsafe { attempt!("mov eax, [{at}]"; at = in(reg) at, out("eax") _) };
    if fault.is_none() || active::map_device(LOCAL_APIC, 4096).is_err() {
        return FAILED;
    }
    // SAFETY: it is mapped now, and the read has no effects.
    let version = unsafe { ptr::with_exposed_provenance::<u32>(at).read_volatile() };
    println!("device: local APIC version {:#x}", version as u8);
    GOOD
}
