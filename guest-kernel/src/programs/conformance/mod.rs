//! `program=conformance`: every verb, every error that the specification lists for it, every right
//! and every boundary, judged from the place of a guest.
//!
//! Prints `conformance <verb> <error or behaviour> <case> ok` or `... FAILED: <why>`, and a last
//! line with counts. The exit code is the number of failures. Nothing here depends on how a
//! hypervisor does what it does, on what a call costs, or on more about time than the specification
//! promises: whoever implements the ABI is judged by the same program, and its output is the same
//! everywhere.
//!
//! Wants two domains that run `program=partner` and the wires of
//! `tools/manifests/conformance.toml`. One file a verb; [`tables`] names all cases, also to the
//! test that compares them with the tables of errors in the specification.
#![forbid(unsafe_code)]

mod arm;
#[cfg(feature = "bare-metal")]
mod binding;
mod call;
mod child;
mod close;
mod counting;
mod create;
mod exits;
mod fresh;
mod full;
mod grant;
mod handles;
mod hello;
mod limits;
mod map;
mod mappings;
mod messages;
#[cfg(feature = "bare-metal")]
mod native;
mod notify;
mod orders;
pub mod partner;
mod query;
mod reach;
mod receive;
mod reply;
mod run;
mod run_state;
mod send;
mod snapshot;
mod start;
mod stop;
mod subject;
mod submit;
mod throttling;
mod transfers;
mod unmap;
mod verbs;
mod wait;
mod waiting;

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use nuncio_abi::{BootInfo, Error};

pub use reach::{OutOfReach, OUT_OF_REACH};
pub use subject::{Ground, Subject};

/// What is said of a case that failed.
pub type Verdict = Result<(), String>;

/// One thing that the specification promises.
pub struct Case {
    /// What it shows.
    pub shows: Shows,
    /// Tells it from other cases that show the same.
    pub name: &'static str,
    run: fn(&Subject<'_>) -> Verdict,
}

/// What a case shows of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// An error, and which of the places it is where the verb's table has that error, from 0.
    Error(Error, usize),
    /// Something else.
    Behaviour,
}

/// All cases of a verb.
pub struct Table {
    /// The name of the verb, or of a part of the binding.
    pub of: &'static str,
    /// The cases, in the order in which they run.
    pub cases: &'static [Case],
}

const fn error(
    error: Error,
    place: usize,
    name: &'static str,
    run: fn(&Subject<'_>) -> Verdict,
) -> Case {
    Case {
        shows: Shows::Error(error, place),
        name,
        run,
    }
}

const fn behaviour(name: &'static str, run: fn(&Subject<'_>) -> Verdict) -> Case {
    Case {
        shows: Shows::Behaviour,
        name,
        run,
    }
}

/// The cases by verb, in the order in which they run.
pub const fn tables() -> &'static [Table] {
    &[
        fresh::TABLE,
        verbs::TABLE,
        hello::TABLE,
        send::TABLE,
        receive::TABLE,
        notify::TABLE,
        wait::TABLE,
        counting::TABLE,
        throttling::TABLE,
        map::TABLE,
        unmap::TABLE,
        close::TABLE,
        query::TABLE,
        create::TABLE,
        grant::TABLE,
        arm::TABLE,
        call::TABLE,
        reply::TABLE,
        start::TABLE,
        run::TABLE,
        exits::TABLE,
        run_state::TABLE,
        limits::TABLE,
        stop::TABLE,
        submit::TABLE,
        #[cfg(feature = "bare-metal")]
        binding::TABLE,
    ]
}

#[cfg(feature = "bare-metal")]
pub use native::run;

/// Runs every case and gives the number of failures.
pub fn judge(ground: &dyn Ground, boot: &BootInfo, out: &mut dyn Write) -> u64 {
    let subject = Subject::new(ground, boot);
    let (mut cases, mut failures) = (0u64, 0u64);
    for table in tables() {
        for case in table.cases {
            let verdict = subject.judge(case);
            cases += 1;
            let shows = match case.shows {
                Shows::Error(error, _) => error.name(),
                Shows::Behaviour => "behaviour",
            };
            let line = format!("conformance {} {shows} {}", table.of, case.name);
            // The console cannot fail; what it loses it counts itself.
            let _ = match verdict {
                Ok(()) => writeln!(out, "{line} ok"),
                Err(why) => {
                    failures += 1;
                    writeln!(out, "{line} FAILED: {why}")
                }
            };
        }
    }
    let _ = writeln!(out, "conformance: {cases} cases, {failures} failures");
    failures
}

/// Fails with a reason unless that holds.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(why())
    }
}

/// Fails unless both are equal.
fn equal<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    ensure(found == expected, || {
        format!("{what}: {found:x?} instead of {expected:x?}")
    })
}
