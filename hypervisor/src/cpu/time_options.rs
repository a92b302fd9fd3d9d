//! What the command line says about the timer and about the clock that others are measured against.

#![forbid(unsafe_code)]

use alloc::format;

use super::Refusal;

/// The words for the timer's two modes.
pub(super) const ONE_SHOT: &str = "one-shot";
pub(super) const TSC_DEADLINE: &str = "tsc-deadline";
/// The words for the clocks whose rates are known.
pub(super) const PIT: &str = "pit";
pub(super) const PM_TIMER: &str = "pm-timer";

/// What must be used; `None` leaves the choice to the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOptions {
    /// `timer=`: how the local APIC's timer is programmed.
    pub(super) timer: Option<TimerKind>,
    /// `reference=`: against what the clocks are measured.
    pub(super) reference: Option<ReferenceKind>,
}

/// A way to program the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerKind {
    OneShot,
    TscDeadline,
}

/// A clock whose rate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReferenceKind {
    Pit,
    PmTimer,
}

const TIMERS: [(&str, TimerKind); 2] = [
    (ONE_SHOT, TimerKind::OneShot),
    (TSC_DEADLINE, TimerKind::TscDeadline),
];

const REFERENCES: [(&str, ReferenceKind); 2] = [
    (PIT, ReferenceKind::Pit),
    (PM_TIMER, ReferenceKind::PmTimer),
];

impl TimeOptions {
    /// What the words of the command line say.
    ///
    /// # Errors
    /// A value that there is not.
    pub fn parse(command_line: &str) -> Result<Self, Refusal> {
        Ok(TimeOptions {
            timer: choice(command_line, "timer=", &TIMERS)?,
            reference: choice(command_line, "reference=", &REFERENCES)?,
        })
    }
}

fn choice<T: Copy>(
    command_line: &str,
    key: &str,
    choices: &[(&str, T); 2],
) -> Result<Option<T>, Refusal> {
    let mut words = command_line.split_ascii_whitespace();
    let Some(value) = words.find_map(|word| word.strip_prefix(key)) else {
        return Ok(None);
    };
    let chosen = choices.iter().find(|(name, _)| *name == value);
    let [(first, _), (second, _)] = choices;
    chosen.map(|(_, it)| Some(*it)).ok_or_else(|| Refusal {
        code: "bad-command-line",
        text: format!("the command line says {key}{value}; there are: {first} {second}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose() {
        assert_eq!(TimeOptions::parse(""), Ok(TimeOptions::default()));
        let both = TimeOptions::parse("trace=calls timer=one-shot reference=pm-timer");
        let wanted = TimeOptions {
            timer: Some(TimerKind::OneShot),
            reference: Some(ReferenceKind::PmTimer),
        };
        assert_eq!(both, Ok(wanted));
    }

    #[test]
    fn a_word_that_there_is_not_is_refused_with_those_that_there_are() {
        let refusal = TimeOptions::parse("timer=hpet").unwrap_err();
        assert_eq!(refusal.code, "bad-command-line");
        let wanted = "the command line says timer=hpet; there are: one-shot tsc-deadline";
        assert_eq!(refusal.text, wanted);
        assert!(TimeOptions::parse("reference=").is_err());
    }
}
