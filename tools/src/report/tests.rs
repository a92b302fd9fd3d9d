//! Tests of the report: what it reads, and that nothing on the line can upset it.

use proptest::prelude::*;

use super::*;

fn report(lines: &[&str]) -> Report {
    let mut report = Report::new(["producer", "consumer"].into_iter(), Some("consumer"));
    for line in lines {
        report.take(&Line::parse(line));
    }
    report
}

const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_whole_run_is_read() {
    let digest = format!("[consumer] sha256 {SHA} 0 bytes");
    let report = report(&[
        "@cpu index=2 apic_id=0x10 left_out=no-answer",
        "@boot vendor=svm abi=0.1 cpus=3 tsc_hz=1000000000 reference=pit timer=one-shot ram_bytes=268435456 frames_free=12345",
        "an ordinary log line",
        "@ready domains=2",
        &digest,
        "@domain name=producer reason=1 detail=0 rip=0x0 ticks=123 frames=4096 pages=0x1000",
        "@calls name=producer hello=1 send=320 unknown=0",
        "@exits name=producer call=400 cpuid=2",
        "@traffic name=producer sent=320 received=0 notified=1 coalesced=7",
        "@flush cpu=1 step=done how=tlb-control-this identifier=3",
        "@flushed recorded=1 unrecorded=0",
        "@interrupts timer=17",
        "@frames before=12345 after=12344",
        "@end result=ok",
    ]);
    assert_eq!(report.damaged, 0);
    assert!(report.is_ready);
    assert_eq!(report.boot.as_ref().unwrap().vendor, "svm");
    assert_eq!(report.boot.as_ref().unwrap().cpus, Some(3));
    let timer = report.boot.as_ref().and_then(|boot| boot.timer.as_deref());
    assert_eq!(timer, Some("one-shot"));
    let reference = report
        .boot
        .as_ref()
        .and_then(|boot| boot.reference.as_deref());
    assert_eq!(reference, Some("pit"));
    let left_out = LeftOutCpu {
        index: 2,
        apic_id: 16,
        reason: "no-answer".to_owned(),
    };
    assert_eq!(report.left_out_cpus, [left_out]);
    let producer = report.domain("producer").unwrap();
    assert!(producer.stop.unwrap().is_success());
    assert_eq!(producer.stop.unwrap().ticks, 123);
    assert_eq!(producer.calls[1], ("send".to_owned(), 320));
    assert_eq!(producer.exits.len(), 2);
    assert_eq!(producer.traffic.coalesced, 7);
    assert_eq!(
        report.frames,
        Some(Frames {
            before: 12345,
            after: 12344
        })
    );
    assert_eq!(report.timer_interrupts, Some(17));
    assert_eq!(report.end, Some(End::Ok));
    assert_eq!(report.digest.as_ref().unwrap().sha256, SHA);
    assert_eq!(report.domain("consumer").unwrap().stop, None);
}

#[test]
fn a_refused_entry_is_explained() {
    let report = report(&[
        "@domain name=producer reason=6 detail=0 rip=0x200000 ticks=1 frames=16",
        "@entry name=producer class=guest-state code=0x80000021 qualification=0x0 rules=6 text=Refused.",
        "@rule name=producer rule=dr7 section=26.3.1.1 entry_controls=0xd3ff dr7=0x100000400 text=DR7 must = fit.",
        "@fields name=producer cr0=0x11 cr3=0x1000",
        "@fields name=producer cr4=0x20",
        "@rule name=consumer rule=dr7 section=1.2 text=Not refused.",
        "@entry name=stranger class=any code=1 text=Who?",
        "@entry name=producer class=any code=1 text=Again.",
        "@rule name=producer rule=dr7",
    ]);
    assert_eq!(report.damaged, 4);
    let failure = report.domain("producer").unwrap().entry_failure.clone();
    let failure = failure.unwrap();
    assert_eq!(
        (failure.class.as_str(), failure.code),
        ("guest-state", 0x8000_0021)
    );
    let [rule] = failure.rules.as_slice() else {
        panic!("{failure:?}")
    };
    assert_eq!(
        (rule.name.as_str(), rule.section.as_str()),
        ("dr7", "26.3.1.1")
    );
    let values = [("entry_controls", 0xD3FF), ("dr7", 0x1_0000_0400)];
    assert_eq!(
        rule.values,
        values.map(|(name, value)| (name.to_owned(), value))
    );
    assert_eq!(failure.values.len(), 3);
    assert_eq!(
        failure.lines(),
        [
            "Refused. (code 0x80000021, qualification 0x0)",
            "broken: dr7: DR7 must = fit. Here: entry_controls 0xd3ff, dr7 0x100000400.",
            "broken, too: 5 more rules",
            "fields: cr0 0x11, cr3 0x1000, cr4 0x20",
        ]
    );
    assert_eq!(report.domain("consumer").unwrap().entry_failure, None);
}

