//! `program=spin ms=N`: computes for that many milliseconds of the system clock, without a call. 0 is for
//! ever.
//!
//! With it, manifests show who gets the CPU: what a domain has had of it stands in the report.

use super::{Context, ExitCode, GOOD};
use crate::hv::Machine;
use crate::instructions::enable_interrupts;
use crate::machine::Native;

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let end_ns = match context.number("ms", 0) {
        Ok(0) => u64::MAX,
        Ok(ms) => context
            .machine
            .now_ns()
            .saturating_add(ms.saturating_mul(1_000_000)),
        Err(code) => return code,
    };
    // On some test bed nothing stops a guest that takes no interrupts.
    enable_interrupts();
    while context.machine.now_ns() < end_ns {
        core::hint::spin_loop();
    }
    GOOD
}
