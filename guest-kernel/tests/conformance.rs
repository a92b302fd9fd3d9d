//! The cases of `program=conformance` against the specification: what the tables of errors list is
//! shown by a case, or is on the list of what no guest can bring about.

#[path = "../../guest-abi/tests/document/mod.rs"]
#[allow(dead_code)] // The tests of the ABI use the rest.
mod document;

use std::collections::BTreeSet;

use guest_kernel::programs::conformance::{tables, Shows, OUT_OF_REACH};
use nuncio_abi::{Error, Verb};

/// A verb, an error, and which of the places of that error in the verb's table it is.
type Listed = (String, Error, usize);

/// What the specification lists.
fn specified() -> BTreeSet<(String, u64, usize)> {
    let mut listed = Vec::new();
    for verb in Verb::ALL {
        let rows = document::table(&document::heading(*verb), "Error");
        let mut seen: Vec<Error> = Vec::new();
        for name in document::first_column(&rows) {
            let error = Error::ALL.iter().find(|error| error.name() == name);
            let error = *error.unwrap_or_else(|| panic!("{verb}: {name} is no error"));
            let place = seen.iter().filter(|before| **before == error).count();
            seen.push(error);
            listed.push((verb.name().to_string(), error, place));
        }
    }
    // It holds for all verbs, so no table has it.
    listed.push(("verb".into(), Error::UnknownVerb, 0));
    sorted(listed)
}

fn shown() -> BTreeSet<(String, u64, usize)> {
    let cases = tables().iter().flat_map(|table| {
        let shown = table.cases.iter().filter_map(|case| match case.shows {
            Shows::Error(error, place) => Some((table.of.to_string(), error, place)),
            Shows::Behaviour => None,
        });
        shown.collect::<Vec<_>>()
    });
    sorted(cases.collect())
}

fn out_of_reach() -> BTreeSet<(String, u64, usize)> {
    let rows = OUT_OF_REACH.iter();
    sorted(
        rows.map(|row| (row.verb.name().to_string(), row.error, row.place))
            .collect(),
    )
}

fn sorted(listed: Vec<Listed>) -> BTreeSet<(String, u64, usize)> {
    let by_number = |(of, error, place): Listed| (of, error.number(), place);
    listed.into_iter().map(by_number).collect()
}

#[test]
fn every_error_that_is_specified_is_shown_or_out_of_reach() {
    let known: BTreeSet<_> = shown().union(&out_of_reach()).cloned().collect();
    let missing: Vec<_> = specified().difference(&known).cloned().collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn every_error_that_is_shown_is_specified() {
    let specified = specified();
    let unknown: Vec<_> = shown().difference(&specified).cloned().collect();
    assert!(unknown.is_empty(), "no table lists {unknown:?}");
    let unknown: Vec<_> = out_of_reach().difference(&specified).cloned().collect();
    assert!(unknown.is_empty(), "no table lists {unknown:?}");
}

#[test]
fn what_is_out_of_reach_is_not_shown_and_has_a_reason() {
    let both: Vec<_> = shown().intersection(&out_of_reach()).cloned().collect();
    assert!(both.is_empty(), "a case shows {both:?}");
    assert!(OUT_OF_REACH.iter().all(|row| !row.why.is_empty()));
}

#[test]
fn every_verb_has_cases_and_no_two_have_one_name() {
    for verb in Verb::ALL {
        let mut of_verb = tables().iter().filter(|table| table.of == verb.name());
        let has_both = |table: &guest_kernel::programs::conformance::Table| {
            let shows = |behaviour| {
                let is = |shows| (shows == Shows::Behaviour) == behaviour;
                table.cases.iter().any(|case| is(case.shows))
            };
            shows(true) && shows(false)
        };
        assert!(of_verb.any(has_both), "{verb}");
    }
    let mut names = BTreeSet::new();
    for table in tables() {
        for case in table.cases {
            let shows = match case.shows {
                Shows::Error(error, _) => error.name(),
                Shows::Behaviour => "behaviour",
            };
            assert!(
                names.insert((table.of, shows, case.name)),
                "two cases are called {} {shows} {}",
                table.of,
                case.name
            );
        }
    }
}
