//! The report: what the hypervisor writes on its serial line, collected into numbers.
//!
//! `line` tells the three sorts of lines apart, `fields` reads a record's `key=value` pairs and
//! [`Report`] keeps what they say. Neighbours: `run` feeds it line by line, `verdict` judges it,
//! `table` and `json` show it.
//!
//! Invariant: whatever arrives on the line, the report stays small: names that the manifest does
//! not have, keys that are no numbers and lists that never end are counted and dropped.

mod counts;
mod entry;
mod fields;
mod line;
mod panic;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use counts::{Console, Counts, DomainReport, Stop, Traffic};
pub use entry::{BrokenRule, EntryFailure};
use fields::Fields;
pub use line::Line;
pub use panic::PanicReport;
pub use sequence::{Answer, Call, CallRun, CallTrace};

/// As many CPUs as the hypervisor knows of, less the one that reports.
const MAX_LEFT_OUT_CPUS: usize = 255;

/// Log lines that are kept to explain a run that went wrong.
const LOG_LINES_KEPT: usize = 12;

/// What the machine said when it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// `svm` or `vmx`.
    pub vendor: String,
    /// The ABI version of the hypervisor.
    pub abi: String,
    /// How many CPUs are used; `None` if it did not say so.
    pub cpus: Option<u64>,
    /// Frequency of the time-stamp counter.
    pub tsc_hz: Option<u64>,
    /// The clock that it was measured against; `None` if it did not say so.
    pub reference: Option<String>,
    /// How the timer is programmed; `None` if it did not say so.
    pub timer: Option<String>,
    /// Memory of the machine.
    pub ram_bytes: Option<u64>,
}

/// A CPU that the hypervisor does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutCpu {
    /// Its place in the firmware's list, in which the boot CPU's is 0.
    pub index: u64,
    /// Its local APIC.
    pub apic_id: u64,
    /// A word that says why.
    pub reason: String,
}

/// Why the hypervisor cannot run at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for machines.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

/// Free frames before the first domain was built and after the last was torn down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// How the hypervisor ended the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every foreground domain exited with code 0.
    Ok,
    /// One did not.
    Failed,
    /// The hypervisor itself broke.
    Panic,
}

/// A digest that a domain printed: `sha256 HEX N bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The domain that printed it.
    pub domain: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// How many bytes it covers.
    pub bytes: u64,
}

/// Everything that a run has reported so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// `@boot`
    pub boot: Option<Boot>,
    /// `@cpu`
    pub left_out_cpus: Vec<LeftOutCpu>,
    /// `@ready`: the domains are built.
    pub is_ready: bool,
    /// `@refused`
    pub refusal: Option<Refusal>,
    /// What is known about each domain, in the order of the manifest.
    pub domains: Vec<DomainReport>,
    /// `@interrupts`: how often the timers have fired.
    pub timer_interrupts: Option<u64>,
    /// `@frames`
    pub frames: Option<Frames>,
    /// `@panic` and `@trace`
    pub panic: Option<PanicReport>,
    /// `@flushed`: steps of the log of flushes, and how many did not fit.
    pub flushes: Option<(u64, u64)>,
    /// `@end`
    pub end: Option<End>,
    /// The digest, if the manifest names a domain that states it.
    pub digest: Option<Digest>,
    /// The last lines of the hypervisor's log.
    pub log: VecDeque<String>,
    /// Records that could not be read.
    pub damaged: u64,
    digest_domain: Option<String>,
}

