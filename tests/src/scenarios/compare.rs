//! All beds at once: the domains of the project's manifests observe the same on each, or the list
//! of expected differences says why not.

use libtest_mimic::Failed;

use super::{Bed, BEDS};
use crate::run::{noise, project, Run};

/// A manifest that comes with the project, and how many bytes it is given.
pub struct Compared {
    /// The scenario's name.
    pub name: &'static str,
    manifest: &'static str,
    input_bytes: Option<usize>,
    /// Whether there must be no difference at all.
    is_exact: bool,
}

/// What is compared.
pub const MANIFESTS: &[Compared] = &[
    Compared {
        name: "short_stream",
        manifest: "stream",
        // Nobody ever has to wait: nothing depends on who runs when.
        input_bytes: Some(4097),
        is_exact: true,
    },
    Compared {
        name: "stream",
        manifest: "stream",
        // More than the shared memory holds: the producer has to wait for the consumer.
        input_bytes: Some(3_000_000),
        is_exact: false,
    },
    Compared {
        name: "bench",
        manifest: "bench",
        input_bytes: None,
        is_exact: false,
    },
    Compared {
        name: "conformance",
        manifest: "conformance",
        input_bytes: None,
        is_exact: false,
    },
];

/// The beds that are compared: those on which a run is exact.
pub fn beds() -> impl Iterator<Item = &'static Bed> {
    BEDS.iter().filter(|bed| bed.counts())
}

/// The beds agree, and every line of the list for this manifest was needed.
pub fn is_equal(compared: &Compared) -> Result<(), Failed> {
    let path = format!("tools/manifests/{}.toml", compared.manifest);
    let path = project().join(path);
    let mut run = Run::comparing(beds())?.option("--manifest", &path.display().to_string());
    if let Some(length) = compared.input_bytes {
        run = run.input(&noise(length))?;
    }
    if compared.is_exact {
        run = run
            .file("empty.toml", b"")?
            .option("--expected", "empty.toml");
    }
    let outcome = run.go()?;
    outcome.ends(0, "ok")?;
    let beds = outcome.json["beds"].as_array().map_or(0, Vec::len);
    outcome.check(beds == self::beds().count(), "every bed should be compared")?;
    for bed in outcome.json["beds"].as_array().into_iter().flatten() {
        outcome.check(bed["verdict"]["ok"] == true, "every run should work")?;
        for domain in bed["domains"].as_array().into_iter().flatten() {
            let trace = &domain["trace"];
            let is_whole = trace["unrecorded"] == 0;
            outcome.check(is_whole, "every call should be recorded")?;
            let last = &trace["groups"].as_array().and_then(|groups| groups.last());
            let ends = last.is_some_and(|group| group["calls"][0]["verb"] == "stop");
            outcome.check(ends, "the last call should be stop")?;
        }
    }
    for expected in outcome.json["expected"].as_array().into_iter().flatten() {
        let what = format!("{expected} is no longer needed; remove it from the list");
        outcome.check(expected["needed"] == true, &what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_of_the_list_is_compared() {
        let list = project().join("tools/expected-differences.toml");
        let list: toml::Table = toml::from_str(&std::fs::read_to_string(list).unwrap()).unwrap();
        let entries = list["expected"].as_array().unwrap();
        assert!(!entries.is_empty());
        for entry in entries {
            let manifest = entry["manifest"].as_str().unwrap();
            let is_compared = |known: &Compared| {
                manifest == format!("manifests/{}.toml", known.manifest) && !known.is_exact
            };
            assert!(
                MANIFESTS.iter().any(is_compared),
                "nobody finds out whether the entries for {manifest} are needed"
            );
        }
    }
}
