//! A domain that monitors the vcpus of others, on the CPU itself.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::Run;

pub const SCENARIOS: &[Scenario] = &[("a_monitor_and_its_children", a_monitor_and_its_children)];

const MANIFEST: &str = include_str!("../../../tools/manifests/monitor.toml");

/// What is shown in each of the two rounds, and the account.
const SHOWS: usize = 14;

fn a_monitor_and_its_children(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.manifest(MANIFEST)?.go()?;
    let lines = outcome.stdout.lines();
    let told: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("[monitor] monitor "))
        .collect();
    let failed: Vec<_> = told.iter().filter(|line| !line.ends_with(" ok")).collect();
    outcome.check(
        failed.is_empty(),
        &format!("all should be well: {failed:#?}"),
    )?;
    let what = format!("{} lines should be told, not {}", 2 * SHOWS, told.len());
    outcome.check(told.len() == 2 * SHOWS, &what)?;
    outcome.check(
        outcome.stdout.contains("[monitor] the child says hello"),
        "what the child prints should be shown",
    )?;
    outcome
        .ends(0, "ok")?
        .returns_frames()?
        .exits("monitor", 0)?;
    Ok(())
}
