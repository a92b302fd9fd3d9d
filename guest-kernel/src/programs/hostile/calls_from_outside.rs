//! `program=invalid-opcode-call`: instructions of virtualization, used directly.
//!
//! VMCALL and VMMCALL are tried with a verb that does not exist: one of them may be the call of
//! this CPU and is answered, any other is #UD. The instructions of hypervisors are all #UD, or #GP
//! for the one that has an operand in memory. The exit code is the number of surprises.
// UNSAFETY: instructions that must not have an effect.
#![allow(unsafe_code)]

use nuncio_abi::Error;

use crate::attempt;
use crate::machine::Native;
use crate::println;
use crate::programs::{Context, ExitCode};
use crate::trap::attempt::{Fault, GENERAL_PROTECTION, INVALID_OPCODE};

const NO_VERB: u64 = 0xFFFF;

macro_rules! try_call {
    ($instruction:literal) => {{
        let mut status = NO_VERB;
        // SAFETY: an unknown verb has no effect; any fault is taken.
        let fault = unsafe {
            attempt!($instruction; inout("rax") status, in("rdi") 0u64, in("rsi") 0u64,
                in("rdx") 0u64, in("r10") 0u64, in("r8") 0u64)
        };
        (fault, status)
    }};
}

macro_rules! try_plain {
    ($instruction:literal) => {
        ($instruction, {
            // SAFETY: without a hypervisor's rights the instruction can only fault. Its operand,
            // RAX or RDI, is 0.
            unsafe {
                attempt!($instruction; inout("rax") 0u64 => _, inout("rdi") 0u64 => _,
                    inout("rcx") 0u64 => _)
            }
        })
    };
}

/// Runs the program.
pub(super) fn run(_: &mut Context<'_, Native>) -> ExitCode {
    let mut surprises = 0;
    let mut answered = 0;
    for (name, (fault, status)) in [
        ("vmcall", try_call!("vmcall")),
        ("vmmcall", try_call!("vmmcall")),
    ] {
        match fault {
            None if status == Error::UnknownVerb.number() => {
                println!("{name}: answered");
                answered += 1;
            }
            None => {
                println!("{name}: FAILED, status {status:#x}");
                surprises += 1;
            }
            Some(fault) => surprises += judge(name, Some(fault)),
        }
    }
    for (name, fault) in plain_instructions() {
        surprises += judge(name, fault);
    }
    surprises + u64::from(answered != 1)
}

fn plain_instructions() -> [(&'static str, Option<Fault>); 10] {
    [
        try_plain!("vmrun"),
        try_plain!("vmload"),
        try_plain!("vmsave"),
        try_plain!("stgi"),
        try_plain!("clgi"),
        try_plain!("skinit"),
        try_plain!("vmxoff"),
        try_plain!("vmlaunch"),
        try_plain!("vmresume"),
        try_plain!("vmread rax, rcx"),
    ]
}

fn judge(name: &str, fault: Option<Fault>) -> u64 {
    match fault.map(|fault| fault.vector) {
        Some(INVALID_OPCODE) => {
            println!("{name}: invalid opcode");
            0
        }
        Some(GENERAL_PROTECTION) => {
            println!("{name}: general protection");
            0
        }
        Some(vector) => {
            println!("{name}: FAILED, vector {vector}");
            1
        }
        None => {
            println!("{name}: FAILED, it did something");
            1
        }
    }
}
