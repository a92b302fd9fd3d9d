//! What is booted: one file a theme, each scenario on every bed. A test's name is
//! `bed::theme::scenario`.

mod beds;
mod counts;
mod entries;
mod errors;
mod faults;
mod image;
mod panics;
mod stream;

use libtest_mimic::{Failed, Trial};

pub use beds::{Bed, BEDS};

/// A scenario: a name and what is done on a bed.
type Scenario = (&'static str, fn(&Bed) -> Result<(), Failed>);

/// Every test, or those of one bed.
pub fn all(only: Option<&Bed>) -> Vec<Trial> {
    let is_wanted = |bed: &&Bed| only.is_none_or(|only| only.name == bed.name);
    BEDS.iter().filter(is_wanted).flat_map(of_bed).collect()
}

fn of_bed(bed: &'static Bed) -> Vec<Trial> {
    let mut themes = vec![
        ("stream", stream::SCENARIOS),
        ("counts", counts::SCENARIOS),
        ("entries", entries::SCENARIOS),
        ("errors", errors::SCENARIOS),
        ("faults", faults::SCENARIOS),
        ("panics", panics::SCENARIOS),
    ];
    if bed.is_qemu {
        themes.push(("image", image::SCENARIOS));
        themes.push(("panics", panics::DISTURBED));
    }
    let plain = themes.into_iter().flat_map(|(theme, scenarios)| {
        scenarios.iter().map(move |(name, scenario)| {
            let scenario = *scenario;
            trial(bed, theme, name, move || scenario(bed))
        })
    });
    let hostile = faults::HOSTILE.iter().map(|guest| {
        trial(bed, "faults", &guest.name(), move || {
            faults::survives(bed, guest)
        })
    });
    let fatal = panics::FATAL.iter().map(|fatal| {
        trial(bed, "panics", &fatal.name(), move || {
            panics::is_reported(bed, fatal)
        })
    });
    plain.chain(hostile).chain(fatal).collect()
}

fn trial(
    bed: &Bed,
    theme: &str,
    name: &str,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let scenario = format!("{theme}::{name}");
    let is_ignored = bed.cannot(&scenario);
    Trial::test(format!("{}::{scenario}", bed.name), run).with_ignored_flag(is_ignored)
}
