use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::interface::ClockSource;

/// Which of the clocks work.
struct Works(&'static [&'static str]);

struct Clock(u64);

impl ClockSource for Clock {
    fn now_ns(&self) -> u64 {
        self.0
    }
}

macro_rules! clock {
    ($name:literal, $rating:literal) => {
        Offer {
            server: $name,
            rating: Rating($rating),
            open: |works: &Works| {
                if works.0.contains(&$name) {
                    Ok(&Clock($rating))
                } else {
                    Err(Refusal($name))
                }
            },
        }
    };
}

static NATIVE: Backend<Works> = Backend {
    clock_sources: &[clock!("pit", 110), clock!("tsc", 250), clock!("equal", 300)],
    ..Backend::new("native")
};
static PARAVIRTUAL: Backend<Works> = Backend {
    clock_sources: &[clock!("page", 300)],
    ..Backend::new("paravirtual")
};
static OTHER: Backend<Works> = Backend {
    clock_sources: &[clock!("other", 200)],
    ..Backend::new("other")
};
static BACKENDS: [&Backend<Works>; 3] = [&PARAVIRTUAL, &NATIVE, &OTHER];

fn asked(works: &'static [&'static str], forced: Option<&str>) -> Chosen<dyn ClockSource> {
    choose(
        &BACKENDS,
        |backend| backend.clock_sources,
        forced,
        "native",
        &Works(works),
    )
}

fn server(works: &'static [&'static str], forced: Option<&str>) -> &'static str {
    let server = asked(works, forced).server;
    server.map_or("none", |(identity, _)| identity.server)
}

fn verdicts(chosen: &Chosen<dyn ClockSource>) -> Vec<(&'static str, Verdict)> {
    let candidates = chosen.candidates.iter();
    candidates
        .map(|candidate| (candidate.identity.server, candidate.verdict))
        .collect()
}

#[test]
fn the_best_that_works_serves() {
    assert_eq!(server(&["pit", "tsc", "page"], None), "page");
    assert_eq!(server(&["pit", "tsc", "other"], None), "tsc");
    assert_eq!(server(&["pit"], None), "pit");
    assert_eq!(server(&[], None), "none");
    // Of equal ones that of the backend that is listed first.
    assert_eq!(server(&["equal", "page"], None), "page");
    let (identity, clock) = asked(&["tsc"], None).server.unwrap();
    assert_eq!(
        std::format!("{identity} {}", clock.now_ns()),
        "native:tsc 250"
    );
}

#[test]
fn each_offer_says_what_became_of_it() {
    let refused = |name| (name, Verdict::Refused(Refusal(name)));
    assert_eq!(
        verdicts(&asked(&["tsc"], None)),
        vec![
            refused("page"),
            refused("equal"),
            ("tsc", Verdict::Serves),
            ("other", Verdict::Outranked),
            ("pit", Verdict::Outranked),
        ]
    );
}

#[test]
fn a_forced_backend_comes_before_better_ones_and_native_fills_in() {
    assert_eq!(server(&["other", "page", "tsc"], Some("other")), "other");
    assert_eq!(server(&["page", "pit"], Some("other")), "pit");
    assert_eq!(server(&["page"], Some("other")), "none");
    assert_eq!(server(&["page", "pit"], Some("native")), "pit");
    let chosen = asked(&["other", "page"], Some("other"));
    let page = verdicts(&chosen)
        .into_iter()
        .find(|(name, _)| *name == "page");
    assert_eq!(page, Some(("page", Verdict::NotAsked)));
}

proptest! {
    #[test]
    fn at_most_one_serves_and_nobody_is_forgotten(
        works in proptest::sample::subsequence(vec!["pit", "tsc", "equal", "page", "other"], 0..=5),
        forced in proptest::sample::select(vec![None, Some("native"), Some("other"), Some("unknown")]),
    ) {
        let works: &'static [&'static str] = Vec::leak(works);
        let chosen = asked(works, forced);
        prop_assert_eq!(chosen.candidates.len(), 5);
        let serves = |candidate: &&Candidate| candidate.verdict == Verdict::Serves;
        let serving: Vec<_> = chosen.candidates.iter().filter(serves).collect();
        prop_assert_eq!(serving.len(), usize::from(chosen.server.is_some()));
        if let Some((identity, _)) = chosen.server {
            prop_assert_eq!(serving[0].identity, identity);
            prop_assert!(works.contains(&identity.server));
        }
    }
}
