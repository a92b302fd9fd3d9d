//! `program=checks`: the ABI as a guest sees it, in small checks.
//!
//! Prints `check <name> ok`, `check <name> FAILED: <why>`, or `check <name> skipped: <what the
//! domain would need>`. The exit code is the number of failures, at most 255.
//! Wants an event with notify and wait under one name, and memory with read.

mod calls;
mod events;
mod state;

use alloc::format;
use alloc::string::String;

use nuncio_abi::{Call, Error, RawCall};

use super::{Context, ExitCode};
use crate::hv::{Client, Gate};
use crate::machine::Native;
use crate::println;

/// What the checks look at.
struct Subject<'a> {
    machine: &'a Native,
    client: Client<'a, Native>,
}

/// Why a check did not pass.
enum Miss {
    Failed(String),
    Skipped(&'static str),
}

type Verdict = Result<(), Miss>;
type Check = fn(&Subject<'_>) -> Verdict;

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let subject = Subject {
        machine: context.machine,
        client: context.client(),
    };
    let mut failures = 0;
    let groups = [calls::CHECKS, events::CHECKS, state::CHECKS];
    for (name, check) in groups.into_iter().flatten() {
        match check(&subject) {
            Ok(()) => println!("check {name} ok"),
            Err(Miss::Skipped(what)) => println!("check {name} skipped: {what}"),
            Err(Miss::Failed(why)) => {
                println!("check {name} FAILED: {why}");
                failures += 1;
            }
        }
    }
    failures.min(255)
}

impl Subject<'_> {
    /// Makes a call that must be refused with one of these errors.
    fn refuses(&self, call: Call, errors: &[Error]) -> Verdict {
        self.refuses_raw(call.encode(), errors)
    }

    fn refuses_raw(&self, raw: RawCall, errors: &[Error]) -> Verdict {
        match self.machine.call(raw).result() {
            Err(error) if errors.contains(&error) => Ok(()),
            outcome => Err(Miss::Failed(format!(
                "{raw:x?} gives {outcome:x?}, not {errors:?}"
            ))),
        }
    }
}

/// A failure with a text, unless the condition holds.
fn ensure(condition: bool, why: impl FnOnce() -> String) -> Verdict {
    if condition {
        Ok(())
    } else {
        Err(Miss::Failed(why()))
    }
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Failed(format!("the hypervisor answers {error}"))
    }
}
