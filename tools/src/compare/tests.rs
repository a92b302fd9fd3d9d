//! Tests of comparisons: what is equal, what is explained, and what is shown of the rest.

use super::*;
use crate::report::Line;

const GOOD: &[&str] = &[
    "[d] one",
    "[d] cost 129",
    "@domain name=d reason=1 detail=0",
    "@calls name=d hello=1 send=4 wait=1 stop=1",
    "@traffic name=d sent=4 received=0 notified=1 coalesced=0",
    "@sequence name=d runs=0,1x4,4.9,9.?",
    "@sequenced name=d recorded=7 unrecorded=0",
];

/// The good report with some words replaced.
fn showing(bed: &str, changes: &[(&str, &str)]) -> Showing {
    let mut text = GOOD.join("\n");
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let mut report = Report::new(["d"].into_iter(), None);
    text.lines()
        .for_each(|line| report.take(&Line::parse(line)));
    assert_eq!(report.damaged, 0, "{text}");
    Showing {
        bed: bed.to_owned(),
        verdict: Verdict::new(Kind::Ok, "ok"),
        report,
    }
}

fn rule(bed: Option<&str>, what: What) -> Rule {
    Rule {
        domain: "d".to_owned(),
        bed: bed.map(str::to_owned),
        what,
        why: "because".to_owned(),
    }
}

fn compared(changes: &[(&str, &str)], rules: &[Rule]) -> Comparison {
    let showings = vec![showing("a", &[]), showing("b", changes)];
    compare(showings, rules.to_vec())
}

/// One difference, not on the list, with these words in its account in this order.
#[track_caller]
fn assert_differs(changes: &[(&str, &str)], rules: &[Rule], aspect: Aspect, words: &[&str]) {
    let comparison = compared(changes, rules);
    let found: Vec<_> = comparison.differences.iter().collect();
    let [difference] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((difference.aspect, difference.rules.len()), (aspect, 0));
    assert_eq!(comparison.verdict().kind, Kind::BedsDiffer);
    let text = text(&comparison);
    let mut rest = text.as_str();
    for word in words {
        rest = rest
            .split_once(word)
            .unwrap_or_else(|| panic!("{word}: {text}"))
            .1;
    }
}

/// No difference but those that these rules explain, all of which are needed.
#[track_caller]
fn assert_explained(changes: &[(&str, &str)], rules: &[Rule]) {
    let comparison = compared(changes, rules);
    assert_eq!(comparison.unexplained().count(), 0, "{}", text(&comparison));
    assert!((0..rules.len()).all(|rule| comparison.is_used(rule)));
    assert_eq!(comparison.verdict().kind, Kind::Ok);
    assert!(text(&comparison).contains("expected: because"));
}

#[test]
fn equal_beds_are_equal_and_a_rule_is_then_not_needed() {
    let wait = What::Calls {
        verb: nuncio_abi::Verb::Wait,
        status: None,
    };
    // Whether notifications were coalesced is nothing that a guest sees.
    let comparison = compared(&[("coalesced=0", "coalesced=1")], &[rule(None, wait)]);
    assert!(comparison.differences.is_empty());
    assert!(comparison.verdict().text.starts_with("equal: "));
    assert!(!comparison.is_used(0));
    assert!(text(&comparison).contains("not needed here: calls \"wait\" of d"));
}

#[test]
fn an_end_that_differs() {
    let changes = [("reason=1 detail=0", "reason=1 detail=3")];
    let words = [
        "DIFFERENT: end of d, a and b",
        "a ",
        "code 0",
        "b ",
        "code 3",
    ];
    assert_differs(&changes, &[], Aspect::End, &words);
    assert_explained(&changes, &[rule(None, What::End)]);
}

#[test]
fn messages_that_differ() {
    let changes = [("received=0", "received=1")];
    assert_differs(
        &changes,
        &[],
        Aspect::Messages,
        &["0 received", "1 received"],
    );
    assert_explained(&changes, &[rule(None, What::Messages)]);
}

