//! One JUnit report of everything that `run.sh test` does, for continuous-integration systems.
//!
//! - `checks`: a case for formatting, for each run of the lints and for each build.
//! - `host tests`: a suite for each test binary and a case for each test. libtest gives the time of
//!   a binary only, so its cases have none.
//! - boot tests: a suite for each bed and a case for each scenario, with its time.
//!
//! Ignored tests are skipped cases with their reason. What cannot be told, such as a stage that
//! crashed or output that contradicts itself, is an error: nothing is left out in silence.

mod libtest;
mod stage;

use std::fs;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::record::{self, Line};
use libtest::Outcome;
use stage::{Kind, Stage};

/// The record of the boot tests in the directory of the stages.
const RECORD: &str = "boot-tests";
/// Lines of a long output that are shown.
const SHOWN_LINES: usize = 100;

/// Writes the report on a run that ended with `status`.
///
/// # Errors
/// Something cannot be read or written, or the run went well and its report did not.
pub fn write(stages: &Path, status: i32, target: &Path) -> Result<(), String> {
    let record = fs::read_to_string(stages.join(RECORD)).unwrap_or_default();
    let report = report(&stage::read(stages)?, &record::read(&record), status);
    let text = report.to_string().map_err(|error| error.to_string())?;
    fs::write(target, text).map_err(|error| {
        format!(
            "cannot write {}: {error}; name a file that can be written after --junit",
            target.display()
        )
    })?;
    if status == 0 && report.failures + report.errors > 0 {
        return Err(format!(
            "no stage failed, but {} has {} failures and {} errors; it says why",
            target.display(),
            report.failures,
            report.errors
        ));
    }
    Ok(())
}

fn report(stages: &[Stage], record: &[Line], status: i32) -> Report {
    let mut report = Report::new("nuncio");
    let mut checks = TestSuite::new("checks");
    let mut suites = Vec::new();
    for stage in stages {
        let own = match stage.kind {
            Kind::Check | Kind::Build => Vec::new(),
            Kind::HostTests => host_suites(stage),
            Kind::BootTests => boot_suites(record),
        };
        // A stage with tests has a case of its own only if they do not say why it failed.
        let is_told = own.iter().any(is_bad);
        if own.is_empty() || (stage.status != Some(0) && !is_told) {
            checks.add_test_case(stage_case(stage));
        }
        suites.extend(own);
    }
    suites.insert(0, checks);
    if status != 0 && !suites.iter().any(is_bad) {
        let text = format!("the run ended with {status}, and no stage says why");
        let mut suite = TestSuite::new("run.sh");
        suite.add_test_case(case("run.sh", "run.sh", bad(NonSuccessKind::Error, &text)));
        suites.push(suite);
    }
    report.add_test_suites(suites.into_iter().filter(|suite| suite.tests > 0));
    report
}

fn is_bad(suite: &TestSuite) -> bool {
    suite.failures + suite.errors > 0
}

fn case(suite: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(suite);
    case
}

fn bad(kind: NonSuccessKind, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    status.set_message(lines.next().unwrap_or("it said nothing"));
    status.set_description(text);
    status
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(if why.is_empty() { "ignored" } else { why });
    status
}

fn stage_case(stage: &Stage) -> TestCase {
    let lines: Vec<_> = stage.log.lines().collect();
    let log = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    let status = match (stage.status, stage.kind) {
        (Some(0), _) => TestCaseStatus::success(),
        (Some(code), Kind::Check) => {
            bad(NonSuccessKind::Failure, &format!("exit code {code}\n{log}"))
        }
        (Some(code), _) => bad(NonSuccessKind::Error, &format!("exit code {code}\n{log}")),
        (None, _) => bad(NonSuccessKind::Error, &format!("it did not end\n{log}")),
    };
    let mut case = case("checks", &stage.name, status);
    case.set_time(stage.time);
    case
}

fn host_suites(stage: &Stage) -> Vec<TestSuite> {
    let parsed = libtest::parse(&stage.log).into_iter();
    let suites = parsed.map(|parsed| {
        let name = format!("host tests: {}", parsed.name);
        let mut suite = TestSuite::new(name.as_str());
        for (test, outcome) in &parsed.tests {
            let status = match outcome {
                Outcome::Passed => TestCaseStatus::success(),
                Outcome::Failed(text) => bad(NonSuccessKind::Failure, text),
                Outcome::Ignored(why) => skipped(why),
            };
            suite.add_test_case(case(&name, test, status));
        }
        if let Some(problem) = &parsed.problem {
            let status = bad(NonSuccessKind::Error, problem);
            suite.add_test_case(case(&name, "the test binary itself", status));
        }
        if let Some(time) = parsed.time {
            suite.set_time(time);
        }
        suite
    });
    suites.collect()
}

fn boot_suites(record: &[Line]) -> Vec<TestSuite> {
    // In the order in which they were planned.
    let mut beds: Vec<(String, TestSuite)> = Vec::new();
    for line in record {
        let Line::Planned { name, ignored } = line else {
            continue;
        };
        let (bed, scenario) = name.split_once("::").unwrap_or((name, "every scenario"));
        let title = format!("boot tests: {bed}");
        let case = match ignored {
            Some(why) => case(&title, scenario, skipped(why)),
            None => boot_case(&title, scenario, &done(name, record)),
        };
        match beds.iter_mut().find(|(known, _)| *known == title) {
            Some((_, suite)) => {
                suite.add_test_case(case);
            }
            None => {
                let mut suite = TestSuite::new(title.as_str());
                suite.add_test_case(case);
                beds.push((title, suite));
            }
        }
    }
    beds.into_iter().map(|(_, suite)| suite).collect()
}

/// The time and the failure of a test that has been run.
type Done = Option<(Duration, Option<String>)>;

fn done(test: &str, record: &[Line]) -> Done {
    record.iter().find_map(|line| match line {
        Line::Done {
            name,
            seconds,
            failure,
        } if name == test => Some((
            Duration::try_from_secs_f64(*seconds).unwrap_or_default(),
            failure.clone(),
        )),
        _ => None,
    })
}

fn boot_case(suite: &str, scenario: &str, done: &Done) -> TestCase {
    let status = match done {
        Some((_, None)) => TestCaseStatus::success(),
        Some((_, Some(text))) => bad(NonSuccessKind::Failure, text),
        None => bad(
            NonSuccessKind::Error,
            "it did not end: the runner of the boot tests broke",
        ),
    };
    let mut case = case(suite, scenario, status);
    if let Some((time, _)) = done {
        case.set_time(*time);
    }
    case
}

#[cfg(test)]
mod tests;
