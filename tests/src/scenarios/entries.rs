//! Entries with state that the hypervisor has set, and those that the CPU refuses: each must be explained
//! by the rule of the manual that is broken.
//!
//! `test=entry-rules` breaks every rule in every way that the hypervisor knows
//! (`hypervisor/src/vt/entry_rules`); `test=entry-refused` breaks one in the first domain, so that the
//! explanation takes its way into the report.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{guest_image, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("every_rule_is_explained", every_rule_is_explained),
    (
        "a_vcpu_has_what_its_state_page_gave",
        a_vcpu_has_what_its_state_page_gave,
    ),
    (
        "a_refused_domain_is_explained",
        a_refused_domain_is_explained,
    ),
];

/// Ways to break a rule that must be refused and explained on every bed.
const LEAST_EXPLAINED: u64 = 20;

/// Where an ELF file's header has the entry point.
const ELF_ENTRY: usize = 24;

/// What a bed does not do as the manual says.
struct Laxity {
    /// The beginning of the names of the beds.
    beds: &'static str,
    /// Rules that it does not check, and the ways to break them if it checks others: it enters.
    accepts: &'static [(&'static str, &'static str)],
    /// Rules that cannot be broken there.
    left_out: &'static [(&'static str, &'static str)],
}

const LAXITIES: &[Laxity] = &[
    Laxity {
        beds: "qemu-svm",
        accepts: &[
            ("tlb-control", "QEMU takes what it does not know for 0"),
            ("event-mode", "QEMU looks at the vector alone"),
            ("nested-cr3", "QEMU cuts addresses off"),
            ("g-pat", "QEMU has no memory types"),
        ],
        left_out: &[],
    },
    Laxity {
        beds: "bochs-svm",
        accepts: &[
            ("cr3", "Bochs does not look at CR3 with nested paging"),
            ("tlb-control", "Bochs flushes at every entry"),
            ("event-mode", "Bochs looks at the vector alone"),
        ],
        left_out: &[(
            "long-mode-protection",
            "Bochs takes it for paged real mode and ends with a panic of its own",
        )],
    },
    Laxity {
        beds: "bochs-vmx",
        accepts: &[
            ("debugctl", "Bochs does not look at IA32_DEBUGCTL"),
            ("cr0-pg", "Bochs looks at PAE alone"),
            ("rip-64", "Bochs leaves it to the first fetch"),
            (
                "activity-event 1",
                "Bochs injects anything into halted guests",
            ),
            ("pending-debug 2", "Bochs looks at the lower half alone"),
            ("pending-step", "Bochs does not look at the single step"),
        ],
        left_out: &[],
    },
    Laxity {
        // A real CPU checks everything. What KVM's own checks leave to it has not been seen yet.
        beds: "kvm",
        accepts: &[],
        left_out: &[],
    },
];

fn laxity(bed: &Bed) -> Result<&'static Laxity, Failed> {
    let mut all = LAXITIES.iter();
    let found = all.find(|laxity| bed.name.starts_with(laxity.beds));
    found.ok_or_else(|| format!("say what {} does not check", bed.name).into())
}

fn every_rule_is_explained(bed: &Bed) -> Result<(), Failed> {
    let laxity = laxity(bed)?;
    let left_out: Vec<_> = laxity.left_out.iter().map(|(rule, _)| *rule).collect();
    let words = format!("test=entry-rules leave-out={}", left_out.join(","));
    let run = Run::new(bed)?.input(b"x")?.verbose();
    let outcome = run.option("--hypervisor-args", &words).go()?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    let explained = count(&outcome, "explained")?;
    outcome.check(
        explained >= LEAST_EXPLAINED && count(&outcome, "misexplained")? == 0,
        &format!("at least {LEAST_EXPLAINED} refusals should be explained, none wrongly"),
    )?;
    for way in ways(&outcome, "accepted") {
        let is_known =
            |(rule, _): &(&str, &str)| way == *rule || way.starts_with(&format!("{rule} "));
        let what = format!("{} should refuse {way:?}", bed.name);
        outcome.check(laxity.accepts.iter().any(is_known), &what)?;
    }
    // Every way is in the log, so none is lost among the counts.
    let listed = |sign| ways(&outcome, sign).count() as u64;
    for (sign, key) in [
        ("refused and explained", "explained"),
        ("accepted", "accepted"),
        ("no way", "no_way"),
    ] {
        let is_same = listed(sign) == count(&outcome, key)?;
        outcome.check(is_same, &format!("the log should list what is {key}"))?;
    }
    Ok(())
}

