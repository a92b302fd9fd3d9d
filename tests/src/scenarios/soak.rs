//! A short soak: domains make, message and kill others at random, and nothing is lost.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::Run;

/// For one bed of each vendor; what is found depends on luck more than on the bed.
pub const BEDS: [&str; 2] = ["qemu-svm", "bochs-vmx-min"];

pub const SCENARIOS: &[Scenario] = &[("some_seconds_on_two_cpus", |bed| soak(bed, 2))];

const SECONDS: u64 = 5;

/// Behind the rounds in which the domains learn what they need, at least one in which they compare.
const LEAST_ROUNDS: u64 = 21;

fn soak(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let outcome = Run::soak(bed, cpus, SECONDS)?.go()?;
    outcome.ends(0, "ok")?;
    let number = |key: &str| outcome.json[key].as_u64().unwrap_or(0);
    outcome.check(
        number("rounds") >= LEAST_ROUNDS && number("children") > number("rounds"),
        "there should be rounds with children",
    )?;
    Ok(())
}
