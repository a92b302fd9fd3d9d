//! The programs by name.

use super::producer;
use super::{
    bench, borrower, children, clock, conformance, consumer, echo, hostile, lender, monitor, nomad,
    punctual, smp, soak, spin, timers, worker,
};
use super::{Context, ExitCode, BAD_COMMAND_LINE};
use crate::machine::Native;

/// A program.
pub(super) type Program = fn(&mut Context<'_, Native>) -> ExitCode;

/// What `program=NAME` may name, besides the hostile ones.
const PROGRAMS: [(&str, Program); 21] = [
    ("producer", producer::run),
    ("consumer", consumer::run),
    ("echo", echo::run),
    ("clock", clock::run),
    ("clock-server", clock::serve),
    ("timers", timers::run),
    ("quiet", timers::quiet),
    ("bench", bench::run),
    ("children", children::run),
    ("nomad", nomad::run),
    ("lender", lender::run),
    ("borrower", borrower::run),
    ("monitor", monitor::run),
    ("spin", spin::run),
    ("punctual", punctual::run),
    ("worker", worker::run),
    ("caller", worker::call),
    ("smp", smp::run),
    ("conformance", conformance::run),
    ("partner", conformance::partner::run),
    ("soak", soak::run),
];

/// Runs the program that the command line names.
pub fn run_by_name(context: &mut Context<'_, Native>) -> ExitCode {
    let name = context.words.value("program").unwrap_or("");
    let programs = || PROGRAMS.iter().chain(hostile::PROGRAMS);
    if let Some((_, program)) = programs().find(|(found, _)| *found == name) {
        return program(context);
    }
    // The console cannot fail; what it loses it counts itself.
    let _ = write!(context.out, "no program={name}; there are:");
    for (name, _) in programs() {
        let _ = write!(context.out, " {name}");
    }
    let _ = writeln!(context.out);
    BAD_COMMAND_LINE
}
