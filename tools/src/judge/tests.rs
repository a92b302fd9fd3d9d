//! The table of verdicts: every way in which a run can end, and what is said of it.

use super::*;
use crate::beds::{Accelerator, Qemu, TestBed};
use crate::report::Line;

const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A run whose report is all as it should be, line by line.
const GOOD: [&str; 6] = [
    "@boot vendor=svm abi=0.1",
    "@ready domains=2",
    "@domain name=a reason=1 detail=0",
    "@domain name=b reason=10 detail=0",
    "@frames before=7 after=7",
    "@end result=ok",
];

/// Judges a run of the domains `a` (in the foreground) and `b` (in the background).
fn verdict(ending: Ending, lines: &[&str], expected: Option<Expected>) -> Verdict {
    let mut report = Report::new(["a", "b"].into_iter(), Some("b"));
    for line in lines {
        report.take(&Line::parse(line));
    }
    let meaning = match ending {
        Ending::Exited(status) => {
            Some(Qemu::from_environment(Accelerator::Tcg).meaning(status, ""))
        }
        _ => None,
    };
    judge(&Case {
        bed: "qemu-svm",
        ending: &ending,
        meaning,
        bed_error: "no such machine",
        report: &report,
        foreground: &["a".to_owned()],
        expected,
        limit_seconds: 9,
    })
}

fn without(line: &str) -> Vec<&'static str> {
    let kept = GOOD.into_iter().filter(|other| !other.starts_with(line));
    kept.collect()
}

fn expected(bytes: u64) -> Option<Expected> {
    Some(Expected {
        domain: "b".to_owned(),
        sha256: SHA.to_owned(),
        bytes,
    })
}

#[track_caller]
fn assert_verdict(verdict: Verdict, kind: Kind, text: &str) {
    assert_eq!(verdict.kind, kind, "{verdict}");
    assert!(verdict.text.contains(text), "{verdict}");
    assert_eq!(verdict.text.lines().count(), 1, "{verdict}");
}

#[test]
fn an_end_that_the_status_does_not_explain_is_what_the_report_says() {
    let judged = |lines: &[&str]| {
        let mut report = Report::new(["a", "b"].into_iter(), None);
        for line in lines {
            report.take(&Line::parse(line));
        }
        judge(&Case {
            bed: "bochs-svm",
            ending: &Ending::Exited(1),
            meaning: Some(Meaning::Ended),
            bed_error: "",
            report: &report,
            foreground: &["a".to_owned()],
            expected: None,
            limit_seconds: 9,
        })
    };
    for (lines, kind, text) in [
        (
            vec!["@domain name=a reason=4 detail=0", "@end result=failed"],
            Kind::DomainFailed,
            "domain a failed",
        ),
        (
            vec!["@panic text=oh no", "@end result=panic"],
            Kind::HypervisorPanic,
            "oh no",
        ),
        (
            vec!["@refused code=no-svm text=no SVM here"],
            Kind::Refused,
            "no SVM here",
        ),
        (vec![], Kind::ReportIncomplete, "does not say why"),
        (GOOD.to_vec(), Kind::ReportIncomplete, "does not say why"),
    ] {
        assert_verdict(judged(&lines), kind, text);
    }
}

#[test]
fn success_needs_the_status_and_the_whole_report() {
    let ok = Ending::Exited(33);
    assert_verdict(verdict(ok.clone(), &GOOD, None), Kind::Ok, "ok: 2 domains");
    let incomplete = [
        (without("@end"), "does not end with result=ok"),
        (
            without("@domain name=a"),
            "domain a failed, and its reason was lost",
        ),
    ];
    for (lines, text) in incomplete {
        assert_verdict(
            verdict(ok.clone(), &lines, None),
            Kind::ReportIncomplete,
            text,
        );
    }
    let mut lines = without("@domain name=a");
    lines.insert(0, "@domain name=a reason=1 detail=3");
    assert_verdict(
        verdict(ok.clone(), &lines, None),
        Kind::ReportIncomplete,
        "exited, code 3",
    );
    let mut lines = without("@frames");
    lines.insert(0, "@frames before=7 after=6");
    assert_verdict(
        verdict(ok, &lines, None),
        Kind::FramesLost,
        "of 7 free frames only 6",
    );
}

