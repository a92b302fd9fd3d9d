//! The suite of behaviours: what a kernel relies on, judged from within it, one file a behaviour.
//!
//! Each prints one line, `suite NAME ok` or `suite NAME FAILED: why`. The lines are the same whoever serves the
//! kernel; what they measured stands behind a `#`, and may differ.
#![forbid(unsafe_code)]

mod clock;
mod idle;
mod lateness;
mod many_threads;
mod order;
mod preemption;
mod signals;
mod stress;
mod wake_ups;

use alloc::string::String;

use crate::println;
use crate::programs::BAD_COMMAND_LINE;
use crate::shell::Code;

pub use stress::run as stress;

/// What was measured, or what is wrong.
type Judgement = Result<String, String>;

struct Behaviour {
    name: &'static str,
    judge: fn() -> Judgement,
}

const BEHAVIOURS: [Behaviour; 8] = [
    Behaviour {
        name: "clock",
        judge: clock::judge,
    },
    Behaviour {
        name: "order",
        judge: order::judge,
    },
    Behaviour {
        name: "lateness",
        judge: lateness::judge,
    },
    Behaviour {
        name: "preemption",
        judge: preemption::judge,
    },
    Behaviour {
        name: "wake-ups",
        judge: wake_ups::judge,
    },
    Behaviour {
        name: "signals",
        judge: signals::judge,
    },
    Behaviour {
        name: "idle",
        judge: idle::judge,
    },
    Behaviour {
        name: "many-threads",
        judge: many_threads::judge,
    },
];

/// Runs all behaviours, or those that are named. The exit code is the number of those that failed.
pub fn run(names: &[&str]) -> Code {
    let is_unknown = |name: &&&str| BEHAVIOURS.iter().all(|behaviour| behaviour.name != **name);
    if let Some(name) = names.iter().find(is_unknown) {
        println!("there is no behaviour {name}");
        return BAD_COMMAND_LINE;
    }
    let mut failures = 0;
    for behaviour in &BEHAVIOURS {
        if !names.is_empty() && !names.contains(&behaviour.name) {
            continue;
        }
        match (behaviour.judge)() {
            Ok(measured) => println!("suite {} ok # {measured}", behaviour.name),
            Err(why) => {
                println!("suite {} FAILED: {why}", behaviour.name);
                failures += 1;
            }
        }
    }
    failures
}

/// Waits until something is so, or for too long.
fn wait_until(what: &str, patience_ns: u64, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let give_up_ns = crate::system::now_ns() + patience_ns;
    while !is_so() {
        if crate::system::now_ns() > give_up_ns {
            return Err(alloc::format!(
                "waited {patience_ns} ns in vain until {what}"
            ));
        }
        crate::task::sleep_until(crate::system::now_ns() + LOOK_AGAIN_NS);
    }
    Ok(())
}

const LOOK_AGAIN_NS: u64 = 1_000_000;
/// How long anything may take.
const PATIENCE_NS: u64 = 20_000_000_000;

/// A thread on a CPU, or why there is none.
fn spawn_on(
    cpu: usize,
    name: &str,
    main: impl FnOnce() + Send + 'static,
) -> Result<alloc::sync::Arc<crate::task::Thread>, String> {
    crate::task::spawn_on(cpu, name, main).map_err(|_| String::from("no memory for a thread"))
}
