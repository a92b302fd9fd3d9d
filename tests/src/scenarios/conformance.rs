//! The hypervisor keeps the promises of the guest ABI, as a guest judges it.

use std::collections::BTreeSet;

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::Run;

pub const SCENARIOS: &[Scenario] = &[("every_case_holds", every_case_holds)];

const MANIFEST: &str = include_str!("../../../tools/manifests/conformance.toml");

/// Fewer cases than this would mean that the program has not come to its end.
const LEAST_CASES: usize = 330;

fn every_case_holds(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.manifest(MANIFEST)?.go()?;
    // The lines first: they say what the exit code only counts.
    let lines = outcome.stdout.lines();
    let cases: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("[conformance] conformance "))
        .collect();
    let failed: Vec<_> = cases.iter().filter(|case| !case.ends_with(" ok")).collect();
    let what = format!("every case should hold: {failed:#?}");
    outcome.check(failed.is_empty(), &what)?;
    let distinct: BTreeSet<_> = cases.iter().collect();
    outcome.check(distinct.len() == cases.len(), "no case should run twice")?;
    let what = format!("there should be {LEAST_CASES} cases, not {}", cases.len());
    outcome.check(cases.len() >= LEAST_CASES, &what)?;
    let last = format!(
        "[conformance] conformance: {} cases, 0 failures",
        cases.len()
    );
    let is_told = outcome.stdout.lines().any(|line| line == last);
    outcome.check(is_told, "the last line should count the cases")?;
    outcome.ends(0, "ok")?.returns_frames()?;
    outcome.exits("conformance", 0)?.exits("partner", 0)?;
    outcome.exits("victim", 0)?;
    Ok(())
}
