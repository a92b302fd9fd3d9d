//! How a vcpu is scheduled: its priority, and its share of a CPU.

use crate::Error;

/// The highest priority; the lowest is 0.
pub const MAX_PRIORITY: u8 = 63;
/// The priority of a vcpu for which nobody has said anything else.
pub const DEFAULT_PRIORITY: u8 = 32;
/// The least nanoseconds of a CPU in a period.
pub const MIN_BUDGET_NS: u64 = 100_000;
/// The least nanoseconds in a period.
pub const MIN_PERIOD_NS: u64 = 1_000_000;
/// The most nanoseconds in a period.
pub const MAX_PERIOD_NS: u64 = 1_000_000_000;

/// A word that leaves something as it is.
pub(crate) const KEEP: u64 = u64::MAX;

/// A share of a CPU: so many nanoseconds in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    budget_ns: u64,
    period_ns: u64,
}

impl Budget {
    /// A budget within the limits: from [`MIN_BUDGET_NS`] to the whole period, which has
    /// [`MIN_PERIOD_NS`] to [`MAX_PERIOD_NS`].
    ///
    /// ```
    /// use nuncio_abi::Budget;
    ///
    /// let fifth = Budget::new(20_000_000, 100_000_000).unwrap();
    /// assert_eq!((fifth.budget_ns(), fifth.period_ns()), (20_000_000, 100_000_000));
    /// assert_eq!(Budget::new(2_000_000, 1_000_000), None);
    /// ```
    pub const fn new(budget_ns: u64, period_ns: u64) -> Option<Self> {
        let is_period = period_ns >= MIN_PERIOD_NS && period_ns <= MAX_PERIOD_NS;
        if is_period && budget_ns >= MIN_BUDGET_NS && budget_ns <= period_ns {
            Some(Budget {
                budget_ns,
                period_ns,
            })
        } else {
            None
        }
    }

    /// What may be used of each period.
    pub const fn budget_ns(self) -> u64 {
        self.budget_ns
    }

    /// How long a period is.
    pub const fn period_ns(self) -> u64 {
        self.period_ns
    }
}

/// What `schedule` does to a vcpu's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetChange {
    /// It stays as it is.
    Keep,
    /// The vcpu may use as much as it can get.
    Unlimited,
    /// It may use this.
    Limited(Budget),
}

impl BudgetChange {
    /// As the two words of a call: budget and period.
    pub const fn encode(self) -> [u64; 2] {
        match self {
            BudgetChange::Keep => [KEEP, KEEP],
            BudgetChange::Unlimited => [0, 0],
            BudgetChange::Limited(budget) => [budget.budget_ns, budget.period_ns],
        }
    }

    /// Reads the two words.
    ///
    /// # Errors
    /// `BadArgument` for a budget beyond its limits.
    pub fn decode(words: [u64; 2]) -> Result<Self, Error> {
        match words {
            [KEEP, KEEP] => Ok(BudgetChange::Keep),
            [0, 0] => Ok(BudgetChange::Unlimited),
            [budget_ns, period_ns] => Budget::new(budget_ns, period_ns)
                .map(BudgetChange::Limited)
                .ok_or(Error::BadArgument),
        }
    }
}

/// A number up to a limit; `None` for [`KEEP`].
pub(crate) fn decode_or_keep(word: u64, most: u8) -> Result<Option<u8>, Error> {
    if word == KEEP {
        return Ok(None);
    }
    let number = u8::try_from(word).ok().filter(|number| *number <= most);
    number.map(Some).ok_or(Error::BadArgument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_limits() {
        for (budget_ns, period_ns, is_good) in [
            (MIN_BUDGET_NS, MIN_PERIOD_NS, true),
            (MIN_BUDGET_NS - 1, MIN_PERIOD_NS, false),
            (MIN_PERIOD_NS, MIN_PERIOD_NS, true),
            (MIN_PERIOD_NS + 1, MIN_PERIOD_NS, false),
            (MIN_BUDGET_NS, MIN_PERIOD_NS - 1, false),
            (MAX_PERIOD_NS, MAX_PERIOD_NS, true),
            (MIN_BUDGET_NS, MAX_PERIOD_NS + 1, false),
            (0, MIN_PERIOD_NS, false),
            (u64::MAX, MAX_PERIOD_NS, false),
            (MIN_BUDGET_NS, u64::MAX, false),
        ] {
            let change = BudgetChange::decode([budget_ns, period_ns]);
            assert_eq!(change.is_ok(), is_good, "{budget_ns} of {period_ns}");
            if let Ok(change) = change {
                assert_eq!(change.encode(), [budget_ns, period_ns]);
            }
        }
    }
}
