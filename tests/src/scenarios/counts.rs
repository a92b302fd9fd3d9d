//! Instruction counts: exact, the same in every run, and within their budgets.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{noise, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("two_runs_count_the_same", two_runs_count_the_same),
    ("calls_stay_in_their_budgets", calls_stay_in_their_budgets),
];

const BENCH: &str = include_str!("../../../tools/manifests/bench.toml");

/// The most instructions that each line of the benchmark may show. They are exact for one compiler;
/// the budgets leave a tenth for another one's taste.
const BUDGETS: [(&str, u64); 17] = [
    ("clock", 33),
    ("clock-by-hand", 40),
    ("cpuid", 177),
    ("hello", 155),
    ("query", 205),
    ("notify-coalesced", 211),
    ("submit-notify-16", 344),
    ("notify", 339),
    ("notify-counted", 229),
    ("notify-held", 215),
    ("send-receive-24", 923),
    ("send-receive-64", 1_165),
    ("call-reply-8", 2_032),
    ("call-reply-64", 2_869),
    ("map-unmap", 1_357),
    ("run-exit", 2_471),
    ("exit-to-domain", 3_017),
];

/// How often a message's bytes are moved by string instructions, one at a time, on beds that count
/// each.
const COPIES: u64 = 6;

fn calls_stay_in_their_budgets(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.manifest(BENCH)?.count().go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    for (name, budget) in BUDGETS {
        let budget = budget * bed.budget_percent / 100;
        let copied_bytes: Option<u64> = ["send-receive-", "call-reply-"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix)?.parse().ok());
        let budget = match copied_bytes {
            Some(bytes) if bed.counts_repetitions => budget + COPIES * bytes,
            _ => budget,
        };
        let prefix = format!("[bench] bench {name} ");
        let line = outcome
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&prefix));
        let cost = line.and_then(|number| number.parse::<u64>().ok());
        let what = format!("{name} should cost at most {budget} instructions, not {cost:?}");
        outcome.check(cost.is_some_and(|cost| (1..=budget).contains(&cost)), &what)?;
    }
    Ok(())
}

fn two_runs_count_the_same(bed: &Bed) -> Result<(), Failed> {
    let run = Run::new(bed)?.input(&noise(300_000))?.count();
    let (first, second) = (run.go()?, run.go()?);
    first.ends(0, "ok")?.delivers()?.returns_frames()?;
    second.ends(0, "ok")?.delivers()?;
    let instructions = &first.domain("consumer")["stop"]["instructions"];
    first.check(
        instructions.as_u64() > Some(1_000_000),
        "hashing takes instructions",
    )?;
    first.check(
        first.stdout.contains("instructions"),
        "the table should show instructions",
    )?;
    for key in ["domains", "frames", "boot", "digest"] {
        let is_same = first.json[key] == second.json[key];
        let what = format!(
            "{key} should be the same:\n{}\n{}",
            first.json[key], second.json[key]
        );
        first.check(is_same, &what)?;
    }
    Ok(())
}
