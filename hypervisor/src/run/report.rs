//! What is left of a domain when it has ended, and the lines in which the host tool reads it.

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Name, StopReason, Verb};

use crate::object::{Domain, DomainId, Ending};
use crate::vt::{EntryFailure, Vendor, VirtualCpu, EXIT_KINDS};

use super::domains::Record;
use super::{CallTrace, Counters, CpuIndex, Platform, World};

/// Whether a domain did what it was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A foreground domain exited with code 0, or a background domain was not missed.
    Good,
    /// Anything else.
    Failed,
}

impl Verdict {
    /// The verdict on an ending.
    pub const fn of(reason: StopReason, detail: u64, background: bool) -> Self {
        if background || matches!(reason, StopReason::Exited) && detail == 0 {
            Verdict::Good
        } else {
            Verdict::Failed
        }
    }
}

/// A domain that has ended.
pub struct DomainReport {
    /// Its number.
    pub id: DomainId,
    /// Its name.
    pub name: Name,
    /// How it ended.
    pub ending: Ending,
    /// Whether that was good.
    pub verdict: Verdict,
    /// What its vcpus did.
    pub counters: Counters,
    /// Frames that it had at the end.
    pub frames: u64,
    /// The CPU of its first vcpu.
    pub cpu: CpuIndex,
    /// Messages sent and received, notifications made and coalesced.
    pub traffic: [u64; 4],
    /// The calls of its first vcpu, if they were recorded.
    pub trace: Option<Box<CallTrace>>,
    /// Why the CPU refused to enter it, if that was its end.
    pub entry_failure: Option<EntryFailure>,
}

impl DomainReport {
    /// Of a domain that has ended and whose vcpus are gone.
    pub(super) fn new(domain: &Domain, ending: Ending, record: Record) -> Self {
        let traffic = &domain.traffic;
        let counts = [
            &traffic.sent,
            &traffic.received,
            &traffic.notified,
            &traffic.coalesced,
        ];
        DomainReport {
            id: domain.id,
            name: domain.name,
            ending,
            verdict: Verdict::of(ending.reason, ending.detail, record.background),
            counters: record.counters,
            frames: record.frames,
            cpu: domain.cpu,
            traffic: counts.map(|count| count.load(Relaxed)),
            trace: record.trace,
            entry_failure: record.entry_failure,
        }
    }
}

/// Why a vcpu could not be entered: whoever ends for this reason has just been tried, so it is still
/// loaded.
pub(super) fn entry_failure<V: Vendor, P: Platform>(
    world: &World<V, P>,
    reason: StopReason,
) -> Option<EntryFailure> {
    (reason == StopReason::BadState).then(|| world.vcpu.entry_failure())
}

/// The lines of the report, each beginning with `@`.
impl fmt::Display for DomainReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_str();
        let Ending {
            reason,
            detail,
            instruction_pointer,
        } = self.ending;
        let number = reason.number();
        let (ticks, frames, cpu) = (self.counters.ticks, self.frames, self.cpu.0);
        writeln!(
            formatter,
            "@domain name={name} reason={number} detail={detail} rip={instruction_pointer:#x} ticks={ticks} frames={frames} cpu={cpu}"
        )?;
        write!(formatter, "@calls name={name}")?;
        let verbs = Verb::ALL.iter().map(|verb| verb.name()).chain(["unknown"]);
        for (verb, count) in verbs.zip(self.counters.calls) {
            write!(formatter, " {verb}={count}")?;
        }
        write!(formatter, "\n@exits name={name}")?;
        for (kind, count) in EXIT_KINDS.iter().zip(self.counters.exits_by_kind()) {
            write!(formatter, " {kind}={count}")?;
        }
        let [sent, received, notified, coalesced] = self.traffic;
        write!(
            formatter,
            "\n@traffic name={name} sent={sent} received={received} notified={notified} coalesced={coalesced}"
        )?;
        if let Some(failure) = &self.entry_failure {
            failure.write_lines(formatter, name)?;
        }
        match &self.trace {
            Some(trace) => trace.write(formatter, name),
            None => Ok(()),
        }
    }
}