#[test]
fn notifications_that_differ() {
    let changes = [("notified=1", "notified=2")];
    let words = ["notifications of d", " 1\n", " 2"];
    assert_differs(&changes, &[], Aspect::Notifications, &words);
    assert_explained(&changes, &[rule(None, What::Notifications)]);
    // A rule explains what it says and nothing beside it.
    let rules = [rule(None, What::Messages)];
    assert_differs(&changes, &rules, Aspect::Notifications, &[]);
}

#[test]
fn a_console_that_differs_is_shown_from_the_first_place() {
    let changes = [("cost 129", "cost 143")];
    let words = ["from line 2", "both, before", "one", "cost 129", "cost 143"];
    assert_differs(&changes, &[], Aspect::Console, &words);
    let cost = || What::Console("cost {number}".to_owned());
    assert_explained(&changes, &[rule(None, cost())]);
    assert_explained(&changes, &[rule(Some("b"), cost())]);
    // A rule for another bed, another line, or text that is no number explains nothing.
    assert_differs(&changes, &[rule(Some("c"), cost())], Aspect::Console, &[]);
    let other = What::Console("one {number}".to_owned());
    assert_differs(&changes, &[rule(None, other)], Aspect::Console, &[]);
    let words = ["cost 129", "cost ?"];
    assert_differs(
        &[("cost 129", "cost ?")],
        &[rule(None, cost())],
        Aspect::Console,
        &words,
    );
    let missing = [("[d] cost 129\n", "")];
    assert_differs(
        &missing,
        &[rule(None, cost())],
        Aspect::Console,
        &["(no more lines)"],
    );
}

#[test]
fn a_status_that_differs_is_shown_in_context() {
    let changes = [("1x4,", "1x3,1.7,")];
    let words = [
        "from call 5 on",
        "both, before",
        "hello, send x3",
        "a ",
        "send, wait: timed-out, stop",
        "b ",
        "send: queue-full, wait",
    ];
    assert_differs(&changes, &[], Aspect::Calls, &words);
    // The order counts, too, and so does the end.
    let swapped = [("1x4,4.9", "4.9,1x4")];
    assert_differs(&swapped, &[], Aspect::Calls, &["from call 2 on"]);
    let endless = [(",9.?", ""), ("recorded=7", "recorded=6")];
    assert_differs(
        &endless,
        &[],
        Aspect::Calls,
        &["from call 7 on", "(no more calls)"],
    );
}

#[test]
fn a_rule_covers_its_calls_and_no_others() {
    let wait = |status| What::Calls {
        verb: nuncio_abi::Verb::Wait,
        status,
    };
    let more = [
        ("4.9,", "4.9x3,"),
        ("wait=1", "wait=3"),
        ("recorded=7", "recorded=9"),
    ];
    assert_explained(&more, &[rule(None, wait(None))]);
    assert_explained(&more, &[rule(None, wait(Some(9)))]);
    assert_differs(
        &more,
        &[rule(None, wait(Some(0)))],
        Aspect::Calls,
        &["from call 7"],
    );
    let moved = [("1x4,4.9,", "1x2,4.9,1x2,")];
    assert_explained(&moved, &[rule(None, wait(None))]);
    let and_worse = [("1x4,4.9,", "1x2,4.9,1,1.7,")];
    assert_differs(
        &and_worse,
        &[rule(None, wait(None))],
        Aspect::Calls,
        &["from call 5"],
    );
}

