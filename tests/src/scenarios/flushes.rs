//! What is asked for and done about cached translations, as the log of flushes shows it: emulators forget
//! more than CPUs do, so nothing else shows that a flush is missing.

use std::collections::BTreeSet;

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::flush_log::{FlushLog, Step};
use crate::run::{Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("unmap_revocation_and_identifiers", unmap_and_identifiers),
    ("revocation_from_two", |bed| revocation(bed, 2)),
    ("revocation_from_four", |bed| revocation(bed, 4)),
    ("vcpus_that_move", vcpus_that_move),
];

const CHILDREN: &str = include_str!("../../../tools/manifests/children.toml");
const NOMAD: &str = include_str!("../../../tools/manifests/nomad.toml");
const REVOKE: &str = include_str!("../../../tools/manifests/revoke.toml");

/// What the manifest says, and how many of the domains of a round run.
const ROUNDS: usize = 10;
const RUNNING_CHILDREN: usize = 2;

/// The number of the first domain's vcpu, and of its space.
const MAKER: u64 = 0;

fn go(bed: &Bed, cpus: u64, manifest: &str) -> Result<(Outcome, FlushLog), Failed> {
    let run = Run::new(bed)?.manifest(manifest)?.verbose();
    let run = run.option("--hypervisor-args", "trace=flushes");
    let outcome = run.option("--cpus", &cpus.to_string()).go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    let log = FlushLog::read(&outcome.stderr)?;
    let flaws = log.flaws();
    outcome.check(flaws.is_empty(), &format!("in the log: {flaws:#?}"))?;
    Ok((outcome, log))
}

/// A domain makes others, looks at their memory through windows of its own, and takes memory back from
/// one of each round.
fn unmap_and_identifiers(bed: &Bed) -> Result<(), Failed> {
    let (outcome, log) = go(bed, 1, CHILDREN)?;
    let steps = log.of_cpu(0);
    let is_own_change = |step: &Step| *step == Step::Changed { space: MAKER };
    let is_own_flush = |step: &Step| {
        matches!(
            step,
            Step::Stale {
                vcpu: MAKER,
                space: MAKER
            }
        )
    };
    let own_steps = steps
        .iter()
        .filter(|step| is_own_change(step) || is_own_flush(step));
    let own_steps: Vec<&Step> = own_steps.copied().collect();
    let (pairs, last) = own_steps.as_chunks::<2>();
    let is_pair = |pair: &[&Step; 2]| is_own_change(pair[0]) && is_own_flush(pair[1]);
    let what = format!("each unmap should be followed by a flush: {own_steps:?}");
    outcome.check(pairs.len() >= ROUNDS && pairs.iter().all(is_pair), &what)?;
    // Its end takes everything out.
    outcome.check(last.len() == 1 && is_own_change(last[0]), &what)?;
    let revoked = steps.iter().filter_map(|step| match step {
        Step::Stale { vcpu, space } if *vcpu != MAKER => Some(space),
        _ => None,
    });
    let revoked: BTreeSet<_> = revoked.collect();
    let what = format!("a domain of each round should lose its memory: {revoked:?}");
    outcome.check(revoked.len() == ROUNDS, &what)?;
    // The maker, and those that it makes: nobody begins with what another one's frames have left behind.
    let begun = log.beginnings(0);
    let what = format!("each vcpu should begin with a flush or a new identifier: {begun}");
    outcome.check(begun > ROUNDS * RUNNING_CHILDREN, &what)?;
    Ok(())
}

/// Domains on other CPUs write to memory that the first one takes back.
fn revocation(bed: &Bed, cpus: u8) -> Result<(), Failed> {
    let manifest = (1..4).fold(REVOKE.to_owned(), |text, cpu: u8| {
        let last = (cpus - 1).min(cpu);
        text.replace(&format!("\ncpu = {cpu}\n"), &format!("\ncpu = {last}\n"))
    });
    let (outcome, log) = go(bed, cpus.into(), &manifest)?;
    for cpu in 1..cpus {
        let space = log.told(0, cpu);
        let flushed = space.filter(|space| log.forgets(cpu, *space));
        let what = format!("CPU {cpu} should be told and forget; it was told of {space:?}");
        outcome.check(flushed.is_some(), &what)?;
    }
    Ok(())
}

/// Wherever a vcpu comes to, it finds nothing of what it, or anybody, has left there before.
fn vcpus_that_move(bed: &Bed) -> Result<(), Failed> {
    const MOVES: usize = 12;
    let words = format!("moves={MOVES} cpus=2");
    let manifest = NOMAD.replace("moves=200 cpus=4", &words);
    let manifest = manifest.replace("\ncpus = 4\n", "\ncpus = 2\n");
    let (outcome, log) = go(bed, 2, &manifest)?;
    // Half of the moves lead to the second CPU, of one that is started there and of one that runs.
    let begun = log.beginnings(1);
    let what = format!("each vcpu should begin anew on the second CPU: {begun}");
    outcome.check(begun >= MOVES, &what)?;
    Ok(())
}
