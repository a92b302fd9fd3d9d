//! Domains that a domain makes: they run, are watched and destroyed, and leave nothing behind.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::Run;

pub const SCENARIOS: &[Scenario] = &[
    ("a_maker_and_its_children", a_maker_and_its_children),
    ("a_child_moves_between_two_cpus", |bed| moves(bed, 40, 2)),
    ("a_child_moves_round_four_cpus", |bed| moves(bed, 40, 4)),
];

const NOMAD: &str = include_str!("../../../tools/manifests/nomad.toml");
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

fn moves(bed: &Bed, moves: u64, cpus: u64) -> Result<(), Failed> {
    let (here, there) = ("moves=200 cpus=4", format!("moves={moves} cpus={cpus}"));
    let text = NOMAD.replace(here, &there);
    let text = text.replace("\ncpus = 4\n", &format!("\ncpus = {cpus}\n"));
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome.ends(0, "ok")?.returns_frames()?.exits("maker", 0)?;
    let elsewhere = moves - moves / cpus;
    for moved in [
        format!(", {elsewhere} elsewhere"),
        " of one that runs".to_owned(),
        " of one that calls".to_owned(),
    ] {
        let line = format!("[maker] nomad: {moves} moves{moved}");
        outcome.check(
            outcome.stdout.contains(&line),
            &format!("the console should say {line:?}"),
        )?;
    }
    Ok(())
}
