//! The guest kernel without Nuncio: it says hello, and what goes wrong in it can be read.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{Outcome, Run};

/// In QEMU, which loads it by its PVH note.
pub const ON_QEMU: &[Scenario] = &[
    ("hello_on_q35", |_| says_hello("qemu", "q35", 1)),
    ("hello_on_q35_with_four_cpus", |_| {
        says_hello("qemu", "q35", 4)
    }),
    ("hello_on_pc", |_| says_hello("qemu", "pc", 1)),
    ("hello_on_pc_with_four_cpus", |_| {
        says_hello("qemu", "pc", 4)
    }),
    ("panic", |_| panics("qemu")),
    ("oops", |_| writes_to_null("qemu")),
    ("stack_overflow", |_| {
        oopses("qemu", "stack-overflow", 142, STACK_OVERFLOW)
    }),
    ("code_is_read_only", |_| {
        oopses("qemu", "write-text", 142, WRITE_TEXT)
    }),
    ("data_is_no_code", |_| {
        oopses("qemu", "execute-data", 142, EXECUTE_DATA)
    }),
    ("interrupt_that_nobody_takes", |_| {
        oopses("qemu", "interrupt", 205, INTERRUPT)
    }),
    ("device", |_| reads_a_device("qemu")),
    ("heap_with_a_hole_below_it", all_ram_is_heap),
    ("command_line_is_wrong", wrong_words),
];

/// In Bochs, where GRUB loads it by its multiboot2 header.
pub const ON_BOCHS: &[Scenario] = &[
    ("hello", |_| says_hello("bochs", "pc", 1)),
    ("hello_with_four_cpus", |_| says_hello("bochs", "pc", 4)),
    ("panic", |_| panics("bochs")),
    ("oops", |_| writes_to_null("bochs")),
    ("device", |_| reads_a_device("bochs")),
];

const STACK_OVERFLOW: &[&str] = &[
    "write to unmapped memory at 0x",
    "that is the page below a stack: it has overflowed",
];
const WRITE_TEXT: &[&str] = &["write to read-only memory at 0x"];
const EXECUTE_DATA: &[&str] = &["jump into memory that is not code at 0x"];
const INTERRUPT: &[&str] = &[
    "oops on CPU 0: interrupt (vector 77)",
    "nobody takes it; 1 ",
];

fn says_hello(host: &str, machine: &str, cpus: u64) -> Result<(), Failed> {
    let run = Run::kernel(host, &["log=info"])?;
    let run = run.option("--machine", machine);
    let outcome = run.option("--cpus", &cpus.to_string()).go()?;
    outcome.ends(0, "ok")?;
    ends_with(&outcome, 0)?;
    let loader = match host {
        "bochs" => "multiboot2",
        _ => "pvh",
    };
    let hello = format!("hello from bare metal, loaded by {loader}: ");
    says(&outcome, &[&hello])?;
    let first = outcome.json["lines"][0].as_str().unwrap_or_default();
    let kib = first
        .strip_prefix(&hello)
        .and_then(|rest| rest.split(' ').next());
    let kib = kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    outcome.check(
        (250 << 10..=256 << 10).contains(&kib),
        "nearly all of the 256 MiB should be RAM",
    )?;
    let keys = &outcome.json;
    outcome.check(
        keys["host"] == host && keys["machine"] == machine && keys["cpus"] == cpus,
        "the JSON should say what it ran on",
    )?;
    let found = format!("\n{cpus} CPUs, local APICs at 0xfee00000, 1 I/O APICs, ");
    says(&outcome, &[&found, "\npower-management timer at port 0x"])?;
    outcome.check(keys["wall_ms"].as_u64() > Some(0), "it should take time")?;
    Ok(())
}

fn panics(host: &str) -> Result<(), Failed> {
    let outcome = fails(host, "panic", 101)?;
    says(
        &outcome,
        &[
            "panicked at guest-kernel/src/pv/native/self_test.rs:",
            "this panic was asked for on the command line",
        ],
    )
}

fn writes_to_null(host: &str) -> Result<(), Failed> {
    let shown = [
        "oops on CPU 0: page fault (vector 14), error code 0x2",
        "write to unmapped memory at 0x0",
        "rip 0x",
        "rflags 0x",
        "r15 0x",
    ];
    oopses(host, "oops", 142, &shown)
}

fn oopses(host: &str, test: &str, code: u64, shown: &[&str]) -> Result<(), Failed> {
    says(&fails(host, test, code)?, shown)
}

fn reads_a_device(host: &str) -> Result<(), Failed> {
    let outcome = Run::kernel(host, &["test=device"])?.go()?;
    outcome.ends(0, "ok")?;
    says(&outcome, &["device: local APIC version 0x1"])
}

/// Above 3 GiB there is a hole up to 4 GiB, behind which the rest follows.
fn all_ram_is_heap(_: &Bed) -> Result<(), Failed> {
    let run = Run::kernel("qemu", &["test=heap"])?;
    let run = run.option("--machine", "pc");
    let outcome = run.option("--memory", "6144").go()?;
    outcome.ends(0, "ok")?;
    let heap = line(&outcome, "heap: ");
    let mib = heap
        .split(' ')
        .next()
        .and_then(|mib| mib.parse::<u64>().ok());
    outcome.check(
        mib.is_some_and(|mib| (6100..6144).contains(&mib)),
        "nearly all RAM should be heap, on both sides of the hole",
    )?;
    says(&outcome, &[" in 3 ranges"])
}

fn wrong_words(_: &Bed) -> Result<(), Failed> {
    for (word, says_so) in [
        ("test=none", "no test=none; there are: panic "),
        ("program=bench", "no program=bench on bare metal"),
    ] {
        let outcome = Run::kernel("qemu", &[word])?.go()?;
        outcome.ends(1, "kernel-failed")?;
        ends_with(&outcome, 2)?;
        says(&outcome, &[says_so])?;
    }
    Ok(())
}

/// The kernel runs into this test and ends with that code.
fn fails(host: &str, test: &str, code: u64) -> Result<Outcome, Failed> {
    let outcome = Run::kernel(host, &[&format!("test={test}")])?.go()?;
    outcome.ends(1, "kernel-failed")?;
    ends_with(&outcome, code)?;
    Ok(outcome)
}

fn ends_with(outcome: &Outcome, code: u64) -> Result<(), Failed> {
    let found = &outcome.json["exit_code"];
    outcome.check(
        *found == code,
        &format!("the kernel's exit code should be {code}, not {found}"),
    )?;
    Ok(())
}

/// These words on the serial line, one after the other.
fn says(outcome: &Outcome, words: &[&str]) -> Result<(), Failed> {
    let mut rest = outcome.stdout.as_str();
    for word in words {
        let behind = rest.split_once(word).map(|(_, behind)| behind);
        outcome.check(behind.is_some(), &format!("the kernel should say {word:?}"))?;
        rest = behind.unwrap_or_default();
    }
    Ok(())
}

/// What stands behind the beginning of a line.
fn line<'a>(outcome: &'a Outcome, begin: &str) -> &'a str {
    let mut lines = outcome.stdout.lines();
    lines
        .find_map(|line| line.strip_prefix(begin))
        .unwrap_or_default()
}
