//! What became of cached translations, in the order in which it happened on all CPUs.
//!
//! No emulator shows a flush that is missing. So the loops and the vendors write down what they ask for and
//! what they tell the CPU, if the command line asks for it, and tests read it. A vendor writes where it
//! writes to the CPU.
//!
//! Invariant: a log never grows beyond [`MOST_STEPS`]; what does not fit is counted.

#![forbid(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::lock::{rank, Mutex};

/// Steps that are kept: 128 KiB.
const MOST_STEPS: usize = 4096;

/// The log of all CPUs.
#[derive(Default)]
pub struct FlushLog(Mutex<Steps, rank::FlushLog>);

#[derive(Default)]
struct Steps {
    kept: Vec<(u8, Step)>,
    unrecorded: u64,
}

/// What happened on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A space has changed: what CPUs have cached of it may be wrong.
    Changed {
        /// Its number.
        space: u64,
    },
    /// Another CPU is told to forget it.
    Told {
        /// That CPU.
        cpu: u8,
    },
    /// No guest runs any more with what is wrong, on no CPU.
    Gone {
        /// The number of the space.
        space: u64,
    },
    /// A vcpu that is about to run may have cached what is wrong; its flush is asked for.
    Stale {
        /// Its number.
        vcpu: u32,
        /// The number of the space in which it runs.
        space: u64,
        /// The number of flushes of that space.
        version: u64,
    },
    /// The CPU is told to forget, now or on the entry that follows.
    Done {
        /// What the vendor calls it.
        how: &'static str,
        /// The identifier of the vcpu that runs next.
        identifier: u32,
    },
}

const _: () = assert!(size_of::<(u8, Step)>() <= 32);

/// A CPU's end of the log.
#[derive(Clone)]
pub struct FlushRecorder {
    log: Arc<FlushLog>,
    cpu: u8,
}

impl FlushRecorder {
    /// For the CPU of that number.
    pub const fn new(log: Arc<FlushLog>, cpu: u8) -> Self {
        FlushRecorder { log, cpu }
    }

    /// Adds a step.
    #[cold]
    pub fn record(&self, step: Step) {
        let steps = &mut *self.log.0.lock();
        let fits = steps.kept.len() < MOST_STEPS && steps.kept.try_reserve(1).is_ok();
        if fits && steps.unrecorded == 0 {
            steps.kept.push((self.cpu, step));
        } else {
            steps.unrecorded = steps.unrecorded.saturating_add(1);
        }
    }
}

/// The lines of the report.
impl fmt::Display for FlushLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.0.lock();
        for (cpu, step) in &steps.kept {
            writeln!(formatter, "@flush cpu={cpu} {step}")?;
        }
        let (recorded, unrecorded) = (steps.kept.len(), steps.unrecorded);
        write!(
            formatter,
            "@flushed recorded={recorded} unrecorded={unrecorded}"
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Changed { space } => write!(formatter, "step=changed space={space}"),
            Step::Told { cpu } => write!(formatter, "step=told to={cpu}"),
            Step::Gone { space } => write!(formatter, "step=gone space={space}"),
            Step::Stale {
                vcpu,
                space,
                version,
            } => write!(
                formatter,
                "step=stale vcpu={vcpu} space={space} version={version}"
            ),
            Step::Done { how, identifier } => {
                write!(formatter, "step=done how={how} identifier={identifier}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn steps_of_all_cpus_are_in_one_order() {
        let log = Arc::new(FlushLog::default());
        let [first, second] = [0, 3].map(|cpu| FlushRecorder::new(log.clone(), cpu));
        first.record(Step::Changed { space: 7 });
        first.record(Step::Told { cpu: 3 });
        second.record(Step::Stale {
            vcpu: 2,
            space: 7,
            version: 1,
        });
        second.record(Step::Done {
            how: "invept-single",
            identifier: 5,
        });
        first.record(Step::Gone { space: 7 });
        assert_eq!(
            log.to_string(),
            "@flush cpu=0 step=changed space=7\n\
             @flush cpu=0 step=told to=3\n\
             @flush cpu=3 step=stale vcpu=2 space=7 version=1\n\
             @flush cpu=3 step=done how=invept-single identifier=5\n\
             @flush cpu=0 step=gone space=7\n\
             @flushed recorded=5 unrecorded=0"
        );
    }

    #[test]
    fn a_full_log_counts_what_it_leaves_out() {
        let log = Arc::new(FlushLog::default());
        let recorder = FlushRecorder::new(log.clone(), 0);
        for space in 0..MOST_STEPS as u64 + 3 {
            recorder.record(Step::Gone { space });
        }
        let text = log.to_string();
        assert!(text.ends_with("@flushed recorded=4096 unrecorded=3"));
        assert_eq!(log.0.lock().kept.capacity(), MOST_STEPS);
    }
}
