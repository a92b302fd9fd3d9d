//! What is left of a budget, period after period.

use nuncio_abi::Budget;

/// How much of its budget a vcpu has left in this period.
///
/// Periods follow each other without a gap from the first one on, and are begun when somebody looks.
/// What was used beyond the budget is missing from the next one, so that the sum is right; what was not
/// used is lost.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    budget: Budget,
    /// Less than nothing if too much was used.
    left_ns: i64,
    period_end_ns: u64,
}

impl Allowance {
    /// A whole budget, in a period that begins now.
    pub const fn new(budget: Budget, now_ns: u64) -> Self {
        Allowance {
            budget,
            left_ns: budget.budget_ns() as i64,
            period_end_ns: now_ns.saturating_add(budget.period_ns()),
        }
    }

    /// How much it is in which time.
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// How many numbers it is made of.
    pub(super) const WORDS: usize = 3;

    /// Itself as numbers.
    pub(super) const fn to_words(self) -> [u64; Self::WORDS] {
        // Neither is longer than a second.
        let budget = self.budget.budget_ns() << u32::BITS | self.budget.period_ns();
        [budget, self.left_ns.cast_unsigned(), self.period_end_ns]
    }

    /// The one with these numbers, if they are one's.
    pub(super) fn from_words(words: [u64; Self::WORDS]) -> Option<Self> {
        let [budget, left, period_end_ns] = words;
        Some(Allowance {
            budget: Budget::new(budget >> u32::BITS, u64::from(budget as u32))?,
            left_ns: left.cast_signed(),
            period_end_ns,
        })
    }

    /// The time from one moment to another was used, without a gap.
    pub fn charge(&mut self, from_ns: u64, to_ns: u64) {
        self.renew(from_ns);
        let until_ns = to_ns.min(self.period_end_ns);
        self.use_up(until_ns.saturating_sub(from_ns));
        if to_ns < self.period_end_ns {
            return;
        }
        let beyond_ns = to_ns - self.period_end_ns;
        let period_ns = self.budget.period_ns();
        let whole_periods = beyond_ns / period_ns;
        self.refill(1);
        // Whoever uses a whole period is short of all of it but the budget.
        let shortage_ns = period_ns - self.budget.budget_ns();
        self.use_up(shortage_ns.saturating_mul(whole_periods));
        self.use_up(beyond_ns % period_ns);
        self.period_end_ns = to_ns.saturating_add(period_ns - beyond_ns % period_ns);
    }

    /// Begins the periods that are due.
    pub fn renew(&mut self, now_ns: u64) {
        if now_ns < self.period_end_ns {
            return;
        }
        let period_ns = self.budget.period_ns();
        let periods = (now_ns - self.period_end_ns) / period_ns + 1;
        self.refill(periods);
        let length_ns = periods.saturating_mul(period_ns);
        self.period_end_ns = self.period_end_ns.saturating_add(length_ns);
    }

    /// Whether nothing is left in this period.
    pub const fn is_used_up(&self) -> bool {
        self.left_ns <= 0
    }

    /// When it is used up if it is used from now on.
    pub const fn end_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_add_signed(if self.left_ns > 0 { self.left_ns } else { 0 })
    }

    /// When there is something left again, if nothing is now.
    pub const fn refill_ns(&self) -> u64 {
        let debt_ns = self.left_ns.unsigned_abs();
        let more_periods = debt_ns / self.budget.budget_ns();
        let wait_ns = more_periods.saturating_mul(self.budget.period_ns());
        self.period_end_ns.saturating_add(wait_ns)
    }

    fn refill(&mut self, periods: u64) {
        let budget_ns = self.budget.budget_ns() as i64;
        let periods = i64::try_from(periods).unwrap_or(i64::MAX);
        let more_ns = budget_ns.saturating_mul(periods);
        self.left_ns = self.left_ns.saturating_add(more_ns).min(budget_ns);
    }

    /// So much was used, of which nobody knows when: as if it was in the period that was begun last.
    pub(super) fn use_up(&mut self, ns: u64) {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        self.left_ns = self.left_ns.saturating_sub(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn allowance(budget_ms: u64, period_ms: u64) -> Allowance {
        Allowance::new(Budget::new(budget_ms * MS, period_ms * MS).unwrap(), 0)
    }

    #[test]
    fn what_is_used_is_missing_until_the_period_is_over() {
        let mut allowance = allowance(20, 100);
        allowance.charge(10 * MS, 25 * MS);
        assert!(!allowance.is_used_up());
        assert_eq!(allowance.end_ns(30 * MS), 35 * MS);
        allowance.charge(30 * MS, 35 * MS);
        assert!(allowance.is_used_up());
        assert_eq!(allowance.refill_ns(), 100 * MS);
        allowance.renew(100 * MS - 1);
        assert!(allowance.is_used_up());
        allowance.renew(100 * MS);
        assert_eq!(allowance.end_ns(100 * MS), 120 * MS);
    }

    #[test]
    fn what_was_used_too_much_is_paid_back_over_as_many_periods_as_it_takes() {
        let mut allowance = allowance(20, 100);
        allowance.charge(0, 65 * MS);
        assert_eq!(allowance.refill_ns(), 300 * MS, "45 ms too much");
        allowance.renew(299 * MS);
        assert!(allowance.is_used_up());
        allowance.renew(300 * MS);
        assert_eq!(allowance.end_ns(0), 15 * MS);
    }

    #[test]
    fn a_debt_of_whole_budgets_leaves_nothing_for_the_period_that_pays_it() {
        let mut allowance = allowance(20, 100);
        allowance.charge(0, 40 * MS);
        assert_eq!(allowance.refill_ns(), 200 * MS);
        allowance.renew(100 * MS);
        assert!(allowance.is_used_up());
        allowance.renew(200 * MS);
        assert!(!allowance.is_used_up());
    }

    #[test]
    fn what_was_not_used_is_lost_and_periods_do_not_drift() {
        let mut allowance = allowance(20, 100);
        allowance.renew(555 * MS);
        assert_eq!(allowance.end_ns(0), 20 * MS);
        allowance.charge(555 * MS, 575 * MS);
        assert_eq!(allowance.refill_ns(), 600 * MS);
    }

    proptest! {
        /// One charge over any time is as many charges of a millisecond.
        #[test]
        fn long_charges_are_many_short_ones(
            budget_ms in 1u64..=10,
            more_ms in 0u64..20,
            uses in proptest::collection::vec((0u64..40, 1u64..70), 1..20),
        ) {
            let mut long = allowance(budget_ms, budget_ms + more_ms);
            let mut short = long;
            let mut now_ms = 0;
            for (pause_ms, length_ms) in uses {
                now_ms += pause_ms;
                long.charge(now_ms * MS, (now_ms + length_ms) * MS);
                for at_ms in now_ms..now_ms + length_ms {
                    short.charge(at_ms * MS, (at_ms + 1) * MS);
                }
                now_ms += length_ms;
                prop_assert_eq!(long.left_ns, short.left_ns);
                prop_assert_eq!(long.period_end_ns, short.period_end_ns);
            }
        }
    }
}