/// The ways of which the log says this: the name of the rule and a number.
fn ways<'a>(outcome: &'a Outcome, sign: &'a str) -> impl Iterator<Item = &'a str> {
    outcome.stderr.lines().filter_map(move |line| {
        let (way, what) = line.split_once("entry rule ")?.1.split_once(": ")?;
        what.starts_with(sign).then_some(way)
    })
}

/// A number of the log's last line about the rules.
fn count(outcome: &Outcome, key: &str) -> Result<u64, Failed> {
    let mut lines = outcome.stderr.lines();
    let line = lines.find(|line| line.contains("entry rules: vendor="));
    let mut words = line.into_iter().flat_map(str::split_ascii_whitespace);
    let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let number = value.and_then(|value| value.parse().ok());
    number.ok_or_else(|| format!("the log should say {key}:\n{}", outcome.stderr).into())
}

/// The test is in the hypervisor (`vt/state/self_test.rs`), which ends with a panic if it fails.
fn a_vcpu_has_what_its_state_page_gave(bed: &Bed) -> Result<(), Failed> {
    let run = Run::new(bed)?.input(b"x")?.verbose();
    // Bochs saves CR2 at an exit of SVM and does not load it at an entry.
    let left_out = if bed.name == "bochs-svm" { "cr2" } else { "" };
    let words = format!("test=state leave-out={left_out}");
    let outcome = run.option("--hypervisor-args", &words).go()?;
    outcome.ends(0, "ok")?.delivers()?.returns_frames()?;
    let said = |what: &str| outcome.stderr.lines().any(|line| line.contains(what));
    for mode in ["real", "protected", "long"] {
        outcome.check(
            said(&format!("a guest in {mode} mode has what it was given")),
            &format!("a guest should have been in {mode} mode"),
        )?;
    }
    outcome.check(
        said("a state that the CPU refuses is explained"),
        "a refused state should be explained",
    )?;
    Ok(())
}

fn a_refused_domain_is_explained(bed: &Bed) -> Result<(), Failed> {
    let run = Run::new(bed)?.input(b"x")?;
    let outcome = run.option("--hypervisor-args", "test=entry-refused").go()?;
    outcome.ends(1, "domain-failed")?.returns_frames()?;
    outcome.stops("producer", "bad-state")?;
    let failure = &outcome.domain("producer")["stop"]["entry_failure"];
    let rules = failure["rules"].as_array().map_or(0, Vec::len);
    let rule = &failure["rules"][0];
    let name = rule["rule"].as_str().unwrap_or_default();
    let text = rule["text"].as_str().unwrap_or_default();
    outcome.check(
        rules == 1 && name.starts_with("dr7") && rule["fields"]["dr7"] == 0x1_0000_0400_u64,
        "the JSON should name the broken rule with the value of DR7",
    )?;
    outcome.check(
        ["(Intel SDM vol. 3, ", "(AMD APM vol. 2, "]
            .iter()
            .any(|manual| text.contains(manual))
            && outcome.stdout.contains(text),
        "the table should say which rule of which manual is broken",
    )?;
    let others = ["consumer"].map(|name| &outcome.domain(name)["stop"]["entry_failure"]);
    outcome.check(
        others.iter().all(|failure| failure.is_null()),
        "who was entered needs no explanation",
    )?;
    // A CPU that overwrites the state it refuses must not have its own place taken for the guest's.
    let image = guest_image()?;
    let entry = image.get(ELF_ENTRY..).and_then(|bytes| bytes.first_chunk());
    let entry = entry.map(|bytes| u64::from_le_bytes(*bytes));
    let rip = outcome.domain("producer")["stop"]["rip"].as_u64();
    outcome.check(
        entry.is_some() && rip == entry,
        "the guest should be at its entry",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::BEDS;
    use super::*;

    #[test]
    fn each_bed_is_described() {
        for bed in BEDS {
            assert!(laxity(bed).is_ok(), "{}", bed.name);
        }
    }
}
