//! What is known about one domain: how it stopped and what was counted.

use nuncio_abi::StopReason;

use super::entry::EntryFailure;
use super::fields::Fields;
use super::sequence::CallTrace;

/// Named counts in the order in which the hypervisor lists them.
pub type Counts = Vec<(String, u64)>;

/// Lines of its console that are kept of a domain.
const MOST_LINES: usize = 10_000;

/// Counts of one kind that are kept for a domain.
const MAX_COUNTS: usize = 32;

/// One domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainReport {
    /// Its name.
    pub name: String,
    /// How it stopped, if it has been reported.
    pub stop: Option<Stop>,
    /// What the hypervisor adds in its own words, such as what is wrong with an image.
    pub note: Option<String>,
    /// Calls by verb.
    pub calls: Counts,
    /// Exits by kind.
    pub exits: Counts,
    /// Messages and notifications.
    pub traffic: Traffic,
    /// Why the CPU refused to enter it.
    pub entry_failure: Option<EntryFailure>,
    /// What it wrote.
    pub console: Console,
    /// Its calls, as far as they have been reported.
    calls_in_order: Option<CallTrace>,
    /// Whether that is all of them.
    is_sequenced: bool,
}

/// What a domain wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// The first lines.
    pub lines: Vec<String>,
    /// How many more there were.
    pub dropped: u64,
}

impl Console {
    pub(super) fn add(&mut self, line: &str) {
        if self.lines.len() < MOST_LINES {
            self.lines.push(line.to_owned());
        } else {
            self.dropped += 1;
        }
    }
}

/// How a domain stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The number of a [`StopReason`].
    pub reason: u64,
    /// What goes with the reason.
    pub detail: u64,
    /// Where the guest was.
    pub rip: u64,
    /// What the time-stamp counter advanced while it ran.
    pub ticks: u64,
    /// Frames that it had.
    pub frames: u64,
    /// The CPU on which it ran.
    pub cpu: u64,
}

/// Messages and notifications of one domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Notifications sent.
    pub notified: u64,
    /// Notifications among them whose bits were still pending.
    pub coalesced: u64,
}

impl Stop {
    /// Whether the domain asked to stop with exit code 0.
    pub fn is_success(&self) -> bool {
        self.is(StopReason::Exited) && self.detail == 0
    }

    /// Whether it stopped for this reason.
    pub fn is(&self, reason: StopReason) -> bool {
        self.reason == reason.number()
    }

    /// The name of the reason.
    pub fn name(&self) -> String {
        match StopReason::from_number(self.reason) {
            Some(reason) => reason.name().to_owned(),
            None => format!("reason-{}", self.reason),
        }
    }

    /// The reason with its detail, short enough for a table.
    pub fn short(&self) -> String {
        match StopReason::from_number(self.reason) {
            None => format!("reason {} (detail {})", self.reason, self.detail),
            Some(StopReason::Exited) => format!("exited, code {}", self.detail),
            Some(reason) if reason.detail_is_address() => {
                format!("{} {:#x}", reason.name(), self.detail)
            }
            Some(reason) => reason.name().to_owned(),
        }
    }

    /// The reason as a sentence for people.
    pub fn sentence(&self) -> String {
        let Some(reason) = StopReason::from_number(self.reason) else {
            return "The hypervisor gave a reason that this tool does not know.".to_owned();
        };
        let text = reason.text().trim_end_matches('.');
        let detail = if reason.detail_is_address() {
            format!("{:#x}", self.detail)
        } else {
            self.detail.to_string()
        };
        match text.split_once("; the detail is ") {
            Some((what, name)) => format!("{what}; {name}: {detail}."),
            None => format!("{text}."),
        }
    }
}

impl DomainReport {
    /// A domain of which nothing is known yet.
    pub fn new(name: &str) -> Self {
        DomainReport {
            name: name.to_owned(),
            ..DomainReport::default()
        }
    }

    /// Takes in `@domain`; only the first one counts.
    pub fn set_stop(&mut self, fields: &Fields<'_>) -> Option<()> {
        let number = |key| fields.number(key);
        let stop = Stop {
            reason: number("reason")?,
            detail: number("detail")?,
            rip: number("rip").unwrap_or(0),
            ticks: number("ticks").unwrap_or(0),
            frames: number("frames").unwrap_or(0),
            cpu: number("cpu").unwrap_or(0),
        };
        super::set_once(&mut self.stop, stop)?;
        self.note = fields.get("text").map(str::to_owned);
        Some(())
    }

    /// Takes in `@entry`.
    pub fn set_entry_failure(&mut self, fields: &Fields<'_>) -> Option<()> {
        super::set_once(&mut self.entry_failure, EntryFailure::read(fields)?)
    }

    /// What is known about a refused entry, to add to it.
    pub fn refused(&mut self) -> Option<&mut EntryFailure> {
        self.entry_failure.as_mut()
    }

    /// Why it stopped, as a sentence for people; `None` if that is not known.
    pub fn why(&self) -> Option<String> {
        let sentence = self.stop?.sentence();
        Some(match &self.note {
            Some(note) => format!("{sentence} {note}"),
            None => sentence,
        })
    }

    /// Takes in `@calls`.
    pub fn set_calls(&mut self, fields: &Fields<'_>) -> Option<()> {
        set_counts(&mut self.calls, fields)
    }

    /// Takes in `@exits`.
    pub fn set_exits(&mut self, fields: &Fields<'_>) -> Option<()> {
        set_counts(&mut self.exits, fields)
    }

    /// Its calls in their order, if they were recorded and have been reported to the end.
    pub fn trace(&self) -> Option<&CallTrace> {
        self.calls_in_order.as_ref().filter(|_| self.is_sequenced)
    }

    /// Takes in `@sequence`.
    pub fn add_calls(&mut self, fields: &Fields<'_>) -> Option<()> {
        if self.is_sequenced {
            return None;
        }
        let trace = self.calls_in_order.get_or_insert_default();
        trace.add_runs(fields)
    }

    /// Takes in `@sequenced`.
    pub fn finish_calls(&mut self, fields: &Fields<'_>) -> Option<()> {
        if self.is_sequenced {
            return None;
        }
        self.calls_in_order.get_or_insert_default().finish(fields)?;
        self.is_sequenced = true;
        Some(())
    }

    /// Takes in `@traffic`.
    pub fn set_traffic(&mut self, fields: &Fields<'_>) -> Option<()> {
        self.traffic = Traffic {
            sent: fields.number("sent")?,
            received: fields.number("received")?,
            notified: fields.number("notified")?,
            coalesced: fields.number("coalesced")?,
        };
        Some(())
    }
}

fn set_counts(counts: &mut Counts, fields: &Fields<'_>) -> Option<()> {
    if !counts.is_empty() {
        return None;
    }
    // A domain's name may read as a number; it is no count.
    let numbers = fields.numbers().filter(|(key, _)| *key != "name");
    let owned = numbers.map(|(key, count)| (key.to_owned(), count));
    counts.extend(owned.take(MAX_COUNTS));
    Some(())
}
