//! What is booted: one file a theme, each scenario on every bed. A test's name is
//! `bed::theme::scenario`.

mod counts;
mod errors;
mod faults;
mod panics;
mod stream;

use libtest_mimic::{Failed, Trial};

/// The beds on which every scenario is booted.
pub const BEDS: &[&str] = &["qemu-svm"];

/// A scenario: a name and what is done on a bed.
type Scenario = (&'static str, fn(&str) -> Result<(), Failed>);

/// Every test, or those of one bed.
pub fn all(only: Option<&str>) -> Vec<Trial> {
    let beds = BEDS
        .iter()
        .filter(|bed| only.is_none_or(|only| only == **bed));
    beds.flat_map(|bed| of_bed(bed)).collect()
}

fn of_bed(bed: &'static str) -> Vec<Trial> {
    let themes = [
        ("stream", stream::SCENARIOS),
        ("counts", counts::SCENARIOS),
        ("errors", errors::SCENARIOS),
        ("faults", faults::SCENARIOS),
        ("panics", panics::SCENARIOS),
    ];
    let plain = themes.into_iter().flat_map(|(theme, scenarios)| {
        scenarios.iter().map(move |(name, scenario)| {
            let scenario = *scenario;
            Trial::test(format!("{bed}::{theme}::{name}"), move || scenario(bed))
        })
    });
    let hostile = faults::HOSTILE.iter().map(|guest| {
        Trial::test(format!("{bed}::faults::{}", guest.name()), move || {
            faults::survives(bed, guest)
        })
    });
    let fatal = panics::FATAL.iter().map(|fatal| {
        Trial::test(format!("{bed}::panics::{}", fatal.name()), move || {
            panics::is_reported(bed, fatal)
        })
    });
    plain.chain(hostile).chain(fatal).collect()
}
