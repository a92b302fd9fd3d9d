//! Faults on the last vcpu of a domain with several, while the first sleeps; they end in an oops.
//!
//! - `secondary-page-fault`: it writes where nothing is mapped.
//! - `secondary-stack-overflow`: it has a guard page, too.
#![forbid(unsafe_code)]

use super::{memory, SURVIVED};
use crate::hv::{rest_until, Machine};
use crate::machine::{Native, Secondary};
use crate::programs::{Context, ExitCode, FAILED};

/// How long the first vcpu waits for the fault of the other one.
const PATIENCE_NS: u64 = 10_000_000_000;

pub(super) fn page_fault(context: &mut Context<'_, Native>) -> ExitCode {
    runs_on_last(context, |_| memory::touch_unmapped())
}

pub(super) fn stack_overflow(context: &mut Context<'_, Native>) -> ExitCode {
    runs_on_last(context, |_| {
        memory::descend(0);
    })
}

fn runs_on_last(context: &mut Context<'_, Native>, fault: fn(&'static Native)) -> ExitCode {
    let last = context.boot.vcpus().len().saturating_sub(1);
    let started = Secondary::prepare(last, fault).and_then(|vcpu| vcpu.start());
    if let Err(error) = started {
        // The console cannot fail; what it loses it counts itself.
        let _ = writeln!(context.out, "vcpu {last} does not start: {error}");
        return FAILED;
    }
    rest_until(context.machine, context.machine.now_ns() + PATIENCE_NS);
    SURVIVED
}
