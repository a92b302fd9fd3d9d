//! The output of `cargo test`: which tests each binary had, and what became of them.
//!
//! Stable Rust has no other form of this output than the one for people. It is therefore checked
//! against itself: each binary ends with the number of tests that passed, failed and were ignored.

use std::time::Duration;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed; what it said.
    Failed(String),
    /// It was not run; why, if that was said.
    Ignored(String),
}

/// The tests of one binary, or of one library's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suite {
    /// What cargo calls it.
    pub name: String,
    /// Its tests.
    pub tests: Vec<(String, Outcome)>,
    /// How long they took together.
    pub time: Option<Duration>,
    /// What is wrong with the output itself: it must not be trusted.
    pub problem: Option<String>,
}

/// The last line of a binary's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// Reads the output. Binaries without tests are left out.
pub fn parse(output: &str) -> Vec<Suite> {
    let (mut suites, mut name, mut body) = (Vec::new(), String::new(), None::<Vec<&str>>);
    for line in output.lines() {
        if let Some(next) = heading(line) {
            suites.extend(body.take().map(|lines| suite(&name, &lines)));
            name = next;
        } else if is_start(line) {
            suites.extend(body.replace(Vec::new()).map(|lines| suite(&name, &lines)));
        } else if let Some(lines) = &mut body {
            lines.push(line);
            if line.starts_with(RESULT) {
                suites.extend(body.take().map(|lines| suite(&name, &lines)));
            }
        }
    }
    suites.extend(body.map(|lines| suite(&name, &lines)));
    suites.retain(|suite| !suite.tests.is_empty() || suite.problem.is_some());
    suites
}

const RESULT: &str = "test result: ";

/// What cargo says before it starts a binary: `Running unittests src/lib.rs (target/...)`.
fn heading(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("Running ") {
        let (source, binary) = rest.split_once(" (")?;
        let file = binary.trim_end_matches(')').rsplit('/').next()?;
        // The hash behind the name changes with every compiler.
        let package = file.rsplit_once('-').map_or(file, |(name, _)| name);
        return Some(format!("{package}: {source}"));
    }
    let library = line.strip_prefix("Doc-tests ")?;
    Some(format!("{library}: documentation"))
}

/// `running 3 tests`
fn is_start(line: &str) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    matches!(words.as_slice(), ["running", count, "test" | "tests"] if count.parse::<u64>().is_ok())
}

