//! The same manifest on several beds: do the domains observe the same?
//!
//! What a domain observes is how it ended, what it wrote, its messages, and its calls with their
//! statuses, in their order. `difference` puts two beds side by side, `expected` reads the list of
//! differences that are no mistakes, `show` and `json` say what came of it. Neighbours: `run` runs
//! each bed, `report` has what was seen.
//!
//! Invariant: a difference that is not on the list is never passed over.

mod difference;
mod expected;
mod json;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use difference::Pair;
pub use difference::{Aspect, Difference};
pub use expected::{Rule, What};

use crate::beds::{self, Counting};
use crate::report::Report;
use crate::run::{self, Options};
use crate::screen::Screen;
use crate::verdict::{Kind, Verdict};

/// What to compare.
pub struct Request {
    /// The options of each run, but for the bed.
    pub run: Options,
    /// The beds; empty for every one that is installed.
    pub beds: Vec<String>,
    /// The list of expected differences.
    pub expected: PathBuf,
}

/// What one bed showed.
pub struct Showing {
    /// The bed.
    pub bed: String,
    /// Whether its run worked.
    pub verdict: Verdict,
    /// What was reported.
    pub report: Report,
}

/// What came of a comparison.
pub struct Comparison {
    /// What each bed showed; the others are compared with the first.
    pub showings: Vec<Showing>,
    /// The rules for the manifest.
    pub rules: Vec<Rule>,
    /// Every difference, explained or not.
    pub differences: Vec<Difference>,
}

/// Runs the manifest on each bed and compares. An error is a run of which nothing can be said.
pub fn run(request: &Request, screen: &Screen) -> Result<Comparison, Verdict> {
    let beds = chosen(&request.beds)?;
    let rules = expected::load(&request.expected, &request.run.what.manifest)?;
    let mut showings = Vec::new();
    for bed in beds {
        let mut options = request.run.clone();
        options.bed.clone_from(&bed);
        let run = run::run(&options, screen)?;
        if !is_comparable(run.verdict.kind) {
            let text = format!("{bed} cannot be compared: {}", run.verdict.text);
            return Err(Verdict::new(run.verdict.kind, text));
        }
        screen.result(&format!("{bed}: {}", run.verdict.text));
        showings.push(Showing {
            bed,
            verdict: run.verdict,
            report: run.report,
        });
    }
    Ok(compare(showings, rules))
}

/// Compares every other bed with the first.
fn compare(showings: Vec<Showing>, rules: Vec<Rule>) -> Comparison {
    let mut differences = Vec::new();
    if let Some((first, others)) = showings.split_first() {
        for other in others {
            let domains = first.report.domains.iter().zip(&other.report.domains);
            for (one, two) in domains {
                let pair = Pair {
                    beds: [&first.bed, &other.bed],
                    domains: [one, two],
                    rules: &rules,
                };
                differences.extend(pair.differences());
            }
        }
    }
    Comparison {
        showings,
        rules,
        differences,
    }
}

impl Comparison {
    /// The differences that are not on the list.
    pub fn unexplained(&self) -> impl Iterator<Item = &Difference> {
        let differences = self.differences.iter();
        differences.filter(|difference| difference.rules.is_empty())
    }

    /// Whether a rule has explained a difference.
    pub fn is_used(&self, rule: usize) -> bool {
        let mut differences = self.differences.iter();
        differences.any(|difference| difference.rules.contains(&rule))
    }

    /// What came of it.
    pub fn verdict(&self) -> Verdict {
        let beds: Vec<_> = self
            .showings
            .iter()
            .map(|showing| showing.bed.as_str())
            .collect();
        let beds = beds.join(", ");
        let (all, unexplained) = (self.differences.len(), self.unexplained().count());
        match (all, unexplained) {
            (0, _) => Verdict::new(Kind::Ok, format!("equal: the domains observe the same on {beds}")),
            (_, 0) => Verdict::new(
                Kind::Ok,
                format!("equal but for what is expected: the domains observe the same on {beds}"),
            ),
            _ => Verdict::new(
                Kind::BedsDiffer,
                format!("the beds differ, {unexplained} times unexpectedly; each first place is shown above"),
            ),
        }
    }
}

/// The beds that are named, or every one that is installed.
fn chosen(named: &[String]) -> Result<Vec<String>, Verdict> {
    let beds: Vec<String> = if named.is_empty() {
        let installed = beds::all();
        let installed = installed
            .iter()
            .filter(|bed| bed.counting() != Counting::Never)
            .filter(|bed| beds::missing(bed.needs()).is_none());
        installed.map(|bed| bed.name().to_owned()).collect()
    } else {
        named.to_vec()
    };
    let is_twice = |(index, bed): (usize, &String)| beds[..index].contains(bed);
    if beds.iter().enumerate().any(is_twice) {
        let text = "a bed is named twice; a run is exact and would equal itself";
        return Err(Verdict::new(Kind::Invalid, text));
    }
    // Before the first of them runs.
    for bed in &beds {
        beds::named(bed).map_err(|text| Verdict::new(Kind::Invalid, text))?;
    }
    if beds.len() > 1 {
        return Ok(beds);
    }
    let (kind, advice) = match named {
        [] => (Kind::Missing, "install another; nuncio beds says how"),
        _ => (Kind::Invalid, "name another with --bed"),
    };
    let text = format!(
        "a comparison takes two beds, and there is {}; {advice}",
        beds.join("")
    );
    Err(Verdict::new(kind, text))
}

/// Whether the domains came to an end of which a bed's report tells everything.
fn is_comparable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Ok | Kind::DomainFailed | Kind::DigestMissing | Kind::DigestDiffers
    )
}

pub use json::render;
pub use show::text;
