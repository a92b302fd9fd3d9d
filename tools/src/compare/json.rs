//! A comparison for machines. Its keys are listed in `tools/README.md`.

use serde::Serialize;

use super::Comparison;
use crate::json::{trace_keys, Trace, VerdictKeys};
use crate::report::DomainReport;
use crate::run::What;
use crate::verdict::Verdict;

/// The version of the keys.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    manifest: String,
    verdict: VerdictKeys<'a>,
    beds: Vec<Bed<'a>>,
    differences: Vec<Difference<'a>>,
    expected: Vec<Expected<'a>>,
}

#[derive(Serialize)]
struct Bed<'a> {
    name: &'a str,
    verdict: VerdictKeys<'a>,
    domains: Vec<Domain<'a>>,
}

#[derive(Serialize)]
struct Domain<'a> {
    name: &'a str,
    end: Option<End>,
    console: &'a [String],
    sent: u64,
    received: u64,
    notified: u64,
    trace: Option<Trace<'a>>,
}

#[derive(Serialize)]
struct End {
    reason: String,
    detail: u64,
}

#[derive(Serialize)]
struct Difference<'a> {
    domain: &'a str,
    aspect: &'static str,
    beds: &'a [String; 2],
    account: &'a str,
    expected: &'a [usize],
}

#[derive(Serialize)]
struct Expected<'a> {
    domain: &'a str,
    bed: Option<&'a str>,
    what: String,
    why: &'a str,
    needed: bool,
}

/// The comparison as JSON text; it is missing if a run came to nothing.
pub fn render(what: &What, verdict: &Verdict, comparison: Option<&Comparison>) -> String {
    let document = Document {
        schema: SCHEMA,
        manifest: what.manifest.display().to_string(),
        verdict: VerdictKeys::new(verdict),
        beds: comparison.map_or(Vec::new(), beds),
        differences: comparison.map_or(Vec::new(), differences),
        expected: comparison.map_or(Vec::new(), expected),
    };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn beds(comparison: &Comparison) -> Vec<Bed<'_>> {
    let showings = comparison.showings.iter();
    let beds = showings.map(|showing| Bed {
        name: &showing.bed,
        verdict: VerdictKeys::new(&showing.verdict),
        domains: showing.report.domains.iter().map(domain).collect(),
    });
    beds.collect()
}

fn domain(domain: &DomainReport) -> Domain<'_> {
    Domain {
        name: &domain.name,
        end: domain.stop.map(|stop| End {
            reason: stop.name(),
            detail: stop.detail,
        }),
        console: &domain.console.lines,
        sent: domain.traffic.sent,
        received: domain.traffic.received,
        notified: domain.traffic.notified,
        trace: domain.trace().map(trace_keys),
    }
}

fn differences(comparison: &Comparison) -> Vec<Difference<'_>> {
    let differences = comparison.differences.iter();
    let keys = differences.map(|difference| Difference {
        domain: &difference.domain,
        aspect: difference.aspect.name(),
        beds: &difference.beds,
        account: &difference.account,
        expected: &difference.rules,
    });
    keys.collect()
}

fn expected(comparison: &Comparison) -> Vec<Expected<'_>> {
    let rules = comparison.rules.iter().enumerate();
    let keys = rules.map(|(index, rule)| Expected {
        domain: &rule.domain,
        bed: rule.bed.as_deref(),
        what: rule.what.to_string(),
        why: &rule.why,
        needed: comparison.is_used(index),
    });
    keys.collect()
}