#[test]
fn a_rule_for_any_calls_covers_all_of_them_and_no_line() {
    let any = [rule(None, What::AnyCalls)];
    let calls = [("1x4,4.9,", "1x2,4.9,1,1.7,"), ("send=4", "send=9")];
    assert_explained(&calls, &any);
    let line = [("[d] one", "[d] two")];
    assert_differs(&line, &any, Aspect::Console, &["one", "two"]);
    let sent = [("sent=4", "sent=5")];
    assert_differs(&sent, &any, Aspect::Messages, &["4 sent", "5 sent"]);
    let missing = [
        ("\n@sequence name=d runs=0,1x4,4.9,9.?", ""),
        ("\n@sequenced name=d recorded=7 unrecorded=0", ""),
    ];
    assert_differs(&missing, &any, Aspect::Calls, &["recorded", "not recorded"]);
}

#[test]
fn a_trace_that_is_missing_is_a_difference() {
    let missing = [
        ("\n@sequence name=d runs=0,1x4,4.9,9.?", ""),
        ("\n@sequenced name=d recorded=7 unrecorded=0", ""),
    ];
    assert_differs(&missing, &[], Aspect::Calls, &["recorded", "not recorded"]);
    let both = compare(
        vec![showing("a", &missing), showing("b", &missing)],
        Vec::new(),
    );
    assert_eq!(both.verdict().kind, Kind::BedsDiffer);
}

#[test]
fn of_calls_that_were_not_recorded_the_number_is_compared() {
    let wait = What::Calls {
        verb: nuncio_abi::Verb::Wait,
        status: None,
    };
    let cut = |stops: &str, waits: &str| {
        let stops = format!("stop={stops}");
        let waits = format!("wait={waits}");
        let runs = [
            (",9.?", ""),
            ("recorded=7 unrecorded=0", "recorded=6 unrecorded=2"),
        ];
        let changes = [
            runs[0],
            runs[1],
            ("stop=1", stops.as_str()),
            ("wait=1", waits.as_str()),
        ];
        let other = [
            (",4.9,9.?", ""),
            ("recorded=7 unrecorded=0", "recorded=5 unrecorded=3"),
        ];
        let showings = vec![showing("a", &changes), showing("b", &other)];
        compare(showings, vec![rule(None, wait.clone())])
    };
    assert_eq!(cut("1", "5").unexplained().count(), 0);
    assert_eq!(cut("2", "5").unexplained().count(), 1);
}

#[test]
fn two_different_beds_are_needed() {
    let named = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        chosen(&names)
    };
    assert_eq!(named(&["bochs-svm"]).unwrap_err().kind, Kind::Invalid);
    assert_eq!(
        named(&["bochs-svm", "qemu-svm", "bochs-svm"])
            .unwrap_err()
            .kind,
        Kind::Invalid
    );
    assert_eq!(named(&["qemu-svm", "no"]).unwrap_err().kind, Kind::Invalid);
    let order = ["bochs-svm", "qemu-svm"];
    assert_eq!(named(&order).unwrap(), order);
}

proptest::proptest! {
    /// Whatever two sequences are, they compare equal exactly if they are the same.
    #[test]
    fn sequences_are_equal_only_to_themselves(
        one in proptest::collection::vec((0u64..3, 0u64..2, 1u64..4), 1..6),
        other in proptest::collection::vec((0u64..3, 0u64..2, 1u64..4), 1..6),
    ) {
        let flat = |runs: &[(u64, u64, u64)]| -> Vec<_> {
            let calls = runs.iter().flat_map(|run| (0..run.2).map(|_| (run.0, run.1)));
            calls.collect()
        };
        let lines = |bed: &str, runs: &[(u64, u64, u64)]| {
            let texts: Vec<_> = runs.iter().map(|run| format!("{}.{}x{}", run.0, run.1, run.2)).collect();
            let total = flat(runs).len();
            showing(bed, &[
                ("0,1x4,4.9,9.?", &texts.join(",")),
                ("recorded=7", &format!("recorded={total}")),
            ])
        };
        let comparison = compare(vec![lines("a", &one), lines("b", &other)], Vec::new());
        proptest::prop_assert_eq!(comparison.differences.is_empty(), flat(&one) == flat(&other));
    }
}
