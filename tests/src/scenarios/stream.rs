//! The main job: a file crosses from one domain to the other, and its digest is right.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{noise, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("empty_file", |bed| crosses(bed, 0)),
    ("one_byte", |bed| crosses(bed, 1)),
    ("a_page_and_a_byte", |bed| crosses(bed, 4097)),
    ("twenty_mebibytes", |bed| crosses(bed, 20 << 20)),
];

fn crosses(bed: &Bed, length: usize) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.input(&noise(length))?.go()?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    outcome.exits("producer", 0)?.exits("consumer", 0)?;
    let sentence = format!("of {length} bytes, as computed by consumer; equal to the host's");
    outcome.check(
        outcome.stdout.contains(&sentence),
        "the digest should be shown",
    )?;

    let (producer, consumer) = (outcome.domain("producer"), outcome.domain("consumer"));
    outcome.check(
        outcome.json["input"]["bytes"] == length,
        "the JSON should have the length",
    )?;
    outcome.check(
        producer["sent"].as_u64() > Some(0),
        "the producer should send",
    )?;
    outcome.check(
        consumer["received"] == producer["calls"]["send"],
        "every message should arrive",
    )?;
    bulk_crosses_in_memory(&outcome, length)
}

/// A call per page would be 256 calls per MiB.
fn bulk_crosses_in_memory(outcome: &crate::run::Outcome, length: usize) -> Result<(), Failed> {
    let sends = outcome.domain("producer")["calls"]["send"]
        .as_u64()
        .unwrap_or(u64::MAX);
    let pages = (length as u64).div_ceil(4096);
    outcome.check(
        sends < 16 + pages / 2,
        "there should be far fewer messages than pages",
    )?;
    Ok(())
}
