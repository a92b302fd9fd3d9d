//! Hostile guests: each runs beside a healthy producer and consumer, which must deliver the right
//! digest whatever it does, and its own end must be in the report.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{noise, Run};

pub const SCENARIOS: &[Scenario] = &[("shown_with_source_line", shown_with_source_line)];

/// A program of the guest kernel that does what no good guest does.
pub struct Hostile {
    /// What the command line says after `program=`.
    pub program: &'static str,
    ends: Ends,
}

/// How a hostile guest ends.
#[derive(Clone, Copy)]
enum Ends {
    /// It is stopped for this reason, and the run fails because of it.
    Stopped(&'static str),
    /// It exits with this code by itself: all it tried was refused.
    Exited(u64),
    /// The CPU refuses what it does, and it exits with 0; where the CPU takes it, the guest is
    /// stopped for this reason at its next entry.
    Refused(&'static str),
    /// It never ends, runs in the background and is stopped with the others.
    Never,
}

const fn stopped(program: &'static str, reason: &'static str) -> Hostile {
    Hostile {
        program,
        ends: Ends::Stopped(reason),
    }
}

const fn exits(program: &'static str, code: u64) -> Hostile {
    Hostile {
        program,
        ends: Ends::Exited(code),
    }
}

const fn never(program: &'static str) -> Hostile {
    Hostile {
        program,
        ends: Ends::Never,
    }
}

pub const HOSTILE: &[Hostile] = &[
    stopped("triple-fault", "triple-fault"),
    stopped("bad-memory", "bad-memory"),
    stopped("bad-memory-write", "bad-memory"),
    stopped("write-readonly", "bad-memory"),
    stopped("execute-noexec", "bad-memory"),
    stopped("halt-no-interrupts", "halted-for-ever"),
    stopped("port-io", "port-io"),
    stopped("deadlock", "deadlock"),
    Hostile {
        program: "bad-cr",
        ends: Ends::Refused("bad-state"),
    },
    exits("invalid-opcode-call", 0),
    exits("call-fuzz", 0),
    exits("msr-storm", 0),
    exits("registers", 0),
    exits("breakpoints", 0),
    exits("user-call", 0),
    exits("flood messages=20000", 0),
    exits("exit-code code=7", 7),
    exits("panic", PANIC),
    exits("page-fault", OOPS + PAGE_FAULT),
    exits("stack-overflow", OOPS + PAGE_FAULT),
    never("spin"),
    never("spin-no-interrupts"),
];

/// The guest kernel's exit code for a panic, and for an exception of its own less its vector.
const PANIC: u64 = 101;
const OOPS: u64 = 128;
const PAGE_FAULT: u64 = 14;

impl Hostile {
    /// Its name in the list of tests.
    pub fn name(&self) -> String {
        let program = self.program.split(' ').next();
        program.unwrap_or_default().replace('-', "_")
    }
}

/// The healthy pair as in the default manifest, and the guest with objects of its own.
const MANIFEST: &str = r#"
digest = "consumer"

[[domain]]
name = "producer"
image = "guest-kernel"
memory = "16 MiB"
command_line = "program=producer peer=consumer"
modules = { input = "{input}" }
ports = { descriptors = "send" }
shared = { stream = "rw" }
events = { free = "wait" }

[[domain]]
name = "consumer"
image = "guest-kernel"
memory = "16 MiB"
command_line = "program=consumer peer=producer"
ports = { descriptors = "receive" }
shared = { stream = "r" }
events = { free = "notify" }

[[domain]]
name = "hostile"
image = "guest-kernel"
memory = "16 MiB"
command_line = "program=PROGRAM"
background = BACKGROUND
ports = { own = "send+receive" }
shared = { playground = "rw" }
events = { bell = "notify+wait" }

[[port]]
name = "descriptors"
capacity = 32

[[port]]
name = "own"

[[memory]]
name = "stream"
size = "1 MiB"

[[memory]]
name = "playground"
size = "64 KiB"

[[event]]
name = "free"

[[event]]
name = "bell"
"#;

/// The healthy pair does its work beside the guest, and the guest ends as it should.
pub fn survives(bed: &Bed, guest: &Hostile) -> Result<(), Failed> {
    let is_background = matches!(guest.ends, Ends::Never);
    let manifest = MANIFEST
        .replace("PROGRAM", guest.program)
        .replace("BACKGROUND", &is_background.to_string());
    let run = Run::new(bed)?.manifest(&manifest)?;
    let outcome = run.input(&noise(1 << 20))?.go()?;
    outcome.delivers()?.returns_frames()?;
    outcome.exits("producer", 0)?.exits("consumer", 0)?;
    let ends = match guest.ends {
        Ends::Refused(_) if bed.refuses_reserved_bits => Ends::Exited(0),
        Ends::Refused(reason) => Ends::Stopped(reason),
        ends => ends,
    };
    match ends {
        Ends::Refused(reason) | Ends::Stopped(reason) => {
            outcome.stops("hostile", reason)?.ends(1, "domain-failed")?;
            outcome.complains(&format!("domain hostile failed: {reason}"))?;
        }
        Ends::Exited(0) => {
            outcome.exits("hostile", 0)?.ends(0, "ok")?;
        }
        Ends::Exited(code) => {
            outcome.exits("hostile", code)?.ends(1, "domain-failed")?;
            outcome.complains("domain hostile failed: exited")?;
        }
        Ends::Never => {
            outcome.stops("hostile", "run-ended")?.ends(0, "ok")?;
        }
    }
    Ok(())
}

/// Where a guest was when it was stopped is shown with the function and the line of its image.
fn shown_with_source_line(bed: &Bed) -> Result<(), Failed> {
    let manifest = MANIFEST
        .replace("PROGRAM", "bad-memory")
        .replace("BACKGROUND", "false");
    let outcome = Run::new(bed)?.manifest(&manifest)?.input(b"x")?.go()?;
    outcome.stops("hostile", "bad-memory")?;
    let is_shown = |line: &str| {
        line.starts_with("hostile: ") && line.contains("::bad_memory (guest-kernel/src/programs/")
    };
    outcome.check(
        outcome.stdout.lines().any(is_shown),
        "the table should say where the guest was",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_there_once() {
        let mut names: Vec<_> = HOSTILE.iter().map(Hostile::name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