#[test]
fn a_refusal_and_a_panic_keep_their_text() {
    let refused = report(&["@refused code=no-svm text=This CPU has no AMD SVM; use another = CPU"]);
    let refusal = refused.refusal.unwrap();
    assert_eq!(refusal.code, "no-svm");
    assert_eq!(refusal.text, "This CPU has no AMD SVM; use another = CPU");

    let broken = report(&[
        "@panic text=src/x.rs:12: went wrong",
        "rax=0 rbx=1",
        "@trace 0xffff800000001234",
        "@trace nonsense",
        "@end result=panic",
    ]);
    let panic = broken.panic.unwrap();
    assert_eq!(panic.text, "src/x.rs:12: went wrong");
    assert_eq!(panic.lines, ["rax=0 rbx=1"]);
    assert_eq!(panic.trace, [0xffff_8000_0000_1234]);
    assert_eq!(broken.damaged, 1);
    assert_eq!(broken.end, Some(End::Panic));
}

#[test]
fn only_the_named_domain_states_the_digest() {
    let forged = format!("[producer] sha256 {SHA} 0 bytes");
    assert_eq!(report(&[&forged]).digest, None);
    for text in [
        format!("sha256 {SHA} 0 bytes"),
        format!("[consumer] sha256 {SHA} 0"),
        format!("[consumer] sha256 {SHA} x bytes"),
        format!("[consumer] sha256 {} 0 bytes", &SHA[1..]),
        format!("[consumer] sha256 {SHA} 0 bytes more"),
    ] {
        assert_eq!(report(&[&text]).digest, None, "{text}");
    }
}

#[test]
fn what_was_said_first_stands() {
    let report = report(&[
        "@domain name=producer reason=2 detail=0",
        "@domain name=producer reason=1 detail=0",
        "@end result=failed",
        "@end result=ok",
    ]);
    assert_eq!(report.domain("producer").unwrap().stop.unwrap().reason, 2);
    assert_eq!(report.end, Some(End::Failed));
    assert_eq!(report.damaged, 2);
}

#[test]
fn strangers_and_nonsense_are_counted_and_dropped() {
    let report = report(&[
        "@domain name=stranger reason=1 detail=0",
        "@what",
        "@",
        "@end",
        "@boot",
    ]);
    assert_eq!(report.domains.len(), 2);
    assert_eq!(report.damaged, 5);
}

#[test]
fn lines_are_told_apart() {
    assert_eq!(
        Line::parse("[a-1] hi"),
        Line::Console {
            domain: "a-1",
            text: "hi"
        }
    );
    assert_eq!(
        Line::parse("[a-1]"),
        Line::Console {
            domain: "a-1",
            text: ""
        }
    );
    assert_eq!(Line::parse("[A] hi"), Line::Log("[A] hi"));
    assert_eq!(Line::parse("[] hi"), Line::Log("[] hi"));
    assert_eq!(Line::parse("hi @end"), Line::Log("hi @end"));
    assert_eq!(
        Line::parse("@end"),
        Line::Record {
            kind: "end",
            fields: ""
        }
    );
}

