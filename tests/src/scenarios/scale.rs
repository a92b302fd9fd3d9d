//! Hundreds of domains: they start, work and end, cost little memory, and cost the others no time.

use libtest_mimic::Failed;

use super::examples::console;
use super::{Bed, Scenario};
use crate::run::{Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("a_ring_of_256", |bed| ring(bed, 1)),
    ("a_ring_of_256_on_four_cpus", |bed| ring(bed, 4)),
];

const RING: &str = include_str!("../../../guest-abi/examples/ring/manifest.toml");
const DOMAINS: u64 = 256;

/// What the hypervisor may take for a small domain, page tables included, in bytes.
const DOMAIN_BYTES: u64 = 64 << 10;

fn ring(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let run = Run::new(bed)?.manifest(RING)?;
    let outcome = run.option("--cpus", &cpus.to_string()).go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    let said = format!("ring: 3 rounds of {DOMAINS} ok");
    outcome.check(
        console(&outcome, "node-0") == [&said],
        "all should have passed it on",
    )?;
    for number in 0..DOMAINS {
        let name = format!("node-{number}");
        outcome.exits(&name, 0)?;
        let cpu = &outcome.domain(&name)["stop"]["cpu"];
        outcome.check(*cpu == number % cpus, "they should be on the CPUs in turn")?;
    }
    takes_little(&outcome)
}

fn takes_little(outcome: &Outcome) -> Result<(), Failed> {
    let number = |key: &str| outcome.json["built"][key].as_u64().unwrap_or(u64::MAX);
    let bytes = number("frames")
        .saturating_mul(4096)
        .saturating_add(number("heap_bytes"));
    let each = bytes / DOMAINS;
    let what = format!("a domain should take at most {DOMAIN_BYTES} bytes, not {each}");
    outcome.check((1..=DOMAIN_BYTES).contains(&each), &what)?;
    Ok(())
}
