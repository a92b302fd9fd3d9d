//! Faults on demand: a word `test=...` on the command line provokes one after set-up, so that boot
//! tests can check the panic report, the guard pages and the page permissions.
//!
//! | word | what happens | what the report must say |
//! | --- | --- | --- |
//! | `test=panic` | a Rust panic | the message with file and line |
//! | `test=page-fault` | a read where nothing is mapped | page fault, the address |
//! | `test=null` | a read at address 8 | page fault, the null page is unmapped |
//! | `test=stack-overflow` | endless recursion | stack overflow |
//! | `test=write-text` | a write to the hypervisor's code | page fault, write, protection |
//! | `test=write-constant` | a write to a constant | page fault, write, protection |
//! | `test=execute-data` | a call into the heap | page fault, instruction fetch |
//! | `test=invalid-opcode` | an instruction that does not exist | invalid opcode |
//! | `test=fault-fix-up` | an XSETBV that must fault | nothing: the fault is caught, and the machine goes on |

// UNSAFETY: the point of this module is to break the rules that page tables must enforce.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::hint::black_box;

use crate::cpu::extended_state;

/// Nobody's address: canonical, and far above what is mapped.
const UNMAPPED: u64 = 0x0000_5EAD_0000_0000;

/// Runs the self test that the command line asks for, if any. All but one end the run.
pub fn run(command_line: &str) {
    let test = command_line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("test="));
    match test {
        None => {}
        Some("panic") => panic!("this panic was asked for on the command line"),
        Some("page-fault") => read(UNMAPPED),
        Some("null") => read(8),
        Some("stack-overflow") => {
            black_box(recurse(black_box(1)));
        }
        Some("write-text") => write(run as *const () as u64),
        Some("write-constant") => write((&raw const CONSTANT) as u64),
        Some("execute-data") => execute_data(),
        Some("invalid-opcode") => invalid_opcode(),
        Some("fault-fix-up") => fault_fix_up(),
        Some(other) => log::warn!("there is no self test '{other}'"),
    }
    if let Some(test) = test {
        log::warn!("self test '{test}' has ended and the machine still runs");
    }
}

static CONSTANT: u64 = 1;

fn read(address: u64) {
    let pointer = address as *const u64;
    // SAFETY: not safe, and meant so: the page fault ends the run. If there were none, the value
    // would be dropped.
    black_box(unsafe { pointer.read_volatile() });
}

fn write(address: u64) {
    let pointer = address as *mut u8;
    // SAFETY: not safe, and meant so: the page fault ends the run before anything is changed.
    unsafe { pointer.write_volatile(0xCC) };
}

#[expect(
    unconditional_recursion,
    reason = "the guard page under the stack ends it"
)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    recurse(depth + 1) + frame[0]
}

fn execute_data() {
    // 0xC3 is RET: if the page were executable, the call would come back.
    let code = Box::new([0xC3u8; 16]);
    let address = (&raw const *code).cast::<()>();
    // SAFETY: not safe, and meant so: the page fault ends the run. Were the page executable, RET
    // would be a valid function without arguments.
    let function = unsafe { core::mem::transmute::<*const (), extern "C" fn()>(address) };
    function();
}

fn invalid_opcode() {
    // SAFETY: UD2 touches nothing; the exception ends the run.
    unsafe { core::arch::asm!("ud2", options(nomem, nostack)) };
}

fn fault_fix_up() {
    // XCR0 bit 0 cannot be cleared (Intel SDM vol. 1, 13.3).
    match extended_state::try_write_xcr0(0) {
        Some(()) => panic!("XSETBV of 0 did not fault"),
        None => log::info!("the fault was fixed up"),
    }
}
