//! Machines with several CPUs: all come up, one that does not is left out, and a CPU that breaks reports
//! alone.

use libtest_mimic::Failed;
use serde_json::json;

use super::{Bed, Scenario};
use crate::run::{noise, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("two_come_up", |bed| come_up(bed, 2)),
    ("four_come_up", |bed| come_up(bed, 4)),
    ("every_case_holds_beside_others", every_case_holds),
    ("number_from_the_manifest", number_from_the_manifest),
    ("one_that_does_not_answer_is_left_out", left_out),
    ("the_first_that_panics_reports_alone", reports_alone),
    ("overflow_of_another_cpus_stack", overflow),
];

/// More than Bochs has.
pub const MANY: &[Scenario] = &[("sixteen_come_up", |bed| come_up(bed, 16))];

const CONFORMANCE: &str = include_str!("../../../tools/manifests/conformance.toml");
const STREAM: &str = include_str!("../../../tools/manifests/stream.toml");

fn machine(bed: &Bed, cpus: u64, test: &str) -> Result<Run, Failed> {
    let run = Run::new(bed)?.input(&noise(100_000))?.verbose();
    let run = run.option("--cpus", &cpus.to_string());
    Ok(run.option("--hypervisor-args", &format!("test={test}")))
}

/// So many CPUs run, and these are left out.
pub fn has_cpus(outcome: &Outcome, cpus: u64, left_out: serde_json::Value) -> Result<(), Failed> {
    let boot = &outcome.json["boot"];
    let what = format!("{cpus} CPUs should run, and {left_out} be left out: {boot}");
    let holds = boot["cpus"] == cpus && boot["cpus_left_out"] == left_out;
    outcome.check(holds, &what)?;
    Ok(())
}

/// Every CPU turns virtualization on, and takes an interrupt and an NMI; it is kept from running guests for that.
fn come_up(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let outcome = machine(bed, cpus, "cpus")?.go()?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    has_cpus(&outcome, cpus, json!([]))?;
    for cpu in 1..cpus {
        let sign = format!("hypervisor: CPU {cpu}, local APIC {cpu}: virtualization is on");
        let lines = outcome.stderr.lines().filter(|line| *line == sign);
        outcome.check(lines.count() == 1, &format!("one line should be {sign:?}"))?;
    }
    Ok(())
}

/// Where instructions are counted the clock is theirs: with more CPUs than the host has, its threads can wait
/// for longer than the few milliseconds that some cases are about.
fn every_case_holds(bed: &Bed) -> Result<(), Failed> {
    let run = Run::new(bed)?.manifest(CONFORMANCE)?.option("--cpus", "4");
    let outcome = run.count().go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    has_cpus(&outcome, 4, json!([]))
}

/// The command line has the last word.
fn number_from_the_manifest(bed: &Bed) -> Result<(), Failed> {
    let manifest = format!("cpus = 2\n{STREAM}");
    let run = Run::new(bed)?.manifest(&manifest)?.input(b"x")?;
    has_cpus(&run.go()?, 2, json!([]))?;
    has_cpus(&run.option("--cpus", "1").go()?, 1, json!([]))
}

fn left_out(bed: &Bed) -> Result<(), Failed> {
    let outcome = machine(bed, 3, "cpu-absent")?.go()?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    let last = json!([{ "index": 2, "apic_id": 2, "reason": "no-answer" }]);
    has_cpus(&outcome, 2, last)
}

/// All panic at the same moment: there is one report, in whole lines.
fn reports_alone(bed: &Bed) -> Result<(), Failed> {
    let outcome = machine(bed, 4, "cpus-panic")?.go()?;
    outcome.ends(5, "hypervisor-panic")?;
    let text = outcome.json["panic"]["text"].as_str().unwrap_or_default();
    let cpu = &outcome.json["panic"]["cpu"];
    let is_one = cpu.as_u64().is_some_and(|cpu| cpu < 4)
        && text.ends_with(&format!(": CPU {cpu} panics with all others"))
        && outcome.json["damaged_records"] == 0;
    outcome.check(
        is_one,
        "one CPU should report, and be the one that it names",
    )?;
    let trace = outcome.json["panic"]["trace"].as_array();
    let is_traced = trace.is_some_and(|trace| trace.len() >= 3);
    outcome.check(is_traced, "there should be a backtrace")?;
    outcome.shows_in_order(&[
        "panic of the hypervisor on CPU ",
        "backtrace",
        "self_test.rs",
    ])?;
    Ok(())
}

/// Its guard page is there, and its exceptions have stacks of their own.
fn overflow(bed: &Bed) -> Result<(), Failed> {
    let outcome = machine(bed, 2, "cpu-overflow")?.go()?;
    outcome.ends(5, "hypervisor-panic")?;
    outcome.shows_in_order(&[
        "panic of the hypervisor on CPU 1: page fault",
        "stack overflow: main stack full",
        "recurse (hypervisor/src/boot/self_test.rs",
    ])?;
    Ok(())
}
