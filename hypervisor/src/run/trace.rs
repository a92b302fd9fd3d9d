//! The calls of a vcpu as its guest saw them, for whoever compares runs or looks for a mistake.
//!
//! Recorded only if the command line asks for it, and beside the path of a call: the loop looks at
//! the vcpu before each entry (`Runner::attend`) and finds its call in the counters, its status in
//! the register. What is kept is the verb and the status: no argument, no value, no time.
//!
//! Invariant: a trace never grows beyond [`MOST_RUNS`], whatever its guest does; what does not fit
//! is counted.

use core::fmt;

use alloc::vec::Vec;

use nuncio_abi::{Error, Verb};

/// Runs of equal calls that are kept of one vcpu: 128 KiB.
const MOST_RUNS: usize = 32_768;

/// Runs in a line of the report.
const RUNS_IN_A_LINE: usize = 64;

/// A counter for each verb, and one for verbs that do not exist.
const COUNTERS: usize = Verb::ALL.len() + 1;

/// A verb that does not exist; which it was is not kept.
const UNKNOWN_VERB: u8 = u8::MAX;

/// A call that never returned.
const NO_STATUS: u8 = u8::MAX;

/// A status that no table has room for; only a broken hypervisor can give one.
const STRANGE_STATUS: u8 = NO_STATUS - 1;

const _: () = assert!(Verb::ALL.len() < UNKNOWN_VERB as usize);
const _: () = assert!(Error::ALL.len() < STRANGE_STATUS as usize);

/// The same call with the same status, some times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    verb: u8,
    status: u8,
    times: u16,
}

const _: () = assert!(size_of::<Run>() == 4);

/// The calls of one vcpu, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTrace {
    /// The counters of calls when it was last looked at.
    seen: [u64; COUNTERS],
    runs: Vec<Run>,
    recorded: u64,
    unrecorded: u64,
}

impl CallTrace {
    /// Adds the call that has been counted since it was last looked at, if any; there is never
    /// more than one. `status` is missing if it never returned.
    pub fn record(&mut self, counters: &[u64; COUNTERS], status: Option<u64>) {
        let counted = counters.iter().zip(&self.seen);
        let Some(verb) = counted.into_iter().position(|(now, seen)| now != seen) else {
            return;
        };
        self.seen = *counters;
        self.add(verb, status);
    }

    fn add(&mut self, verb: usize, status: Option<u64>) {
        let known = u8::try_from(verb).ok().filter(|_| verb < Verb::ALL.len());
        let status = status.map(|status| status.min(STRANGE_STATUS.into()) as u8);
        let run = Run {
            verb: known.unwrap_or(UNKNOWN_VERB),
            status: status.unwrap_or(NO_STATUS),
            times: 1,
        };
        if self.unrecorded == 0 && (self.repeat_last(run) || self.push(run)) {
            self.recorded += 1;
        } else {
            self.unrecorded += 1;
        }
    }

    fn repeat_last(&mut self, run: Run) -> bool {
        let Some(last) = self.runs.last_mut() else {
            return false;
        };
        let same = (last.verb, last.status) == (run.verb, run.status);
        match last.times.checked_add(1).filter(|_| same) {
            Some(times) => last.times = times,
            None => return false,
        }
        true
    }

    fn push(&mut self, run: Run) -> bool {
        let fits = self.runs.len() < MOST_RUNS && self.runs.try_reserve(1).is_ok();
        if fits {
            self.runs.push(run);
        }
        fits
    }

    /// Writes the lines of the report, each with the domain's name and a line end before it.
    pub(super) fn write(&self, formatter: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        for runs in self.runs.chunks(RUNS_IN_A_LINE) {
            write!(formatter, "\n@sequence name={name} runs=")?;
            for (index, run) in runs.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(formatter, "{comma}{run}")?;
            }
        }
        let (recorded, unrecorded) = (self.recorded, self.unrecorded);
        write!(
            formatter,
            "\n@sequenced name={name} recorded={recorded} unrecorded={unrecorded}"
        )
    }
}

/// `VERB[.STATUS][xTIMES]`: numbers of the ABI, `?` for a verb that does not exist and for the
/// status of a call that never returned, `!` for one out of range; no status is 0, no times are 1.
impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verb {
            UNKNOWN_VERB => formatter.write_str("?")?,
            verb => write!(formatter, "{verb}")?,
        }
        match self.status {
            0 => {}
            NO_STATUS => formatter.write_str(".?")?,
            STRANGE_STATUS => formatter.write_str(".!")?,
            status => write!(formatter, ".{status}")?,
        }
        match self.times {
            1 => Ok(()),
            times => write!(formatter, "x{times}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    struct Lines<'a>(&'a CallTrace);

    impl fmt::Display for Lines<'_> {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(formatter, "d")
        }
    }

    fn lines(trace: &CallTrace) -> String {
        alloc::format!("{}", Lines(trace))
    }

    fn traced(calls: &[(usize, Option<u64>)]) -> CallTrace {
        let mut trace = CallTrace::default();
        let mut counters = [0; COUNTERS];
        for (verb, status) in calls {
            counters[*verb] += 1;
            trace.record(&counters, *status);
            // Looking again finds nothing new.
            trace.record(&counters, None);
        }
        trace
    }

    #[test]
    fn equal_calls_in_a_row_are_one_run() {
        let send = Verb::Send.number() as usize;
        let trace = traced(&[
            (0, Some(0)),
            (send, Some(0)),
            (send, Some(0)),
            (send, Some(7)),
            (Verb::ALL.len(), Some(1)),
            (4, Some(1 << 40)),
            (9, None),
        ]);
        assert_eq!(
            lines(&trace),
            "\n@sequence name=d runs=0,1x2,1.7,?.1,4.!,9.?\n@sequenced name=d recorded=7 unrecorded=0"
        );
    }

    #[test]
    fn a_run_that_is_too_long_goes_on_in_another() {
        let trace = traced(&[(0, Some(0)); 65_537]);
        assert!(lines(&trace).contains(" runs=0x65535,0x2\n"));
    }

    #[test]
    fn a_full_trace_counts_what_it_leaves_out() {
        let mut calls = alloc::vec::Vec::new();
        for index in 0..MOST_RUNS + 10 {
            calls.push((index % 2, Some(0)));
        }
        let trace = traced(&calls);
        assert_eq!(trace.runs.len(), MOST_RUNS);
        assert_eq!(trace.runs.capacity(), MOST_RUNS);
        let text = lines(&trace);
        let end = std::format!("recorded={MOST_RUNS} unrecorded=10");
        assert!(text.ends_with(&end), "{text}");
        assert!(text.lines().all(|line| line.len() < 1024));
    }
}
