//! The calls of a domain in their order: `@sequence` and `@sequenced`, which the hypervisor adds to
//! its report when it is asked for `trace=calls`.

use nuncio_abi::{Error, Verb};

use super::fields::Fields;

/// Runs that are kept of a domain; the hypervisor records fewer.
const MOST_RUNS: usize = 20_000;

/// What a guest saw of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The verb; `None` if the hypervisor has no such verb.
    pub verb: Option<Verb>,
    /// What came back.
    pub answer: Answer,
}

/// What came back from a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A status: 0, or the number of an error.
    Status(u64),
    /// A status that does not even fit into the record.
    OutOfRange,
    /// Nothing: the domain ended first.
    Nothing,
}

/// The same call some times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRun {
    /// The call.
    pub call: Call,
    /// How often.
    pub times: u64,
}

/// The calls of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTrace {
    /// In their order; neighbours differ.
    pub runs: Vec<CallRun>,
    /// Calls behind them that the hypervisor had no room for.
    pub unrecorded: u64,
}

impl Call {
    /// The name of the verb.
    pub fn verb_name(&self) -> &'static str {
        self.verb.map_or("unknown", Verb::name)
    }

    /// The name of the status: `ok` or that of an error; `None` if the call never returned.
    pub fn status_name(&self) -> Option<String> {
        match self.answer {
            Answer::Status(0) => Some("ok".to_owned()),
            Answer::Status(number) => Some(match Error::from_number(number) {
                Some(error) => error.name().to_owned(),
                None => format!("status-{number}"),
            }),
            Answer::OutOfRange => Some("status-out-of-range".to_owned()),
            Answer::Nothing => None,
        }
    }
}

/// The call in a few words: a verb alone succeeded, or was `stop`, which does not return.
impl std::fmt::Display for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.verb_name())?;
        match self.status_name() {
            _ if self.answer == Answer::Status(0) => Ok(()),
            Some(status) => write!(formatter, ": {status}"),
            None if self.verb == Some(Verb::Stop) => Ok(()),
            None => formatter.write_str(": unanswered"),
        }
    }
}

impl CallTrace {
    /// Takes in `@sequence`; `None` if a part of it cannot be read.
    pub fn add_runs(&mut self, fields: &Fields<'_>) -> Option<()> {
        for text in fields.get("runs")?.split(',') {
            let run = parse(text)?;
            let is_full = self.runs.len() >= MOST_RUNS;
            match self.runs.last_mut() {
                Some(last) if last.call == run.call => {
                    last.times = last.times.saturating_add(run.times);
                }
                _ if is_full => return None,
                _ => self.runs.push(run),
            }
        }
        Some(())
    }

    /// Takes in `@sequenced`; `None` if it does not fit what came before.
    pub fn finish(&mut self, fields: &Fields<'_>) -> Option<()> {
        let sum = |sum: u64, run: &CallRun| sum.saturating_add(run.times);
        let recorded = self.runs.iter().fold(0, sum);
        self.unrecorded = fields.number("unrecorded")?;
        (fields.number("recorded")? == recorded).then_some(())
    }
}

/// Reads `VERB[.STATUS][xTIMES]`.
fn parse(text: &str) -> Option<CallRun> {
    let (call, times) = match text.split_once('x') {
        Some((call, times)) => (call, times.parse().ok().filter(|times| *times > 0)?),
        None => (text, 1),
    };
    let (verb, status) = call.split_once('.').unwrap_or((call, "0"));
    let verb = match verb {
        "?" => None,
        number => Some(Verb::from_number(number.parse().ok()?)?),
    };
    let answer = match status {
        "?" => Answer::Nothing,
        "!" => Answer::OutOfRange,
        number => Answer::Status(number.parse().ok()?),
    };
    let call = Call { verb, answer };
    Some(CallRun { call, times })
}
