//! The clock and the timer: both ways to program the one, both clocks that the other is measured against.

use std::fs;

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{noise, project, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("the_timer_of_the_cpu", the_timer_of_the_cpu),
    ("the_timer_that_counts", the_timer_that_counts),
    ("two_clocks_agree", two_clocks_agree),
    ("words_that_there_are_not", words_that_there_are_not),
];

/// Needs a machine that can be had without an 8254.
pub const WITHOUT_PIT: &[Scenario] = &[("without_an_8254", without_an_8254)];

const ONE_SHOT: &str = "one-shot";
const TSC_DEADLINE: &str = "tsc-deadline";
const CONFORMANCE: &str = include_str!("../../../tools/manifests/conformance.toml");

fn stream(bed: &Bed, words: &str) -> Result<Outcome, Failed> {
    let run = Run::new(bed)?.input(&noise(100_000))?;
    match words {
        "" => run.go(),
        words => run.option("--hypervisor-args", words).go(),
    }
}

fn uses(outcome: &Outcome, key: &str, value: &str) -> Result<(), Failed> {
    let boot = &outcome.json["boot"];
    let what = format!("{key} should be {value}: {boot}");
    outcome.check(boot[key] == value, &what)?;
    Ok(())
}

/// It is used as the CPU allows, and a CPU that knows no deadlines is not made to.
fn the_timer_of_the_cpu(bed: &Bed) -> Result<(), Failed> {
    let own = stream(bed, "")?;
    own.ends(0, "ok")?.delivers()?.returns_frames()?;
    let has_deadlines = match bed.has_deadlines {
        Some(has_deadlines) => has_deadlines,
        None => own.json["boot"]["timer"] == TSC_DEADLINE,
    };
    let named = stream(bed, "timer=tsc-deadline")?;
    if has_deadlines {
        uses(&own, "timer", TSC_DEADLINE)?;
        named.ends(0, "ok")?.delivers()?;
        return uses(&named, "timer", TSC_DEADLINE);
    }
    named.ends(3, "refused")?.complains(
        "the command line says timer=tsc-deadline, and this CPU's timer knows no deadlines",
    )?;
    uses(&own, "timer", ONE_SHOT)
}

/// Every case holds with the other timer, too, where the CPU has both; with the same one, other scenarios
/// say so.
fn the_timer_that_counts(bed: &Bed) -> Result<(), Failed> {
    let run = Run::new(bed)?.option("--hypervisor-args", "timer=one-shot");
    let outcome = if bed.has_deadlines == Some(false) {
        run.input(b"x")?.go()?
    } else {
        run.manifest(CONFORMANCE)?.go()?
    };
    outcome.ends(0, "ok")?.returns_frames()?;
    uses(&outcome, "timer", ONE_SHOT)
}

/// The rates that they lead to differ by less than one part in so many.
const AGREEMENT: u64 = 200;

fn agree(first: &Outcome, second: &Outcome) -> Result<(), Failed> {
    let hz = |outcome: &Outcome| outcome.json["boot"]["tsc_hz"].as_u64().unwrap_or(0);
    let (first_hz, second_hz) = (hz(first), hz(second));
    let agree = first_hz > 0 && first_hz.abs_diff(second_hz) < first_hz / AGREEMENT;
    let what = format!("{first_hz} Hz and {second_hz} Hz should be the same clock's");
    second.check(agree, &what)?;
    Ok(())
}

fn two_clocks_agree(bed: &Bed) -> Result<(), Failed> {
    agree(&measured(bed, "pit")?, &measured(bed, "pm-timer")?)
}

/// Where instructions are counted no other load on the host disturbs the clocks.
fn counted(bed: &Bed) -> Result<Run, Failed> {
    let run = Run::new(bed)?;
    Ok(if bed.counts() { run.count() } else { run })
}

fn measured(bed: &Bed, reference: &str) -> Result<Outcome, Failed> {
    let words = format!("reference={reference}");
    let run = counted(bed)?.input(b"x")?;
    let outcome = run.option("--hypervisor-args", &words).go()?;
    outcome.ends(0, "ok")?.delivers()?;
    uses(&outcome, "reference", reference)?;
    Ok(outcome)
}

/// The 8254 is missing, and not only passed over: nobody asks for the other clock.
fn without_an_8254(bed: &Bed) -> Result<(), Failed> {
    let qemu = std::env::var_os("NUNCIO_QEMU").filter(|name| !name.is_empty());
    let qemu = qemu.unwrap_or_else(|| "qemu-system-x86_64".into());
    let wrapper = fs::canonicalize(project().join("tests/beds/qemu-without-pit"))?;
    let machine = |words: &str| {
        let run = counted(bed)?.input(&noise(100_000))?;
        let run = run.environment("NUNCIO_QEMU", &wrapper);
        let run = run.environment("NUNCIO_TEST_QEMU", &qemu);
        Ok::<_, Failed>(run.option("--hypervisor-args", words))
    };
    let without = machine("timer=one-shot")?.verbose().go()?;
    without.ends(0, "ok")?.delivers()?.returns_frames()?;
    uses(&without, "reference", "pm-timer")?;
    without.check(
        without.stderr.contains("pit does not count"),
        "the log should say so",
    )?;
    agree(&measured(bed, "pit")?, &without)?;
    machine("reference=pit")?
        .go()?
        .ends(3, "refused")?
        .complains("No clock counts that the CPU's could be measured against")?;
    Ok(())
}

fn words_that_there_are_not(bed: &Bed) -> Result<(), Failed> {
    for (words, text) in [
        (
            "timer=hpet",
            "the command line says timer=hpet; there are: one-shot tsc-deadline",
        ),
        (
            "reference=cpuid",
            "the command line says reference=cpuid; there are: pit pm-timer",
        ),
    ] {
        stream(bed, words)?.ends(3, "refused")?.complains(text)?;
    }
    Ok(())
}