impl Report {
    /// An empty report on these domains; `digest_domain` is the one whose console states the digest.
    pub fn new<'a>(domains: impl Iterator<Item = &'a str>, digest_domain: Option<&str>) -> Self {
        Report {
            domains: domains.map(DomainReport::new).collect(),
            digest_domain: digest_domain.map(str::to_owned),
            ..Report::default()
        }
    }

    /// The report on the domain of that name.
    pub fn domain(&self, name: &str) -> Option<&DomainReport> {
        self.domains.iter().find(|domain| domain.name == name)
    }

    /// Takes in one line of the serial output.
    pub fn take(&mut self, line: &Line<'_>) {
        match line {
            Line::Record { kind, fields } => {
                if self.record(kind, &Fields::parse(fields)).is_none() {
                    self.damaged += 1;
                }
            }
            Line::Console { domain, text } => self.console(domain, text),
            Line::Log(text) => self.log_line(text),
        }
    }

    /// Takes in one record; `None` if it cannot be read or says again what was said.
    fn record(&mut self, kind: &str, fields: &Fields<'_>) -> Option<()> {
        match kind {
            "boot" => set_once(&mut self.boot, boot(fields)?),
            "cpu" => self.add_left_out_cpu(fields),
            "ready" => {
                self.is_ready = true;
                Some(())
            }
            "refused" => set_once(&mut self.refusal, refusal(fields)?),
            "domain" => self.named(fields)?.set_stop(fields),
            "calls" => self.named(fields)?.set_calls(fields),
            "exits" => self.named(fields)?.set_exits(fields),
            "traffic" => self.named(fields)?.set_traffic(fields),
            "sequence" => self.named(fields)?.add_calls(fields),
            "sequenced" => self.named(fields)?.finish_calls(fields),
            "entry" => self.named(fields)?.set_entry_failure(fields),
            "rule" => self.named(fields)?.refused()?.add_rule(fields),
            "fields" => self.named(fields)?.refused()?.add_values(fields),
            "flush" => is_flush(fields),
            "flushed" => self.set_flushes(fields),
            "interrupts" => set_once(&mut self.timer_interrupts, fields.number("timer")?),
            "frames" => set_once(&mut self.frames, frames(fields)?),
            "panic" => set_once(
                &mut self.panic,
                PanicReport::new(fields.get("text")?, fields.number("cpu")),
            ),
            "trace" => self.panic.as_mut()?.add_address(fields.first()?),
            "end" => set_once(&mut self.end, end(fields)?),
            _ => None,
        }
    }

    fn add_left_out_cpu(&mut self, fields: &Fields<'_>) -> Option<()> {
        let cpu = LeftOutCpu {
            index: fields.number("index")?,
            apic_id: fields.number("apic_id")?,
            reason: fields.get("left_out")?.to_owned(),
        };
        let is_known = self
            .left_out_cpus
            .iter()
            .any(|known| known.index == cpu.index);
        if is_known || self.left_out_cpus.len() == MAX_LEFT_OUT_CPUS {
            return None;
        }
        self.left_out_cpus.push(cpu);
        Some(())
    }

    fn set_flushes(&mut self, fields: &Fields<'_>) -> Option<()> {
        let steps = (fields.number("recorded")?, fields.number("unrecorded")?);
        set_once(&mut self.flushes, steps)
    }

    fn named(&mut self, fields: &Fields<'_>) -> Option<&mut DomainReport> {
        let name = fields.get("name")?;
        self.domains.iter_mut().find(|domain| domain.name == name)
    }

    fn console(&mut self, domain: &str, text: &str) {
        let mut domains = self.domains.iter_mut();
        if let Some(found) = domains.find(|known| known.name == domain) {
            found.console.add(text);
        }
        if self.digest_domain.as_deref() == Some(domain) {
            if let Some(digest) = digest(domain, text) {
                self.digest = Some(digest);
            }
        }
    }

    fn log_line(&mut self, text: &str) {
        if let Some(panic) = &mut self.panic {
            panic.add_line(text);
            return;
        }
        if self.log.len() == LOG_LINES_KEPT {
            self.log.pop_front();
        }
        self.log.push_back(text.to_owned());
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(value);
    Some(())
}

fn boot(fields: &Fields<'_>) -> Option<Boot> {
    Some(Boot {
        vendor: fields.get("vendor")?.to_owned(),
        abi: fields.get("abi")?.to_owned(),
        cpus: fields.number("cpus"),
        tsc_hz: fields.number("tsc_hz"),
        reference: fields.get("reference").map(str::to_owned),
        timer: fields.get("timer").map(str::to_owned),
        ram_bytes: fields.number("ram_bytes"),
    })
}

fn refusal(fields: &Fields<'_>) -> Option<Refusal> {
    Some(Refusal {
        code: fields.get("code")?.to_owned(),
        text: fields.get("text")?.to_owned(),
    })
}

/// Whether it is a step of the log of flushes, which is for whoever reads the records themselves.
fn is_flush(fields: &Fields<'_>) -> Option<()> {
    fields.number("cpu")?;
    fields.get("step").map(|_| ())
}

fn frames(fields: &Fields<'_>) -> Option<Frames> {
    Some(Frames {
        before: fields.number("before")?,
        after: fields.number("after")?,
    })
}

fn end(fields: &Fields<'_>) -> Option<End> {
    match fields.get("result")? {
        "ok" => Some(End::Ok),
        "failed" => Some(End::Failed),
        "panic" => Some(End::Panic),
        _ => None,
    }
}

/// Reads `sha256 HEX N bytes`.
fn digest(domain: &str, text: &str) -> Option<Digest> {
    let mut words = text.split(' ');
    let (keyword, sha256) = (words.next()?, words.next()?);
    let (count, unit) = (words.next()?, words.next()?);
    let is_hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if keyword != "sha256" || unit != "bytes" || !is_hex || words.next().is_some() {
        return None;
    }
    Some(Digest {
        domain: domain.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        bytes: count.parse().ok()?,
    })
}
