//! The hypervisor's own faults, provoked by its self tests (`hypervisor/src/boot/self_test.rs`), and
//! interrupts that nothing can mask.
//!
//! A fault must end the run with a report that names it and a backtrace that people can read: that
//! proves the report, the guard pages, and that no page is both writable and executable.

use std::fs;
use std::thread;
use std::time::Duration;

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::monitor::Monitor;
use crate::run::{noise, project, Outcome, Run};

/// A self test that the hypervisor does not survive.
pub struct Fatal {
    /// What the command line says after `test=`.
    test: &'static str,
    /// What the message must say.
    says: &'static str,
    /// Whether it is an exception, whose report shows every register.
    is_exception: bool,
    /// What the backtrace must show, from the inside out.
    trace: &'static [&'static str],
}

/// The way to a self test.
const SELF_TEST: &str = "run (hypervisor/src/boot/self_test.rs";
const BOOT_MAIN: &str = "boot_main (hypervisor/src/main.rs:";

const fn panics(test: &'static str, says: &'static str) -> Fatal {
    Fatal {
        test,
        says,
        is_exception: false,
        trace: &["panic_fmt (", SELF_TEST, BOOT_MAIN],
    }
}

const fn faults(test: &'static str, says: &'static str) -> Fatal {
    Fatal {
        test,
        says,
        is_exception: true,
        trace: &[SELF_TEST, BOOT_MAIN],
    }
}

pub const FATAL: &[Fatal] = &[
    panics("panic", "this panic was asked for on the command line"),
    panics("none-of-these", "there is no self test 'none-of-these'"),
    faults("page-fault", "read of an unmapped page, at 0x5ead00000000,"),
    faults("null", "read of an unmapped page, at 0x8,"),
    Fatal {
        // The report has the innermost calls only: the recursion fills it.
        trace: &["recurse (hypervisor/src/boot/self_test.rs", "times more"],
        ..faults("stack-overflow", "stack overflow: main stack full")
    },
    faults("write-text", "write to a read-only page, at 0x"),
    faults("write-constant", "write to a read-only page, at 0x"),
    Fatal {
        // Where the CPU was is no code: the function that called it has left no frame behind.
        trace: &[BOOT_MAIN],
        ..faults(
            "execute-data",
            "instruction fetch from a page that is not executable, at 0x",
        )
    },
    faults("invalid-opcode", "invalid opcode (vector 6)"),
];

pub const SCENARIOS: &[Scenario] = &[
    ("fault_fix_up", |bed| goes_on(bed, "fault-fix-up")),
    ("nmi", |bed| goes_on(bed, "nmi")),
    ("debug_exception", |bed| goes_on(bed, "debug-exception")),
    ("extended_state", |bed| goes_on(bed, "extended-state")),
];

/// What needs QEMU's monitor.
pub const DISTURBED: &[Scenario] = &[("nmis_while_guests_run", nmis_while_guests_run)];

impl Fatal {
    /// Its name in the list of tests.
    pub fn name(&self) -> String {
        self.test.replace('-', "_")
    }
}

fn self_test(bed: &Bed, test: &str) -> Result<Run, Failed> {
    let run = Run::new(bed)?.input(&noise(4096))?;
    Ok(run.option("--hypervisor-args", &format!("test={test}")))
}

/// The run ends with a report that says what happened and where.
pub fn is_reported(bed: &Bed, fatal: &Fatal) -> Result<(), Failed> {
    let outcome = self_test(bed, fatal.test)?.go()?;
    outcome.ends(5, "hypervisor-panic")?;
    verdict_is_one_line(&outcome, fatal.says)?;
    for register in ["cr2 ", "cr3 "] {
        outcome.shows_in_order(&["panic of the hypervisor on CPU 0: ", register, "backtrace"])?;
    }
    let mut trace = vec!["backtrace, the innermost first:"];
    trace.extend(fatal.trace);
    outcome.shows_in_order(&trace)?;
    let message = outcome.json["panic"]["text"].as_str().unwrap_or_default();
    outcome.check(
        message.contains(fatal.says),
        "the JSON should have the message",
    )?;
    if fatal.is_exception {
        shows_registers(&outcome, message)?;
    }
    Ok(())
}

/// The last line says it all; it is the only one that the tool says in its own name.
fn verdict_is_one_line(outcome: &Outcome, says: &str) -> Result<(), Failed> {
    let own = |line: &&str| line.starts_with("nuncio: ");
    let is_last = outcome.stderr.lines().last().is_some_and(|line| {
        line.starts_with("nuncio: the hypervisor broke: ") && line.contains(says)
    });
    outcome.check(
        is_last && outcome.stderr.lines().filter(own).count() == 1,
        &format!("the last line of standard error should be the verdict with {says:?}"),
    )?;
    Ok(())
}

/// Every register is shown, and the rip of the message is where the backtrace begins.
fn shows_registers(outcome: &Outcome, message: &str) -> Result<(), Failed> {
    outcome.shows_in_order(&["  rax    0x", "  rip    0x", "  r15    0x", "  error  0x"])?;
    let rip = message.rsplit("rip 0x").next().unwrap_or_default();
    let rip = u64::from_str_radix(rip, 16).ok();
    let first = outcome.json["panic"]["trace"][0].as_u64();
    outcome.check(
        rip.is_some() && first == rip,
        "the backtrace should begin with the rip of the message",
    )?;
    Ok(())
}

/// The self test passes, and the run is as any other.
fn goes_on(bed: &Bed, test: &str) -> Result<(), Failed> {
    let outcome = self_test(bed, test)?.verbose().go()?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    let sign = format!("self test {test}: the machine goes on");
    outcome.check(
        outcome.stderr.contains(&sign),
        "the self test should have run",
    )?;
    Ok(())
}

/// Fewer NMIs than this while 20 MiB cross would prove little.
const LEAST_NMIS: u64 = 24;
const NMI_PAUSE: Duration = Duration::from_millis(4);

fn nmis_while_guests_run(bed: &Bed) -> Result<(), Failed> {
    let qemu = std::env::var_os("NUNCIO_QEMU").filter(|name| !name.is_empty());
    let qemu = qemu.unwrap_or_else(|| "qemu-system-x86_64".into());
    let wrapper = fs::canonicalize(project().join("tests/beds/qemu-with-monitor"))?;
    let run = Run::new(bed)?.input(&noise(20 << 20))?.verbose();
    let socket = run.path("monitor");
    let run = run
        .environment("NUNCIO_QEMU", wrapper)
        .environment("NUNCIO_TEST_QEMU", qemu)
        .environment("NUNCIO_TEST_MONITOR", &socket);
    // Before that line the machine's firmware may not be ready for an NMI.
    let (outcome, injected) = run.go_beside("@ready", || {
        let (mut monitor, mut count) = (Monitor::connect(&socket)?, 0);
        while monitor.execute("inject-nmi")? {
            count += 1;
            thread::sleep(NMI_PAUSE);
        }
        Ok(count)
    })?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    let exits = |name| outcome.domain(name)["exits"]["nmi"].as_u64().unwrap_or(0);
    let taken = exits("producer") + exits("consumer");
    outcome.check(
        injected >= LEAST_NMIS && taken > 0,
        &format!("guests should be interrupted: {injected} NMIs were injected, {taken} found one"),
    )?;
    Ok(())
}
