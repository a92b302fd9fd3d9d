//! The report for machines. Its keys are listed in `tools/README.md` and do not change their
//! meaning while `schema` stays the same.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fold;
use crate::report;
use crate::report::{CallRun, CallTrace, Counts, DomainReport, EntryFailure, Report};
use crate::run::{Options, Run};
use crate::verdict::Verdict;

/// The version of the keys.
const SCHEMA: u32 = 1;

/// A whole report.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    bed: &'a str,
    manifest: String,
    verdict: VerdictKeys<'a>,
    counted: bool,
    wall_ms: u64,
    input: Option<Input<'a>>,
    digest: Option<Digest<'a>>,
    boot: Option<Boot<'a>>,
    timer_interrupts: Option<u64>,
    frames: Option<Frames>,
    domains: Vec<Domain<'a>>,
    panic: Option<Panic<'a>>,
    damaged_records: u64,
}

/// What became of a run.
#[derive(Serialize)]
pub struct VerdictKeys<'a> {
    ok: bool,
    kind: &'static str,
    exit_code: u8,
    text: &'a str,
}

impl<'a> VerdictKeys<'a> {
    /// The keys of a verdict.
    pub fn new(verdict: &'a Verdict) -> Self {
        VerdictKeys {
            ok: verdict.is_ok(),
            kind: verdict.kind.name(),
            exit_code: verdict.kind.exit_code(),
            text: &verdict.text,
        }
    }
}

#[derive(Serialize)]
struct Input<'a> {
    path: String,
    bytes: u64,
    sha256: &'a str,
}

#[derive(Serialize)]
struct Digest<'a> {
    domain: &'a str,
    sha256: &'a str,
    bytes: u64,
    equals_input: bool,
}

#[derive(Serialize)]
struct LeftOutCpu<'a> {
    index: u64,
    apic_id: u64,
    reason: &'a str,
}

#[derive(Serialize)]
struct Boot<'a> {
    vendor: &'a str,
    abi: &'a str,
    cpus: Option<u64>,
    cpus_left_out: Vec<LeftOutCpu<'a>>,
    tsc_hz: Option<u64>,
    reference: Option<&'a str>,
    timer: Option<&'a str>,
    ram_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Frames {
    before: u64,
    after: u64,
}

#[derive(Serialize)]
struct Domain<'a> {
    name: &'a str,
    stop: Option<Stop<'a>>,
    calls: BTreeMap<&'a str, u64>,
    exits: BTreeMap<&'a str, u64>,
    sent: u64,
    received: u64,
    notified: u64,
    coalesced: u64,
    trace: Option<Trace<'a>>,
}

/// The calls of a domain in their order, folded.
#[derive(Serialize)]
pub struct Trace<'a> {
    groups: Vec<Group<'a>>,
    unrecorded: u64,
}

#[derive(Serialize)]
struct Group<'a> {
    times: usize,
    calls: Vec<Calls<'a>>,
}

#[derive(Serialize)]
struct Calls<'a> {
    verb: &'a str,
    status: Option<String>,
    times: u64,
}

#[derive(Serialize)]
struct Stop<'a> {
    reason: String,
    detail: u64,
    text: String,
    rip: u64,
    frames: u64,
    cpu: u64,
    instructions: Option<u64>,
    entry_failure: Option<Refused<'a>>,
}

#[derive(Serialize)]
struct Refused<'a> {
    class: &'a str,
    code: u64,
    qualification: u64,
    broken: u64,
    text: &'a str,
    rules: Vec<BrokenRule<'a>>,
    fields: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct BrokenRule<'a> {
    rule: &'a str,
    section: &'a str,
    text: &'a str,
    fields: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct Panic<'a> {
    text: &'a str,
    cpu: Option<u64>,
    trace: &'a [u64],
}

