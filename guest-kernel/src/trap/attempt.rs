//! Instructions that may fault: the fault is an answer, not an oops.
//!
//! `attempt!` notes where to go on before it runs the instructions; an exception in them continues
//! there, with the stack pointer and the segments of that moment, even if it came from CPL 3. Only the first
//! vcpu attempts anything.
// UNSAFETY: the symbols that inline assembly writes to.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::descriptor::{KERNEL_CODE, KERNEL_DATA};
use super::stubs::Frame;
use super::tables::current_vcpu;
use crate::instructions::page_fault_address;

/// Where to go on after a fault; 0 if nothing is being attempted.
pub static RESUME_RIP: AtomicU64 = AtomicU64::new(0);
/// The stack pointer with which to go on.
pub static RESUME_RSP: AtomicU64 = AtomicU64::new(0);

static VECTOR: AtomicU64 = AtomicU64::new(0);
static ERROR_CODE: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// An exception that was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The vector.
    pub vector: u64,
    /// The error code, or 0.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// CR2 at that moment.
    pub address: u64,
}

/// The vector of the invalid-opcode exception.
pub const INVALID_OPCODE: u64 = 6;
/// The vector of the general-protection exception.
pub const GENERAL_PROTECTION: u64 = 13;

/// Runs instructions that may fault; the value is the [`Fault`], if there was one.
///
/// Use inside `unsafe`: the caller promises for the instructions what `asm!` asks for.
#[macro_export]
macro_rules! attempt {
    ($($instruction:literal),+ $(; $($operands:tt)*)?) => {{
        core::arch::asm!(
            "lea {scratch}, [rip + 3f]",
            "mov [rip + {resume_rip}], {scratch}",
            "mov [rip + {resume_rsp}], rsp",
            $($instruction,)+
            "3:",
            scratch = out(reg) _,
            resume_rip = sym $crate::trap::attempt::RESUME_RIP,
            resume_rsp = sym $crate::trap::attempt::RESUME_RSP,
            $($($operands)*)?
        );
        $crate::trap::attempt::outcome()
    }};
}

/// What became of the instructions that have just been attempted.
pub fn outcome() -> Option<Fault> {
    if RESUME_RIP.swap(0, Relaxed) != 0 {
        return None;
    }
    Some(Fault {
        vector: VECTOR.load(Relaxed),
        error_code: ERROR_CODE.load(Relaxed),
        rip: RIP.load(Relaxed),
        address: ADDRESS.load(Relaxed),
    })
}

/// Sends the interrupted code to the place after the attempt; false if there is none.
pub(super) fn recover(frame: &mut Frame) -> bool {
    if current_vcpu() != 0 {
        return false;
    }
    let resume = RESUME_RIP.swap(0, Relaxed);
    if resume == 0 {
        return false;
    }
    VECTOR.store(frame.vector, Relaxed);
    ERROR_CODE.store(frame.error_code, Relaxed);
    RIP.store(frame.rip, Relaxed);
    ADDRESS.store(page_fault_address(), Relaxed);
    frame.rip = resume;
    frame.rsp = RESUME_RSP.load(Relaxed);
    frame.cs = u64::from(KERNEL_CODE);
    frame.ss = u64::from(KERNEL_DATA);
    true
}
