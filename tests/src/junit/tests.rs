//! Reports of runs that went well and of runs that did not.

use super::*;
use quick_junit::Report;

fn stage(kind: Kind, status: Option<i32>, log: &str) -> Stage {
    Stage {
        kind,
        name: format!("{kind:?}"),
        status,
        time: Duration::from_millis(1500),
        log: log.to_owned(),
    }
}

fn planned(name: &str, ignored: Option<&str>) -> Line {
    Line::Planned {
        name: name.to_owned(),
        ignored: ignored.map(str::to_owned),
    }
}

fn ended(name: &str, failure: Option<&str>) -> Line {
    Line::Done {
        name: name.to_owned(),
        seconds: 2.5,
        failure: failure.map(str::to_owned),
    }
}

/// What a reader of the XML finds: tests, failures, errors, skipped cases.
fn counts(report: &Report) -> [usize; 4] {
    let text = report.to_string().unwrap();
    // Reading it again proves that it is well-formed.
    let read = Report::deserialize_from_str(&text).unwrap();
    let skipped = text.matches("<skipped").count();
    assert_eq!(read.tests, text.matches("<testcase ").count());
    [read.tests, read.failures, read.errors, skipped]
}

const PASSES: &str = "     Running tests/x.rs (target/debug/deps/x-1)\n\nrunning 1 test\n\
    test a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; \
    0 filtered out; finished in 0.50s\n";

#[test]
fn a_good_run_has_every_case() {
    let stages = [
        stage(Kind::Check, Some(0), ""),
        stage(Kind::HostTests, Some(0), PASSES),
        stage(Kind::BootTests, Some(0), ""),
    ];
    let record = [
        planned("kvm", Some("not run: no flags")),
        planned("a::b::c", None),
        planned("a::b::d", Some("cannot")),
        ended("a::b::c", None),
        Line::End,
    ];
    let report = report(&stages, &record, 0);
    assert_eq!(counts(&report), [5, 0, 0, 2]);
    let text = report.to_string().unwrap();
    for part in [
        "name=\"boot tests: a\"",
        "name=\"b::c\" classname=\"boot tests: a\" time=\"2.500\"",
        "message=\"not run: no flags\"",
        "name=\"host tests: x: tests/x.rs\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_failing_scenario_is_a_failure_with_its_words() {
    let stages = [stage(Kind::BootTests, Some(101), "")];
    let words = "it <should> & \u{1b}[31mshould\u{1b}[0m not\u{0}\n]]> more";
    let record = [
        planned("a::b::c", None),
        ended("a::b::c", Some(words)),
        Line::End,
    ];
    let report = report(&stages, &record, 1);
    assert_eq!(counts(&report), [1, 1, 0, 0]);
    let text = report.to_string().unwrap();
    assert!(
        text.contains("it &lt;should&gt; &amp; should not"),
        "{text}"
    );
}

#[test]
fn a_runner_that_broke_is_an_error() {
    let stages = [stage(Kind::BootTests, Some(134), "memory exhausted")];
    let record = [
        planned("a::b::c", None),
        planned("a::b::d", None),
        ended("a::b::c", None),
    ];
    assert_eq!(counts(&report(&stages, &record, 1)), [2, 0, 1, 0]);
    // After the last test, or before the first.
    let all_but_the_end = [planned("a::b::c", None), ended("a::b::c", None)];
    assert_eq!(counts(&report(&stages, &all_but_the_end, 1)), [2, 0, 1, 0]);
    let never = report(&stages, &[], 1);
    assert_eq!(counts(&never), [1, 0, 1, 0]);
    assert!(never.to_string().unwrap().contains("memory exhausted"));
}

#[test]
fn a_stage_that_broke_is_an_error() {
    let report_of = |stage: Stage| report(&[stage], &[], 1);
    let lint = report_of(stage(Kind::Check, Some(101), "error: unused"));
    assert_eq!(counts(&lint), [1, 1, 0, 0]);
    for status in [Some(3), None] {
        let build = report_of(stage(Kind::Build, status, "error[E0001]: x"));
        assert_eq!(counts(&build), [1, 0, 1, 0]);
        assert!(build.to_string().unwrap().contains("error[E0001]: x"));
    }
    let tests = report_of(stage(Kind::HostTests, Some(101), "error: does not compile"));
    assert_eq!(counts(&tests), [1, 0, 1, 0]);
    let later = report_of(stage(Kind::HostTests, Some(101), PASSES));
    assert_eq!(counts(&later), [2, 0, 1, 0]);
}

#[test]
fn a_run_that_failed_is_never_a_good_report() {
    assert_eq!(counts(&report(&[], &[], 3)), [1, 0, 1, 0]);
    let good = [stage(Kind::Check, Some(0), "")];
    assert_eq!(counts(&report(&good, &[], 1)), [2, 0, 1, 0]);
}

#[test]
fn the_stages_of_the_script_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert_eq!(stage::read(dir.path()), Ok(Vec::new()));
    fs::write(path("log-1"), "some words").unwrap();
    let line = format!("check\t1\t2500000\t{}\tlints\n", path("log-1").display());
    fs::write(path("stages"), &line).unwrap();
    fs::write(path("running"), "boot\tboot tests\n").unwrap();
    let stages = stage::read(dir.path()).unwrap();
    let [lints, boot] = &stages[..] else {
        panic!("{stages:?}");
    };
    assert_eq!((lints.status, lints.log.as_str()), (Some(1), "some words"));
    assert_eq!(lints.time, Duration::from_millis(2500));
    assert_eq!((boot.status, boot.name.as_str()), (None, "boot tests"));
    fs::write(path("stages"), "nonsense\n").unwrap();
    assert!(stage::read(dir.path()).unwrap_err().contains("nonsense"));
}

#[test]
fn the_file_is_written_or_the_error_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x.xml");
    write(dir.path(), 3, &target).unwrap();
    let read = Report::deserialize_from_str(&fs::read_to_string(&target).unwrap());
    assert_eq!(read.unwrap().errors, 1);
    let error = write(dir.path(), 3, &dir.path().join("none/x.xml")).unwrap_err();
    assert!(error.contains("none/x.xml"), "{error}");
}

#[test]
fn a_good_run_with_a_bad_report_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log-1");
    fs::write(&log, PASSES.replace("1 passed", "2 passed")).unwrap();
    let line = format!("host\t0\t1\t{}\thost tests\n", log.display());
    fs::write(dir.path().join("stages"), line).unwrap();
    let error = write(dir.path(), 0, &dir.path().join("x.xml")).unwrap_err();
    assert!(error.contains("no stage failed"), "{error}");
}
