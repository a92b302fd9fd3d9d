//! A domain with several vcpus: they come up on one CPU or several, notify each other, are stopped and started
//! again while they work, and end together.

use libtest_mimic::Failed;

use super::cpus::has_cpus;
use super::examples::console;
use super::{Bed, Scenario};
use crate::run::{Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("four_on_one_cpu", |bed| work_together(bed, 1, "0", 100, 6)),
    ("four_on_two_cpus", |bed| {
        work_together(bed, 2, "[0, 1]", 100, 6)
    }),
    ("four_on_four_cpus", |bed| {
        work_together(bed, 4, "[0, 1, 2, 3]", 100, 6)
    }),
    ("a_page_fault_of_another_vcpu", page_fault),
    ("overflow_of_another_vcpus_stack", overflow),
];

/// More CPUs and more rounds than Bochs has time for.
pub const MANY: &[Scenario] = &[
    ("four_on_four_cpus_for_long", |bed| {
        work_together(bed, 4, "[0, 1, 2, 3]", 1000, 200)
    }),
    ("the_manifest_that_comes_with_it", as_it_comes),
];

const SMP: &str = include_str!("../../../tools/manifests/smp.toml");
const COMMAND_LINE: &str = "program=smp rounds=1000 storms=20";
const VCPUS: u64 = 4;

/// The exit code of a kernel that met a page fault.
const PAGE_FAULT: u64 = 128 + 14;

/// The manifest with that command line, on that many CPUs.
fn manifest(command_line: &str, cpus: u64, cpu: &str) -> String {
    let text = SMP.replace(COMMAND_LINE, command_line);
    let text = text.replace("\ncpus = 4\n", &format!("\ncpus = {cpus}\n"));
    text.replace("cpu = [0, 1, 2, 3]", &format!("cpu = {cpu}"))
}

fn work_together(bed: &Bed, cpus: u64, cpu: &str, rounds: u64, storms: u64) -> Result<(), Failed> {
    let command_line = format!("program=smp rounds={rounds} storms={storms}");
    let text = manifest(&command_line, cpus, cpu);
    has_worked(&Run::new(bed)?.manifest(&text)?.go()?, cpus, rounds, storms)
}

fn as_it_comes(bed: &Bed) -> Result<(), Failed> {
    has_worked(&Run::new(bed)?.manifest(SMP)?.go()?, 4, 1000, 20)
}

fn has_worked(outcome: &Outcome, cpus: u64, rounds: u64, storms: u64) -> Result<(), Failed> {
    outcome
        .ends(0, "ok")?
        .returns_frames()?
        .exits("kernel", 0)?;
    has_cpus(outcome, cpus, serde_json::json!([]))?;
    let (counted, restarts) = (rounds * VCPUS, storms * (VCPUS - 1));
    let line =
        format!("smp: {VCPUS} vcpus, {counted} counted, {rounds} rounds, {restarts} restarts");
    outcome.check(
        console(outcome, "kernel") == [&line],
        &format!("the console should say {line:?}"),
    )?;
    // At first, once more for the storm, and each time that it was stopped; tries of those that had not
    // stopped themselves yet come on top.
    let starts = outcome.domain("kernel")["calls"]["start"].as_u64();
    let least = restarts + 2 * (VCPUS - 1);
    let what = format!("there should be at least {least} starts, not {starts:?}");
    outcome.check(starts.is_some_and(|starts| starts >= least), &what)?;
    Ok(())
}

/// The oops is of the last vcpu, and ends the domain though the first one sleeps.
fn page_fault(bed: &Bed) -> Result<(), Failed> {
    let outcome = faults(bed, "secondary-page-fault")?;
    says(&outcome, "write to unmapped memory at 0x700000000000")
}

fn overflow(bed: &Bed) -> Result<(), Failed> {
    let outcome = faults(bed, "secondary-stack-overflow")?;
    says(
        &outcome,
        "that is the page below a stack: it has overflowed",
    )
}

fn faults(bed: &Bed, program: &str) -> Result<Outcome, Failed> {
    let text = manifest(&format!("program={program}"), 2, "[0, 1]");
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome.ends(1, "domain-failed")?.returns_frames()?;
    outcome.exits("kernel", PAGE_FAULT)?;
    says(
        &outcome,
        "oops on CPU 3: page fault (vector 14), error code 0x2",
    )?;
    Ok(outcome)
}

fn says(outcome: &Outcome, line: &str) -> Result<(), Failed> {
    let is_said = console(outcome, "kernel").contains(&line);
    outcome.check(is_said, &format!("the console should say {line:?}"))?;
    Ok(())
}
