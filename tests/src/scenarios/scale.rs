//! Hundreds of domains: they start, work and end, cost little memory, and cost the others no time.

use libtest_mimic::Failed;

use super::examples::console;
use super::{Bed, Scenario};
use crate::run::{Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("a_ring_of_256", |bed| ring(bed, 1)),
    ("a_ring_of_256_on_four_cpus", |bed| ring(bed, 4)),
];

/// For one bed of each vendor.
pub const COSTS: &[Scenario] = &[
    ("calls_cost_the_same_beside_254", calls_cost_the_same),
    (
        "making_domains_costs_the_same_beside_254",
        making_costs_the_same,
    ),
];

const BENCH: &str = include_str!("../../../tools/manifests/bench.toml");
const CHILDREN: &str = include_str!("../../../tools/manifests/children.toml");
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

/// Domains of the ring in which nothing ever goes round.
fn sleepers() -> String {
    let ring = RING.replace("count = 256", "count = 254");
    let ring = ring.replace("count=256 rounds=3", "count=254 rounds=0");
    ring.replace("\nmemory = ", "\nbackground = true\nmemory = ")
}

/// What may be more beside them, in percent.
const MORE_PERCENT: u64 = 5;

fn is_the_same(outcome: &Outcome, what: &str, alone: u64, beside: u64) -> Result<(), Failed> {
    let most = alone + alone * MORE_PERCENT / 100;
    let text = format!(
        "{what} should cost at most {most}, {MORE_PERCENT} % more than {alone}, not {beside}"
    );
    outcome.check(alone > 0 && beside <= most, &text)?;
    Ok(())
}

/// What the benchmark says alone (it has two domains), and beside 254 domains that sleep.
fn calls_cost_the_same(bed: &Bed) -> Result<(), Failed> {
    let [alone, beside] = alone_and_beside(bed, BENCH, 256)?;
    let costs = |outcome: &Outcome| -> Vec<(String, u64)> {
        let lines = outcome.stdout.lines();
        let named = lines.filter_map(|line| line.strip_prefix("[bench] bench ")?.split_once(' '));
        named
            .filter_map(|(name, cost)| Some((name.to_owned(), cost.parse().ok()?)))
            .collect()
    };
    let (first, second) = (costs(&alone), costs(&beside));
    alone.check(
        first.len() > 10 && first.len() == second.len(),
        "there should be as many lines",
    )?;
    for ((name, first), (_, second)) in first.iter().zip(&second) {
        is_the_same(&beside, name, *first, *second)?;
    }
    Ok(())
}

/// Thirty children are made, run, and end.
fn making_costs_the_same(bed: &Bed) -> Result<(), Failed> {
    let [alone, beside] = alone_and_beside(bed, CHILDREN, 255)?;
    let cost = |outcome: &Outcome| outcome.domain("maker")["stop"]["instructions"].as_u64();
    let (first, second) = (cost(&alone).unwrap_or(0), cost(&beside).unwrap_or(u64::MAX));
    is_the_same(&beside, "the maker", first, second)
}

fn alone_and_beside(bed: &Bed, manifest: &str, count: usize) -> Result<[Outcome; 2], Failed> {
    let alone = Run::new(bed)?.manifest(manifest)?.count().go()?;
    alone.ends(0, "ok")?.returns_frames()?;
    let both = format!("{manifest}{}", sleepers());
    let beside = Run::new(bed)?.manifest(&both)?.count().go()?;
    beside.ends(0, "ok")?.returns_frames()?;
    let domains = beside.json["domains"].as_array().map_or(0, Vec::len);
    beside.check(domains == count, "all domains should be there")?;
    Ok([alone, beside])
}
