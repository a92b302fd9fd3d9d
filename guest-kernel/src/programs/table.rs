//! The programs by name.

use super::{consumer, producer};
use super::{Context, ExitCode, BAD_COMMAND_LINE};
use crate::machine::Native;

/// A program.
type Program = fn(&mut Context<'_, Native>) -> ExitCode;

/// What `program=NAME` may name.
const PROGRAMS: &[(&str, Program)] = &[("producer", producer::run), ("consumer", consumer::run)];

/// Runs the program that the command line names.
pub fn run_by_name(context: &mut Context<'_, Native>) -> ExitCode {
    let name = context.words.value("program").unwrap_or("");
    if let Some((_, program)) = PROGRAMS.iter().find(|(found, _)| *found == name) {
        return program(context);
    }
    // The console cannot fail; what it loses it counts itself.
    let _ = write!(context.out, "no program={name}; there are:");
    for (name, _) in PROGRAMS {
        let _ = write!(context.out, " {name}");
    }
    let _ = writeln!(context.out);
    BAD_COMMAND_LINE
}
