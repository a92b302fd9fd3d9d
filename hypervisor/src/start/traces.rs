//! What the command line asks to be written down: words `trace=...`.

use alloc::format;
use alloc::sync::Arc;

use crate::cpu::{serial, Refusal};
use crate::run::{Platform, Runner};
use crate::vt::{FlushLog, Vendor};

/// What such a word begins with.
const WORD: &str = "trace=";

/// What is written down on all CPUs.
#[derive(Clone, Default)]
pub(super) struct Traces {
    calls: bool,
    flushes: Option<Arc<FlushLog>>,
}

impl Traces {
    /// What that command line asks for.
    ///
    /// # Errors
    /// For a word that asks for something else.
    pub(super) fn asked_for(command_line: &str) -> Result<Self, Refusal> {
        let mut traces = Traces::default();
        let words = command_line.split_ascii_whitespace();
        for what in words.filter_map(|word| word.strip_prefix(WORD)) {
            match what {
                "calls" => traces.calls = true,
                "flushes" => traces.flushes = Some(Arc::default()),
                other => {
                    return Err(Refusal {
                        code: "bad-command-line",
                        text: format!(
                            "the command line says trace={other}; what can be traced is: calls, flushes"
                        ),
                    })
                }
            }
        }
        Ok(traces)
    }

    /// Begins on one CPU.
    pub(super) fn begin<V: Vendor, P: Platform>(&self, runner: &mut Runner<V, P>) {
        if self.calls {
            runner.trace_calls();
        }
        if let Some(log) = &self.flushes {
            runner.record_flushes(log.clone());
        }
    }

    /// Writes what stands in the report behind the domains.
    pub(super) fn report(&self) {
        if let Some(log) = &self.flushes {
            serial::print(format_args!("{log}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_things_are_traced_and_others_refused() {
        let asked = |line: &str| {
            let traces = Traces::asked_for(line).ok()?;
            Some((traces.calls, traces.flushes.is_some()))
        };
        assert_eq!(asked("test=nmi calls"), Some((false, false)));
        assert_eq!(asked("trace=calls"), Some((true, false)));
        assert_eq!(asked("trace=flushes trace=calls"), Some((true, true)));
        let refusal = Traces::asked_for("trace=calls trace=exits").err().unwrap();
        assert_eq!(refusal.code, "bad-command-line");
        assert!(refusal.text.contains("trace=exits") && refusal.text.contains("calls"));
    }
}