/// The report on a run as JSON text; `run` is missing if it could not be started.
pub fn render(options: &Options, verdict: &Verdict, run: Option<&Run>) -> String {
    let counted = run.is_some_and(|run| run.counted);
    let report = run.map(|run| &run.report);
    let document = Document {
        schema: SCHEMA,
        bed: &options.bed,
        manifest: options.what.manifest.display().to_string(),
        verdict: VerdictKeys::new(verdict),
        counted,
        wall_ms: run.map_or(0, |run| run.wall.as_millis().try_into().unwrap_or(u64::MAX)),
        input: run.and_then(input),
        digest: run.and_then(digest),
        boot: report.and_then(boot),
        timer_interrupts: report.and_then(|report| report.timer_interrupts),
        frames: report
            .and_then(|report| report.frames)
            .map(|frames| Frames {
                before: frames.before,
                after: frames.after,
            }),
        domains: report.map_or(Vec::new(), |report| {
            let domains = report.domains.iter();
            domains.map(|domain| domain_keys(domain, counted)).collect()
        }),
        panic: report
            .and_then(|report| report.panic.as_ref())
            .map(|panic| Panic {
                text: &panic.text,
                cpu: panic.cpu,
                trace: &panic.trace,
            }),
        damaged_records: report.map_or(0, |report| report.damaged),
    };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn input(run: &Run) -> Option<Input<'_>> {
    let (path, copied) = run.input.as_ref()?;
    Some(Input {
        path: path.display().to_string(),
        bytes: copied.bytes,
        sha256: &copied.sha256,
    })
}

fn digest(run: &Run) -> Option<Digest<'_>> {
    let digest = run.report.digest.as_ref()?;
    let input = run.input.as_ref();
    Some(Digest {
        domain: &digest.domain,
        sha256: &digest.sha256,
        bytes: digest.bytes,
        equals_input: input.is_some_and(|(_, copied)| {
            copied.sha256 == digest.sha256 && copied.bytes == digest.bytes
        }),
    })
}

fn left_out(cpu: &report::LeftOutCpu) -> LeftOutCpu<'_> {
    LeftOutCpu {
        index: cpu.index,
        apic_id: cpu.apic_id,
        reason: &cpu.reason,
    }
}

fn boot(report: &Report) -> Option<Boot<'_>> {
    let boot = report.boot.as_ref()?;
    Some(Boot {
        vendor: &boot.vendor,
        abi: &boot.abi,
        cpus: boot.cpus,
        cpus_left_out: report.left_out_cpus.iter().map(left_out).collect(),
        tsc_hz: boot.tsc_hz,
        reference: boot.reference.as_deref(),
        timer: boot.timer.as_deref(),
        ram_bytes: boot.ram_bytes,
    })
}

fn domain_keys(domain: &DomainReport, counted: bool) -> Domain<'_> {
    Domain {
        name: &domain.name,
        stop: domain.stop.map(|stop| Stop {
            reason: stop.name(),
            detail: stop.detail,
            text: domain.why().unwrap_or_default(),
            rip: stop.rip,
            frames: stop.frames,
            cpu: stop.cpu,
            instructions: counted.then_some(stop.ticks),
            entry_failure: domain.entry_failure.as_ref().map(refused),
        }),
        calls: map(&domain.calls),
        exits: map(&domain.exits),
        sent: domain.traffic.sent,
        received: domain.traffic.received,
        notified: domain.traffic.notified,
        coalesced: domain.traffic.coalesced,
        trace: domain.trace().map(trace_keys),
    }
}

/// The keys of a trace.
pub fn trace_keys(trace: &CallTrace) -> Trace<'_> {
    let groups = fold::fold(&trace.runs).into_iter().map(|group| Group {
        times: group.times,
        calls: group.runs.iter().map(calls).collect(),
    });
    Trace {
        groups: groups.collect(),
        unrecorded: trace.unrecorded,
    }
}

fn calls(run: &CallRun) -> Calls<'_> {
    Calls {
        verb: run.call.verb_name(),
        status: run.call.status_name(),
        times: run.times,
    }
}

fn refused(failure: &EntryFailure) -> Refused<'_> {
    let rules = failure.rules.iter().map(|rule| BrokenRule {
        rule: &rule.name,
        section: &rule.section,
        text: &rule.text,
        fields: map(&rule.values),
    });
    Refused {
        class: &failure.class,
        code: failure.code,
        qualification: failure.qualification,
        broken: failure.broken,
        text: &failure.text,
        rules: rules.collect(),
        fields: map(&failure.values),
    }
}

fn map(counts: &Counts) -> BTreeMap<&str, u64> {
    let pairs = counts.iter().map(|(name, count)| (name.as_str(), *count));
    pairs.collect()
}
