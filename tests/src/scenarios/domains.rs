//! Domains that a domain makes: they run, are watched and destroyed, and leave nothing behind.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::Run;

pub const SCENARIOS: &[Scenario] = &[("a_maker_and_its_children", a_maker_and_its_children)];

const CHILDREN: &str = include_str!("../../../tools/manifests/children.toml");

fn a_maker_and_its_children(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.manifest(CHILDREN)?.go()?;
    outcome.ends(0, "ok")?.returns_frames()?.exits("maker", 0)?;
    outcome.check(
        outcome.stdout.contains("[maker] children: 10 rounds ok"),
        "every round should end well",
    )?;
    let starts = &outcome.domain("maker")["calls"]["start"];
    outcome.check(*starts == 30, "three children should be started in a round")?;
    Ok(())
}
