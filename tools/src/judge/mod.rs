//! Judges a run that was started: how the machine ended, against what the report says.

use nuncio_abi::StopReason;

use crate::beds::Meaning;
use crate::report::{DomainReport, End, Report};
use crate::run::Ending;
use crate::verdict::{Kind, Verdict};

/// What a run is judged by.
pub struct Case<'a> {
    /// The bed's name.
    pub bed: &'a str,
    /// How the bed's process ended.
    pub ending: &'a Ending,
    /// What its exit status says, if it has one.
    pub meaning: Option<Meaning>,
    /// The last line that the bed wrote on its standard error.
    pub bed_error: &'a str,
    /// What the hypervisor reported.
    pub report: &'a Report,
    /// The names of the domains that must exit with code 0.
    pub foreground: &'a [String],
    /// The digest that a domain must state.
    pub expected: Option<Expected>,
    /// The time limit of the run.
    pub limit_seconds: u64,
}

/// The digest that a domain must state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The domain.
    pub domain: String,
    /// The digest that the host computed.
    pub sha256: String,
    /// The length of the input.
    pub bytes: u64,
}

/// The verdict on a run.
pub fn judge(case: &Case<'_>) -> Verdict {
    match case.ending {
        Ending::Interrupted => Verdict::new(Kind::Interrupted, "interrupted; the machine was stopped"),
        Ending::TimedOut => timed_out(case),
        Ending::Silent(silence) => Verdict::new(
            Kind::TimeLimit,
            format!(
                "nothing was heard for {} s and the machine was stopped: the domains or the hypervisor hang; run it again with --verbose",
                silence.as_secs()
            ),
        ),
        Ending::Signalled(signal) => Verdict::new(
            Kind::BedFailed,
            format!(
                "the test bed {} was killed by signal {signal}; run it again, and look at the system log if it happens again",
                case.bed
            ),
        ),
        Ending::Exited(status) => exited(case, *status),
    }
}

fn exited(case: &Case<'_>, status: i32) -> Verdict {
    match case.meaning.unwrap_or(Meaning::Unknown) {
        Meaning::Ok => reported_ok(case),
        Meaning::Failed => reported_failure(case),
        Meaning::Refused => refused(case),
        Meaning::Panicked => panicked(case),
        Meaning::Ended => ended(case, status),
        Meaning::MachineReset => reset(case, status),
        Meaning::TripleFault => incomplete(format!(
            "{} ended at a triple fault (status {status}), the hypervisor's or a guest's: it does not give the hypervisor a chance to stop such a guest; run on another bed to see whose it was",
            case.bed
        )),
        Meaning::CannotStart => cannot_start(case, status),
        Meaning::Unknown => incomplete(format!(
            "{} ended with status {status}, which is no result; run again with --verbose to see the log",
            case.bed
        )),
    }
}

/// The report says what the status does not.
fn ended(case: &Case<'_>, status: i32) -> Verdict {
    match case.report.end {
        Some(End::Failed) => reported_failure(case),
        Some(End::Panic) => panicked(case),
        None if case.report.refusal.is_some() => refused(case),
        Some(End::Ok) | None => incomplete(format!(
            "{} ended without success (status {status}), but the report does not say why; run again with --verbose to see the log",
            case.bed
        )),
    }
}

fn timed_out(case: &Case<'_>) -> Verdict {
    let state = if case.report.end.is_some() {
        "the hypervisor had ended the run, but the machine did not stop"
    } else if case.report.is_ready {
        "the hypervisor did not end the run itself"
    } else if case.report.boot.is_some() {
        "the hypervisor had started, but not the domains"
    } else {
        "nothing was heard from the hypervisor"
    };
    let text = format!(
        "the time limit of {} s was reached and the machine was stopped: {state}; allow more with --timeout, or see what it did with --verbose",
        case.limit_seconds
    );
    Verdict::new(Kind::TimeLimit, text)
}

fn refused(case: &Case<'_>) -> Verdict {
    match &case.report.refusal {
        Some(refusal) => Verdict::new(Kind::Refused, format!("the hypervisor refused to run: {}", refusal.text)),
        None => incomplete("the hypervisor refused to run, and its reason was lost; run again with --verbose to see the log"),
    }
}

fn panicked(case: &Case<'_>) -> Verdict {
    let text = case.report.panic.as_ref().map(|panic| panic.text.as_str());
    Verdict::new(
        Kind::HypervisorPanic,
        format!(
            "the hypervisor broke: {}; this is a bug in Nuncio, please report it with the backtrace above",
            text.unwrap_or("its message was lost")
        ),
    )
}

