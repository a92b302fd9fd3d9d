//! Instruction counts: exact, and the same in every run.

use libtest_mimic::Failed;

use super::Scenario;
use crate::run::{noise, Run};

pub const SCENARIOS: &[Scenario] = &[("two_runs_count_the_same", two_runs_count_the_same)];

fn two_runs_count_the_same(bed: &str) -> Result<(), Failed> {
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
