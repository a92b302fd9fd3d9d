//! Programs that misbehave, to show that the hypervisor holds and says why a domain stopped.
//!
//! Those that end by their own mistake return [`SURVIVED`] if nothing stopped them.

mod breakpoints;
mod calls_from_outside;
mod control;
mod ends;
mod flood;
mod fuzz;
pub(crate) mod memory;
mod registers;
mod secondary;
mod user_call;

use super::table::Program;
use super::ExitCode;

/// What should have ended the domain did not.
const SURVIVED: ExitCode = 99;

/// What `program=NAME` may name.
pub(super) const PROGRAMS: &[(&str, Program)] = &[
    ("triple-fault", ends::triple_fault),
    ("spin", ends::spin),
    ("spin-no-interrupts", ends::spin_no_interrupts),
    ("halt-no-interrupts", ends::halt_no_interrupts),
    ("port-io", ends::port_io),
    ("deadlock", ends::deadlock),
    ("exit-code", ends::exit_code),
    ("panic", ends::panic),
    ("bad-memory", memory::bad_memory),
    ("bad-memory-write", memory::bad_memory_write),
    ("write-readonly", memory::write_readonly),
    ("execute-noexec", memory::execute_noexec),
    ("page-fault", memory::page_fault),
    ("stack-overflow", memory::stack_overflow),
    ("secondary-page-fault", secondary::page_fault),
    ("secondary-stack-overflow", secondary::stack_overflow),
    ("invalid-opcode-call", calls_from_outside::run),
    ("user-call", user_call::run),
    ("bad-cr", control::bad_cr),
    ("msr-storm", control::msr_storm),
    ("registers", registers::run),
    ("breakpoints", breakpoints::run),
    ("flood", flood::run),
    ("call-fuzz", fuzz::run),
];