fn reset(case: &Case<'_>, status: i32) -> Verdict {
    let last = case
        .report
        .log
        .back()
        .map_or(String::new(), |line| format!(" (last log line: {line})"));
    Verdict::new(
        Kind::MachineReset,
        format!(
            "the whole machine reset without a result ({} ended with status {status}): a triple fault of the hypervisor{last}; this is a bug in Nuncio, please report it",
            case.bed
        ),
    )
}

fn cannot_start(case: &Case<'_>, status: i32) -> Verdict {
    let said = match case.bed_error {
        "" => "it said nothing",
        error => error,
    };
    Verdict::new(
        Kind::BedFailed,
        format!("{} could not start the machine (status {status}): {said}; check --memory, --cpu and the installation of the test bed", case.bed),
    )
}

fn incomplete(text: impl Into<String>) -> Verdict {
    Verdict::new(Kind::ReportIncomplete, text)
}

fn reported_failure(case: &Case<'_>) -> Verdict {
    let failed = failures(case);
    let on_time = |(_, domain): &(&str, Option<&DomainReport>)| {
        domain
            .and_then(|domain| domain.stop)
            .is_some_and(|stop| stop.is(StopReason::TimeLimit))
    };
    if let (true, Some(_)) = (failed.iter().all(on_time), failed.first()) {
        let names: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
        return Verdict::new(
            Kind::TimeLimit,
            format!(
                "the time limit of {} s was reached while {} still ran; allow more with --timeout",
                case.limit_seconds,
                names.join(", ")
            ),
        );
    }
    if failed.is_empty() {
        return incomplete("the hypervisor says that a domain failed, but not which; run again with --verbose to see the log");
    }
    let reasons: Vec<_> = failed
        .iter()
        .map(|(name, domain)| reason(name, *domain))
        .collect();
    Verdict::new(
        Kind::DomainFailed,
        format!(
            "{}; see what it wrote on its console, or run again with --verbose",
            reasons.join("; ")
        ),
    )
}

fn reason(name: &str, domain: Option<&DomainReport>) -> String {
    let stop = domain.and_then(|domain| domain.stop);
    let why = domain.and_then(DomainReport::why);
    match (stop, why) {
        (Some(stop), Some(why)) => format!(
            "domain {name} failed: {}: {}",
            stop.short(),
            why.trim_end_matches('.')
        ),
        _ => format!("domain {name} failed, and its reason was lost"),
    }
}

/// The foreground domains that did not exit with code 0.
fn failures<'a>(case: &Case<'a>) -> Vec<(&'a str, Option<&'a DomainReport>)> {
    let named = case
        .foreground
        .iter()
        .map(|name| (name.as_str(), case.report.domain(name)));
    let failed = named.filter(|(_, domain)| {
        let stop = domain.and_then(|domain| domain.stop);
        !stop.is_some_and(|stop| stop.is_success())
    });
    failed.collect()
}

fn reported_ok(case: &Case<'_>) -> Verdict {
    if case.report.end != Some(End::Ok) {
        return incomplete(format!(
            "{} ended as if all were well, but the report does not end with result=ok; run again with --verbose to see the log",
            case.bed
        ));
    }
    if let Some((name, domain)) = failures(case).first() {
        return incomplete(format!(
            "the hypervisor says that all is well, but {}; this is a bug in Nuncio, please report it",
            reason(name, *domain)
        ));
    }
    if let Some(frames) = case
        .report
        .frames
        .filter(|frames| frames.before != frames.after)
    {
        return Verdict::new(
            Kind::FramesLost,
            format!(
                "of {} free frames only {} came back after the domains were torn down; this is a bug in Nuncio, please report it",
                frames.before, frames.after
            ),
        );
    }
    match &case.expected {
        Some(expected) => digest(case, expected),
        None => success(case),
    }
}

fn digest(case: &Case<'_>, expected: &Expected) -> Verdict {
    let domain = &expected.domain;
    let Some(digest) = &case.report.digest else {
        return Verdict::new(
            Kind::DigestMissing,
            format!(
                "{domain} exited without printing `sha256 HEX N bytes`, which the manifest asks of it; see what it wrote on its console"
            ),
        );
    };
    if digest.sha256 == expected.sha256 && digest.bytes == expected.bytes {
        return success(case);
    }
    Verdict::new(
        Kind::DigestDiffers,
        format!(
            "{domain} computed sha256 {} over {} bytes, but the input has {} over {} bytes: the data was changed on its way; run again with --count to repeat it exactly",
            digest.sha256, digest.bytes, expected.sha256, expected.bytes
        ),
    )
}

fn success(case: &Case<'_>) -> Verdict {
    let count = case.report.domains.len();
    let noun = if count == 1 { "domain" } else { "domains" };
    Verdict::new(
        Kind::Ok,
        format!("ok: {count} {noun} on {}, all as they should be", case.bed),
    )
}

#[cfg(test)]
mod tests;
