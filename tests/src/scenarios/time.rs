//! The clock and the timers: one clock for all CPUs, what timers cost, both ways to program the one, both clocks that the other is measured against.

use std::fs;

use libtest_mimic::Failed;
use serde_json::json;

use super::cpus::has_cpus;
use super::examples::console;
use super::{Bed, Scenario};
use crate::run::{noise, project, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("the_timer_of_the_cpu", the_timer_of_the_cpu),
    ("the_timer_that_counts", the_timer_that_counts),
    ("two_clocks_agree", two_clocks_agree),
    ("words_that_there_are_not", words_that_there_are_not),
    ("nothing_ticks", nothing_ticks),
    ("ten_thousand_timers", ten_thousand_timers),
    ("one_clock_for_two", |bed| one_clock(bed, 2)),
    ("one_clock_for_four", |bed| one_clock(bed, 4)),
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

/// A domain that runs a program, on a CPU.
fn domain(name: &str, program: &str, more: &str) -> String {
    format!(
        "[[domain]]\nname = \"{name}\"\nimage = \"guest-kernel\"\nmemory = \"4 MiB\"\n\
         command_line = \"program={program}\"\n{more}\n"
    )
}

/// More than this the timer does not fire while a domain computes for 100 ms and sleeps for a second; a tick
/// for each slice would be two hundred times.
const MOST_INTERRUPTS: u64 = 4;

fn nothing_ticks(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?
        .manifest(&domain("quiet", "quiet", ""))?
        .go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    let fired = outcome.json["timer_interrupts"].as_u64();
    let exits = outcome.domain("quiet")["exits"]["interrupt"].as_u64();
    let is_quiet = |count: Option<u64>| count.is_some_and(|count| count <= MOST_INTERRUPTS);
    let what = format!("the timer should be quiet, and has fired {fired:?} times");
    outcome.check(is_quiet(fired) && fired > Some(0), &what)?;
    let what = format!("the guest should be left alone, and was interrupted {exits:?} times");
    outcome.check(exits.unwrap_or(0) <= MOST_INTERRUPTS, &what)?;
    Ok(())
}

/// Timers of each domain but the one that measures: as many as the hypervisor's memory for it is for.
const TIMERS_EACH: u64 = 970;
const OTHERS: u64 = 10;
const TIMERS_OF_MEASURE: u64 = 400;

/// Instructions that each doubling of the number of timers may add: to the way from the interrupt to the
/// guest, in which one place in the queue is filled; and to arming a timer that is due at once, in which one
/// is found, too.
const LATE_PER_DOUBLING: u64 = 100;
const ARM_PER_DOUBLING: u64 = 130;

/// What a timer costs with ten thousand others is what it costs with nine others, and a logarithm.
fn ten_thousand_timers(bed: &Bed) -> Result<(), Failed> {
    let few = costs(bed, 10, 0)?;
    let many = costs(bed, TIMERS_OF_MEASURE, OTHERS)?;
    let all = TIMERS_OF_MEASURE + TIMERS_EACH * OTHERS;
    assert!(all >= 10_000);
    let doublings = u64::from((all / 10).ilog2()) + 1;
    for (what, few, many, per_doubling) in [
        ("late", few.0, many.0, LATE_PER_DOUBLING),
        ("arm", few.1, many.1, ARM_PER_DOUBLING),
    ] {
        let most = few + doublings * per_doubling;
        if few == 0 || many > most {
            let text = format!("{what}: {few} with ten timers, {many} with {all}, at most {most}");
            return Err(text.into());
        }
    }
    Ok(())
}

/// How late a timer was seen and what arming one costs, with so many timers armed here and in so many
/// other domains. A nanosecond is a whole number of instructions on no bed but QEMU, so late is in
/// instructions here.
fn costs(bed: &Bed, timers: u64, others: u64) -> Result<(u64, u64), Failed> {
    let measure = format!("timers timers={timers} others={}", (1u64 << others) - 1);
    let mut manifest = domain("measure", &measure, "events = { armed = \"wait\" }");
    for other in 0..others {
        let program = format!("timers timers={TIMERS_EACH} ready={}", 1u64 << other);
        let more = "background = true\nevents = { armed = \"notify\" }";
        manifest += &domain(&format!("other{other}"), &program, more);
    }
    manifest += "[[event]]\nname = \"armed\"\n";
    let outcome = Run::new(bed)?.manifest(&manifest)?.count().go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    let number = |prefix: &str| {
        let lines = console(&outcome, "measure");
        let number = lines.iter().find_map(|line| line.strip_prefix(prefix));
        number.and_then(|number| number.parse::<u64>().ok())
    };
    let hz = outcome.json["boot"]["tsc_hz"].as_u64().unwrap_or(0);
    let (Some(late_ns), Some(arm)) = (number("timers late "), number("timers arm ")) else {
        outcome.check(false, "both costs should be printed")?;
        return Ok((0, 0));
    };
    let late = u128::from(late_ns) * u128::from(hz) / 1_000_000_000;
    Ok((u64::try_from(late).unwrap_or(u64::MAX), arm))
}

/// A server on CPU 0, and a client on each other CPU.
fn one_clock(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let server = "cpu = 0\nports = { service = \"receive\" }";
    let mut manifest = domain("server", "clock-server", server);
    for cpu in 1..cpus {
        let client = format!("cpu = {cpu}\nports = {{ service = \"send\" }}");
        manifest += &domain(&format!("client{cpu}"), "clock rounds=1000", &client);
    }
    manifest += "[[port]]\nname = \"service\"\n";
    let run = Run::new(bed)?.manifest(&manifest)?;
    let outcome = run.option("--cpus", &cpus.to_string()).go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    has_cpus(&outcome, cpus, json!([]))?;
    outcome.exits("server", 0)?;
    for cpu in 1..cpus {
        let client = format!("client{cpu}");
        let said = "clock: 1000 rounds, and it never went back";
        let what = format!("{client} should have seen the clock go on");
        outcome.check(console(&outcome, &client) == [said], &what)?;
    }
    Ok(())
}
