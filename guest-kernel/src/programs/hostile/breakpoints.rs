//! `program=breakpoints`: hardware breakpoints on addresses where the hypervisor's own code may lie.
//!
//! A CPU that kept them armed across an exit would stop the hypervisor. Prints for each way of
//! arming them whether it was #GP; the exit code is the number of ways that worked.
// UNSAFETY: writes to debug registers.
#![allow(unsafe_code)]

use crate::attempt;
use crate::machine::Native;
use crate::println;
use crate::programs::{Context, ExitCode};
use crate::trap::attempt::{Fault, GENERAL_PROTECTION};

/// All four breakpoints, on instruction fetches, global and local.
const ARM_ALL: u64 = 0x4FF;

/// Where hypervisors are linked.
const FIRST_ADDRESS: u64 = 0x10_0000;

/// Runs the program.
pub(super) fn run(_: &mut Context<'_, Native>) -> ExitCode {
    for offset in (0..0x4_0000).step_by(0x40) {
        aim(FIRST_ADDRESS + offset);
        // SAFETY: the addresses are no code of this kernel's; a fault is taken.
        let armed = unsafe { attempt!("mov dr7, rax"; in("rax") ARM_ALL) };
        if armed.is_none() {
            return tell("dr7", armed);
        }
    }
    // SAFETY: as above. DR5 is another name of DR7 while CR4.DE is off.
    let alias = unsafe { attempt!("mov dr5, rax"; in("rax") ARM_ALL) };
    tell("dr5", alias)
}

fn aim(address: u64) {
    // SAFETY: addresses without DR7 stop nobody; a fault is taken.
    unsafe {
        let _ = attempt!("mov dr0, rax"; in("rax") address);
        let _ = attempt!("mov dr1, rax"; in("rax") address + 0x10);
        let _ = attempt!("mov dr2, rax"; in("rax") address + 0x20);
        let _ = attempt!("mov dr3, rax"; in("rax") address + 0x30);
    }
}

fn tell(name: &str, fault: Option<Fault>) -> ExitCode {
    let refused = fault.is_some_and(|fault| fault.vector == GENERAL_PROTECTION);
    println!(
        "breakpoints through {name}: {}",
        if refused { "refused" } else { "FAILED" }
    );
    ExitCode::from(!refused)
}
