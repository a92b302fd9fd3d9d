//! Domains on several CPUs: they work together, leave each other alone, end together, and what is taken
//! back on one CPU is out of reach on all.

use libtest_mimic::Failed;
use serde_json::json;

use super::cpus::has_cpus;
use super::examples::console;
use super::{Bed, Scenario};
use crate::run::{noise, sha256, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("a_file_between_two", |bed| crosses(bed, 2)),
    ("a_file_between_the_ends_of_four", |bed| crosses(bed, 4)),
    ("four_pairs", four_pairs),
    ("a_cpu_that_is_not_there", not_there),
    ("a_domain_that_takes_no_interrupts", takes_no_interrupts),
    ("deadlock_across_two", deadlock),
    ("revocation_from_two", |bed| revocation(bed, 2)),
    ("revocation_from_four", |bed| revocation(bed, 4)),
];

/// For QEMU; on Bochs a boot takes seconds, and there is nothing of the bed in it.
pub const FAST: &[Scenario] = &[("a_cpu_that_did_not_come_up", did_not_come_up)];

const STREAM: &str = include_str!("../../../tools/manifests/stream.toml");
const REVOKE: &str = include_str!("../../../tools/manifests/revoke.toml");

/// The manifest with these domains on these CPUs.
fn placed(manifest: &str, places: &[(&str, u64)]) -> String {
    places
        .iter()
        .fold(manifest.to_owned(), |text, (name, cpu)| {
            let name = format!("name = \"{name}\"\nimage");
            text.replace(&name, &format!("cpu = {cpu}\n{name}"))
        })
}

fn go(bed: &Bed, cpus: u64, manifest: &str, input: &[u8]) -> Result<Outcome, Failed> {
    let run = Run::new(bed)?.manifest(manifest)?.input(input)?;
    run.option("--cpus", &cpus.to_string()).go()
}

/// The producer runs on the first CPU and the consumer on the last.
fn crosses(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let manifest = placed(STREAM, &[("producer", 0), ("consumer", cpus - 1)]);
    let outcome = go(bed, cpus, &manifest, &noise(300_000))?;
    has_cpus(&outcome, cpus, json!([]))?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    Ok(())
}

/// A pair with wires of its own.
const PAIR: &str = r#"
[[domain]]
name = "producerN"
image = "guest-kernel"
memory = "4 MiB"
command_line = "program=producer port=descriptorsN memory=streamN event=freeN"
cpu = FIRST
modules = { input = "{input}" }
ports = { descriptorsN = "send" }
shared = { streamN = "rw" }
events = { freeN = "wait" }

[[domain]]
name = "consumerN"
image = "guest-kernel"
memory = "4 MiB"
command_line = "program=consumer port=descriptorsN memory=streamN event=freeN"
cpu = SECOND
ports = { descriptorsN = "receive" }
shared = { streamN = "r" }
events = { freeN = "notify" }

[[port]]
name = "descriptorsN"

[[memory]]
name = "streamN"
size = "64 KiB"

[[event]]
name = "freeN"
"#;

/// Each CPU has a producer, and the consumer of another pair.
fn four_pairs(bed: &Bed) -> Result<(), Failed> {
    let pair = |number: u64| {
        let pair = PAIR.replace("FIRST", &number.to_string());
        let pair = pair.replace("SECOND", &((number + 1) % 4).to_string());
        pair.replace('N', &number.to_string())
    };
    let manifest: String = (0..4).map(pair).collect();
    let input = noise(100_000);
    let outcome = go(bed, 4, &manifest, &input)?;
    outcome.ends(0, "ok")?.returns_frames()?;
    let line = format!("sha256 {} {} bytes", sha256(&input), input.len());
    for number in 0..4 {
        let consumer = format!("consumer{number}");
        outcome.exits(&format!("producer{number}"), 0)?;
        outcome.exits(&consumer, 0)?;
        let what = format!("{consumer} should have the digest");
        outcome.check(console(&outcome, &consumer) == [&line], &what)?;
    }
    Ok(())
}