#[test]
fn reasons_read_as_sentences() {
    let stop = |reason, detail| Stop {
        reason,
        detail,
        rip: 0,
        ticks: 0,
        frames: 0,
        cpu: 0,
    };
    assert_eq!(stop(1, 3).short(), "exited, code 3");
    assert_eq!(stop(3, 0x4000).short(), "bad-memory 0x4000");
    assert!(stop(3, 0x4000)
        .sentence()
        .ends_with("the guest-physical address: 0x4000."));
    assert_eq!(stop(1, 3).sentence(), "It asked to stop; its exit code: 3.");
    assert_eq!(stop(99, 1).short(), "reason 99 (detail 1)");
}

fn lines() -> impl Strategy<Value = String> {
    let kinds = "@?(boot|ready|refused|domain|calls|exits|traffic|entry|rule|fields|frames|panic|trace|end|)";
    let pair = "(name|reason|detail|text|before|after|result|send|class|code|rule|section)=(producer|ok|0x[0-9a-f]{0,20}|[0-9]{0,25})";
    prop_oneof![
        "\\PC{0,80}",
        (kinds, proptest::collection::vec(pair, 0..6))
            .prop_map(|(kind, pairs)| format!("{kind} {}", pairs.join(" "))),
        "\\[(producer|consumer|x)\\] ?(sha256 )?\\PC{0,90}",
    ]
}

proptest! {
    /// Garbage never panics, never invents a domain and never makes the report grow without end.
    #[test]
    fn garbage_is_survived(lines in proptest::collection::vec(lines(), 0..60)) {
        let mut report = Report::new(["producer", "consumer"].into_iter(), Some("consumer"));
        for line in &lines {
            report.take(&Line::parse(line));
        }
        prop_assert_eq!(report.domains.len(), 2);
        prop_assert!(report.log.len() <= LOG_LINES_KEPT);
        if let Some(panic) = &report.panic {
            prop_assert!(panic.trace.len() <= 64 && panic.lines.len() <= 48);
        }
    }
}

#[test]
fn a_sequence_of_calls_is_read_only_as_a_whole() {
    let good = [
        "@sequence name=producer runs=0,8x3,1.7",
        "@sequence name=producer runs=1.7x2,?.1,9.?",
        "@sequenced name=producer recorded=9 unrecorded=2",
    ];
    let read = report(&good);
    assert_eq!(read.damaged, 0);
    let trace = read.domain("producer").unwrap().trace().unwrap();
    let times: Vec<_> = trace.runs.iter().map(|run| run.times).collect();
    assert_eq!((times, trace.unrecorded), (vec![1, 3, 3, 1, 1], 2));
    assert_eq!(trace.runs[2].call.to_string(), "send: queue-full");
    // A line that is lost, garbled, too many, or says too much leaves no trace.
    let garbled = "@sequence name=producer runs=0,8x0";
    for lines in [
        vec![good[1], good[2]],
        vec![good[0], good[1]],
        vec![garbled, good[2]],
        vec!["@sequence name=producer runs=77", good[2]],
        vec!["@sequence name=producer", good[2]],
    ] {
        let report = report(&lines);
        let has_trace = report.domain("producer").unwrap().trace().is_some();
        assert!(!has_trace, "{lines:?}");
    }
    let twice = report(&[good[0], good[1], good[2], good[2], good[0]]);
    assert_eq!(twice.damaged, 2);
}

#[test]
fn cpus_that_are_left_out_again_or_without_end_are_damage() {
    let cpu = |index: u64| format!("@cpu index={index} apic_id={index} left_out=no-answer");
    let mut lines: Vec<_> = (1..=MAX_LEFT_OUT_CPUS as u64 + 1).map(cpu).collect();
    lines.extend([cpu(1), "@cpu index=1 left_out=x".to_owned()]);
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let report = report(&lines);
    assert_eq!(report.left_out_cpus.len(), MAX_LEFT_OUT_CPUS);
    assert_eq!(report.damaged, 3);
}