fn suite(name: &str, lines: &[&str]) -> Suite {
    let mut tests: Vec<_> = lines.iter().filter_map(|line| test(line)).collect();
    for (test, outcome) in &mut tests {
        if let Outcome::Failed(text) = outcome {
            *text = said(test, lines);
        }
    }
    let last = lines.last().and_then(|line| totals(line));
    let problem = match last {
        None => Some(format!(
            "the tests ended without a result; the last lines were\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        )),
        Some((totals, _)) => (count(&tests) != totals).then(|| {
            format!(
                "the result was {totals:?}, but the lines of the tests say {:?}",
                count(&tests)
            )
        }),
    };
    Suite {
        name: name.to_owned(),
        tests,
        time: last.map(|(_, time)| time),
        problem,
    }
}

/// `test name ... ok`
fn test(line: &str) -> Option<(String, Outcome)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match outcome.split_once(", ").unwrap_or((outcome, "")) {
        ("ok", "") => Outcome::Passed,
        ("ignored", why) => Outcome::Ignored(why.to_owned()),
        ("FAILED", _) => Outcome::Failed(String::new()),
        _ => return None,
    };
    Some((name.trim_end().to_owned(), outcome))
}

/// What stands below `---- name stdout ----`.
fn said(test: &str, lines: &[&str]) -> String {
    // The list of results has this behind the name, the heading has not.
    let name = test.trim_end_matches(" - should panic");
    let heading = format!("---- {name} stdout ----");
    let below = lines.iter().skip_while(|line| **line != heading).skip(1);
    let is_end = |line: &str| line == "failures:" || line.starts_with("---- ");
    let text: Vec<_> = below.take_while(|line| !is_end(line)).copied().collect();
    text.join("\n").trim().to_owned()
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn totals(line: &str) -> Option<(Totals, Duration)> {
    let (_, counts) = line.strip_prefix(RESULT)?.split_once(". ")?;
    let (mut totals, mut time) = (Totals::default(), Duration::ZERO);
    for part in counts.split("; ") {
        match part.split_once(' ')? {
            (count, "passed") => totals.passed = count.parse().ok()?,
            (count, "failed") => totals.failed = count.parse().ok()?,
            (count, "ignored") => totals.ignored = count.parse().ok()?,
            ("finished", rest) => {
                let seconds = rest.strip_prefix("in ")?.strip_suffix('s')?;
                time = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
            }
            _ => {}
        }
    }
    Some((totals, time))
}

fn count(tests: &[(String, Outcome)]) -> Totals {
    let mut totals = Totals::default();
    for (_, outcome) in tests {
        match outcome {
            Outcome::Passed => totals.passed += 1,
            Outcome::Failed(_) => totals.failed += 1,
            Outcome::Ignored(_) => totals.ignored += 1,
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
   Compiling nuncio-abi v0.1.0
     Running unittests src/lib.rs (target/debug/deps/nuncio_abi-0123456789abcdef)

running 4 tests
test a::passes ... ok
test b::fails ... FAILED
test c::later ... ignored, needs a moon
test d::panics - should panic ... FAILED

failures:

---- b::fails stdout ----

thread 'b::fails' panicked at src/lib.rs:7:5:
left <is> & right
test result: looks like one
---- d::panics stdout ----
note: test did not panic as expected

failures:
    b::fails
    d::panics

test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 5 filtered out; finished in 1.25s

error: test failed, to rerun pass `-p nuncio-abi --lib`
     Running unittests src/main.rs (target/debug/deps/nuncio-fedcba9876543210)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests nuncio_abi

running 1 test
test src/lib.rs - handle (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn every_test_of_every_binary_is_read() {
        // A line in a failing test's words that looks like the end would cut the output short.
        let honest = OUTPUT.replace("test result: looks like one\n", "");
        let suites = parse(&honest);
        assert_eq!(suites.len(), 2, "{suites:?}");
        assert_eq!(suites[0].name, "nuncio_abi: unittests src/lib.rs");
        assert_eq!(suites[0].time, Some(Duration::from_millis(1250)));
        assert_eq!(suites[0].problem, None);
        let [passed, failed, ignored, panicked] = &suites[0].tests[..] else {
            panic!("{suites:?}");
        };
        assert_eq!(*passed, ("a::passes".to_owned(), Outcome::Passed));
        assert!(matches!(&failed.1, Outcome::Failed(text)
            if text.starts_with("thread") && text.ends_with("left <is> & right")));
        assert_eq!(ignored.1, Outcome::Ignored("needs a moon".to_owned()));
        assert!(matches!(&panicked.1, Outcome::Failed(text) if text.contains("did not panic")));
        assert_eq!(suites[1].name, "nuncio_abi: documentation");
        assert_eq!(suites[1].tests.len(), 1);
    }

    #[test]
    fn output_that_contradicts_itself_is_a_problem() {
        // Words of a test that look like the last line.
        assert!(parse(OUTPUT)[0].problem.is_some());
        // A result that something else has been printed into.
        let torn = OUTPUT.replace(
            "test src/lib.rs - handle (line 3) ... ok",
            "test x ... noise",
        );
        let problem = parse(&torn).pop().unwrap().problem.unwrap();
        assert!(problem.contains("passed: 1") && problem.contains("passed: 0"));
    }

    #[test]
    fn a_binary_that_crashed_is_a_problem() {
        let crashed = "     Running tests/x.rs (target/debug/deps/x-1)\n\nrunning 2 tests\n\
            test a ... ok\nerror: test failed, to rerun pass `--test x`\n\n\
            Caused by:\n  process didn't exit successfully: (signal: 6, SIGABRT)\n";
        let suites = parse(crashed);
        assert_eq!(suites[0].tests.len(), 1);
        let problem = suites[0].problem.as_deref().unwrap();
        assert!(problem.contains("SIGABRT"), "{problem}");
    }
}
