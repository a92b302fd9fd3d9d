//! The soak: domains that make, message and kill children at random for a time, and look whether anything
//! is lost.
//!
//! Fills numbers into `tools/manifests/soak.toml` and runs it. The domains judge by themselves (see
//! `guest-kernel/src/programs/soak/`); here it is seen to that they go on saying so.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::json::VerdictKeys;
use crate::report::Report;
use crate::run::{self, Options};
use crate::screen::Screen;
use crate::verdict::{Kind, Verdict};

/// The domain that says how far all are.
const SPEAKER: &str = "soak-0";
/// So long nothing may be heard: the domains speak every two seconds of their clock.
const SILENCE_SECONDS: u64 = 120;
/// What a run may take beyond its time: to boot, and to finish the last rounds.
const GRACE_SECONDS: u64 = 300;
/// The version of the keys of the JSON document.
const SCHEMA: u32 = 1;

/// What is to be soaked, and how long.
#[derive(Clone, Debug)]
pub struct Request {
    /// The manifest into which numbers are filled.
    pub manifest: PathBuf,
    /// Where the images are.
    pub images: PathBuf,
    /// The name of the bed.
    pub bed: String,
    /// How long, in seconds of the machine's clock.
    pub seconds: u64,
    /// What is chosen at random follows from it.
    pub seed: u64,
    /// CPUs of the machine, each with a domain that makes children.
    pub cpus: u64,
    /// Whether instructions are counted: with one CPU everything repeats then.
    pub count: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Soaked {
    /// Whether all went well.
    pub verdict: Verdict,
    rounds: u64,
    children: u64,
    wall_ms: u64,
}

/// Runs it. An error is a run that could not be started.
pub fn run(request: &Request, screen: &Screen) -> Result<Soaked, Verdict> {
    let template = fs::read_to_string(&request.manifest)
        .map_err(|error| unusable(format!("{}: {error}", request.manifest.display())))?;
    let text = fill(&template, request).ok_or_else(|| {
        unusable(format!(
            "{} has other numbers than expected",
            request.manifest.display()
        ))
    })?;
    let dir = tempfile::tempdir().map_err(|error| unusable(error.to_string()))?;
    let manifest = dir.path().join("soak.toml");
    fs::write(&manifest, text).map_err(|error| unusable(error.to_string()))?;
    let limit_seconds = request.seconds.saturating_add(GRACE_SECONDS);
    let options = Options {
        silence_seconds: Some(SILENCE_SECONDS),
        count: request.count,
        ..Options::new(
            manifest,
            request.images.clone(),
            &request.bed,
            limit_seconds,
        )
    };
    let run = run::run(&options, screen)?;
    let (rounds, children) = so_far(&run.report).unwrap_or_default();
    Ok(Soaked {
        verdict: verdict(request, run.verdict, (rounds, children)),
        rounds,
        children,
        wall_ms: run.wall.as_millis().try_into().unwrap_or(u64::MAX),
    })
}

fn unusable(text: String) -> Verdict {
    let advice = "check out the project's sources anew, or make room for temporary files";
    Verdict::new(Kind::Invalid, format!("{text}; {advice}"))
}

/// The manifest with the numbers of the request; `None` if it has no place for one of them.
fn fill(template: &str, request: &Request) -> Option<String> {
    let cpus = request.cpus;
    let numbers = [
        ("cpus = 2", format!("cpus = {cpus}")),
        ("count = 2", format!("count = {cpus}")),
        ("count=2", format!("count={cpus}")),
        ("seed=1", format!("seed={}", request.seed)),
        ("seconds=10", format!("seconds={}", request.seconds)),
    ];
    let mut text = template.to_owned();
    for (from, to) in numbers {
        text.contains(from).then_some(())?;
        text = text.replace(from, &to);
    }
    Some(text)
}

/// How many rounds and children there have been, as its last line says: `soak: done, 5 rounds, 9 children`.
fn so_far(report: &Report) -> Option<(u64, u64)> {
    let lines = &report.domain(SPEAKER)?.console.lines;
    let mut lines = lines.iter().rev();
    let line = lines.find(|line| line.starts_with("soak: "))?;
    let words: Vec<_> = line.split([' ', ',']).collect();
    let number_before = |unit: &str| {
        let place = words.iter().position(|word| *word == unit)?;
        words.get(place.checked_sub(1)?)?.parse().ok()
    };
    Some((number_before("rounds")?, number_before("children")?))
}

fn verdict(request: &Request, verdict: Verdict, (rounds, children): (u64, u64)) -> Verdict {
    let Request {
        bed,
        seconds,
        seed,
        cpus,
        ..
    } = request;
    let plural = if *cpus == 1 { "" } else { "s" };
    let what = format!("{seconds} s on {bed} with {cpus} CPU{plural} and seed {seed}");
    if verdict.is_ok() {
        let text = format!("ok: {what}: {rounds} rounds, {children} children of the first domain, and nothing lost");
        return Verdict::new(verdict.kind, text);
    }
    let text = format!("{} ({what}, after {rounds} rounds)", verdict.text);
    Verdict::new(verdict.kind, text)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    verdict: VerdictKeys<'a>,
    bed: &'a str,
    cpus: u64,
    seconds: u64,
    seed: u64,
    rounds: u64,
    children: u64,
    wall_ms: u64,
}

/// The outcome as JSON, whose keys are listed in `tools/README.md`.
pub fn json(request: &Request, outcome: &Result<Soaked, Verdict>) -> String {
    let (verdict, soaked) = match outcome {
        Ok(soaked) => (&soaked.verdict, Some(soaked)),
        Err(verdict) => (verdict, None),
    };
    let document = Document {
        schema: SCHEMA,
        verdict: VerdictKeys::new(verdict),
        bed: &request.bed,
        cpus: request.cpus,
        seconds: request.seconds,
        seed: request.seed,
        rounds: soaked.map_or(0, |soaked| soaked.rounds),
        children: soaked.map_or(0, |soaked| soaked.children),
        wall_ms: soaked.map_or(0, |soaked| soaked.wall_ms),
    };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::project;
    use crate::report::Line;
    use std::path::Path;

    fn request() -> Request {
        Request {
            manifest: project::soak_manifest(),
            images: PathBuf::new(),
            bed: "bed".to_owned(),
            seconds: 77,
            seed: 5,
            cpus: 3,
            count: false,
        }
    }

    #[test]
    fn the_manifest_of_the_project_takes_the_numbers() {
        let template = fs::read_to_string(&request().manifest).unwrap();
        assert!(manifest::parse(Path::new("soak.toml"), &template).is_ok());
        let text = fill(&template, &request()).unwrap();
        let manifest = manifest::parse(Path::new("soak.toml"), &text).unwrap();
        assert_eq!(
            (manifest.cpus, manifest.domains.len(), manifest.ports.len()),
            (3, 3, 3)
        );
        let expected = "program=soak number=2 count=3 seed=5 seconds=77 in=ring-2 out=ring-0";
        assert_eq!(manifest.domains[2].command_line, expected);
        assert_eq!(fill("", &request()), None);
    }

    #[test]
    fn the_last_line_counts() {
        let mut report = Report::new([SPEAKER].into_iter(), None);
        assert_eq!(so_far(&report), None);
        for line in [
            "soak: 3 rounds, 8 children",
            "soak: done, 12 rounds, 40 children, 9 killed",
            "x",
        ] {
            report.take(&Line::parse(&format!("[{SPEAKER}] {line}")));
        }
        assert_eq!(so_far(&report), Some((12, 40)));
    }

    #[test]
    fn what_fails_says_with_which_seed() {
        let failed = Verdict::new(Kind::DomainFailed, "soak-1 failed");
        let text = verdict(&request(), failed, (4, 9)).text;
        assert!(
            text.starts_with("soak-1 failed") && text.contains("seed 5"),
            "{text}"
        );
    }
}
