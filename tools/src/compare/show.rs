//! A comparison for people.

use super::{Comparison, Difference};
use crate::fold;

/// Each domain as the first bed showed it, then what differs, then what on the list was not needed.
pub fn text(comparison: &Comparison) -> String {
    let mut parts = Vec::new();
    if let Some(first) = comparison.showings.first() {
        for domain in &first.report.domains {
            let calls = domain.trace().map_or("not recorded".to_owned(), |trace| {
                fold::text(&trace.runs, trace.unrecorded)
            });
            let end = domain
                .stop
                .map_or("not reported".to_owned(), |stop| stop.short());
            let (name, lines) = (&domain.name, domain.console.lines.len());
            let (sent, received) = (domain.traffic.sent, domain.traffic.received);
            parts.push(format!(
                "{name}: {end}; {lines} lines; {sent} messages sent, {received} received\n  calls: {calls}"
            ));
        }
    }
    let (explained, unexplained): (Vec<_>, Vec<_>) = comparison
        .differences
        .iter()
        .partition(|difference| !difference.rules.is_empty());
    parts.extend(
        explained
            .into_iter()
            .map(|found| expected(comparison, found)),
    );
    parts.extend(
        unexplained
            .into_iter()
            .map(|found| heading("DIFFERENT", found)),
    );
    for (index, rule) in comparison.rules.iter().enumerate() {
        if !comparison.is_used(index) {
            parts.push(format!(
                "not needed here: {} of {} on the list of expected differences",
                rule.what, rule.domain
            ));
        }
    }
    parts.join("\n\n")
}

fn heading(word: &str, difference: &Difference) -> String {
    let [one, other] = &difference.beds;
    format!(
        "{word}: {} of {}, {one} and {other}, {}",
        difference.aspect.name(),
        difference.domain,
        difference.account
    )
}

fn expected(comparison: &Comparison, difference: &Difference) -> String {
    let rules = difference.rules.iter();
    let mut reasons: Vec<_> = rules
        .filter_map(|rule| comparison.rules.get(*rule))
        .map(|rule| format!("    expected: {}", rule.why))
        .collect();
    reasons.dedup();
    format!("{}\n{}", heading("differs", difference), reasons.join("\n"))
}