/// The manifest is right; the machine is too small for it.
fn not_there(bed: &Bed) -> Result<(), Failed> {
    let manifest = placed(STREAM, &[("consumer", 2)]);
    let outcome = go(bed, 2, &manifest, b"x")?;
    outcome.ends(3, "refused")?.complains(
        "domain consumer: it is to run on CPU 2, and there are 2, counted from 0: give the \
         machine more or name another",
    )?;
    Ok(())
}

/// What counts is which CPUs run, not which are there.
fn did_not_come_up(bed: &Bed) -> Result<(), Failed> {
    let manifest = placed(STREAM, &[("consumer", 2)]);
    let run = Run::new(bed)?.manifest(&manifest)?.input(b"x")?;
    let run = run.option("--hypervisor-args", "test=cpu-absent");
    let outcome = run.option("--cpus", "3").go()?;
    outcome
        .ends(3, "refused")?
        .complains("domain consumer: it is to run on CPU 2, and there are 2")?;
    Ok(())
}

/// Domains that nobody waits for, or that wait for nobody.
const OTHER: &str = r#"
[[domain]]
name = "NAME"
image = "guest-kernel"
memory = "8 MiB"
command_line = "program=PROGRAM"
cpu = CPU
background = BACKGROUND
"#;

fn other(name: &str, program: &str, cpu: u64, is_background: bool) -> String {
    let other = OTHER.replace("NAME", name).replace("PROGRAM", program);
    let other = other.replace("CPU", &cpu.to_string());
    other.replace("BACKGROUND", &is_background.to_string())
}

/// It has CPU 1 for itself until the others are done, and then the end of the run reaches it.
fn takes_no_interrupts(bed: &Bed) -> Result<(), Failed> {
    let pair = placed(STREAM, &[("producer", 0), ("consumer", 2)]);
    let manifest = pair + &other("spinner", "spin-no-interrupts", 1, true);
    let outcome = go(bed, 3, &manifest, &noise(100_000))?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    outcome.stops("spinner", "run-ended")?;
    Ok(())
}

/// Neither CPU alone can tell that nothing will ever happen again.
fn deadlock(bed: &Bed) -> Result<(), Failed> {
    let domains = [("first", 0), ("second", 1)];
    let domain = |(name, cpu)| other(name, "deadlock", cpu, false);
    let manifest: String = domains.into_iter().map(domain).collect();
    let run = Run::new(bed)?.manifest(&manifest)?.option("--cpus", "2");
    let outcome = run.go()?;
    outcome.ends(1, "domain-failed")?.returns_frames()?;
    outcome
        .stops("first", "deadlock")?
        .stops("second", "deadlock")?;
    Ok(())
}

/// The borrowers count on the other CPUs while the lender takes their memory back: each ends where it
/// wrote, and nothing that it wrote comes later.
fn revocation(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let manifest = (1..4).fold(REVOKE.to_owned(), |text, cpu: u64| {
        let last = (cpus - 1).min(cpu);
        text.replace(&format!("\ncpu = {cpu}\n"), &format!("\ncpu = {last}\n"))
    });
    let run = Run::new(bed)?.manifest(&manifest)?;
    let outcome = run.option("--cpus", &cpus.to_string()).go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    let said = "lender: taken back from 3 domains, and none wrote later";
    outcome.check(
        console(&outcome, "lender") == [said],
        "the lender should have seen no late write",
    )?;
    for borrower in ["borrower1", "borrower2", "borrower3"] {
        outcome.stops(borrower, "bad-memory")?;
        let detail = &outcome.domain(borrower)["stop"]["detail"];
        let said = format!("borrower: writes to {detail}");
        let what = format!("{borrower} should end where it writes, not at {detail}");
        outcome.check(console(&outcome, borrower) == [&said], &what)?;
    }
    Ok(())
}