#[test]
fn every_other_status_is_a_failure_whatever_the_report_says() {
    for (status, kind, text) in [
        (0, Kind::MachineReset, "triple fault of the hypervisor"),
        (1, Kind::BedFailed, "no such machine"),
        (2, Kind::ReportIncomplete, "status 2"),
        (35, Kind::ReportIncomplete, "but not which"),
        (37, Kind::ReportIncomplete, "its reason was lost"),
        (39, Kind::HypervisorPanic, "its message was lost"),
    ] {
        assert_verdict(verdict(Ending::Exited(status), &GOOD, None), kind, text);
    }
    assert_verdict(
        verdict(Ending::Signalled(11), &GOOD, None),
        Kind::BedFailed,
        "signal 11",
    );
    assert_verdict(
        verdict(Ending::Interrupted, &GOOD, None),
        Kind::Interrupted,
        "interrupted",
    );
}

#[test]
fn what_the_hypervisor_says_is_passed_on() {
    let refused = ["@refused code=no-svm text=This CPU has no AMD SVM; use another"];
    let refusal = verdict(Ending::Exited(37), &refused, None);
    assert_verdict(
        refusal,
        Kind::Refused,
        "This CPU has no AMD SVM; use another",
    );
    let panic = verdict(Ending::Exited(39), &["@panic text=x.rs:1: broken"], None);
    assert_verdict(panic, Kind::HypervisorPanic, "x.rs:1: broken");
    let reset = verdict(Ending::Exited(0), &["about to enter"], None);
    assert_verdict(reset, Kind::MachineReset, "last log line: about to enter");
}

#[test]
fn a_failed_domain_is_named_with_its_reason() {
    let lines = ["@domain name=a reason=3 detail=4096", "@end result=failed"];
    let failed = verdict(Ending::Exited(35), &lines, None);
    assert_verdict(
        failed,
        Kind::DomainFailed,
        "domain a failed: bad-memory 0x1000: It touched memory",
    );
    let image = [
        "@domain name=a reason=11 detail=0 text=It is no ELF file: build it",
        "@end result=failed",
    ];
    let failed = verdict(Ending::Exited(35), &image, None);
    assert_verdict(failed, Kind::DomainFailed, "It is no ELF file: build it");
    let lines = ["@domain name=a reason=9 detail=0", "@end result=failed"];
    let late = verdict(Ending::Exited(35), &lines, None);
    assert_verdict(
        late,
        Kind::TimeLimit,
        "limit of 9 s was reached while a still ran",
    );
}

#[test]
fn a_killed_machine_says_how_far_it_came() {
    for (lines, text) in [
        (&GOOD[..0], "nothing was heard"),
        (&GOOD[..1], "not the domains"),
        (&GOOD[..2], "did not end the run itself"),
        (&GOOD[..], "the machine did not stop"),
    ] {
        assert_verdict(
            verdict(Ending::TimedOut, lines, None),
            Kind::TimeLimit,
            text,
        );
    }
}

#[test]
fn the_digest_must_be_there_and_right() {
    let ok = Ending::Exited(33);
    let missing = verdict(ok.clone(), &GOOD, expected(0));
    assert_verdict(missing, Kind::DigestMissing, "b exited without printing");
    let line = format!("[b] sha256 {SHA} 0 bytes");
    let lines: Vec<&str> = std::iter::once(line.as_str()).chain(GOOD).collect();
    assert_verdict(verdict(ok.clone(), &lines, expected(0)), Kind::Ok, "ok");
    let differs = verdict(ok, &lines, expected(1));
    assert_verdict(
        differs,
        Kind::DigestDiffers,
        "over 0 bytes, but the input has",
    );
}
