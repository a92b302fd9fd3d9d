//! What a vcpu has been lent: by the caller that it serves, and by those that wait until it serves them.
//!
//! Of those that wait it keeps the two most urgent, so that a loan costs the same whoever else waits. A third is
//! forgotten until its call is the next one, or is taken.

use super::slot::{Loan, Payer, Sleep};

/// Of how many that wait a loan is kept.
const WAITING: usize = 2;

/// The loans of one vcpu; some may be over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loans {
    served: Option<Loan>,
    waiting: [Option<Loan>; WAITING],
}

impl Loans {
    /// The most urgent of those that last; of equals that of the caller that is served.
    pub(super) fn best(&self, lasts: impl Fn(&Loan) -> bool) -> Option<Loan> {
        let mut best: Option<Loan> = None;
        for loan in self.all().filter(|loan| lasts(loan)) {
            if best.is_none_or(|best| best.priority < loan.priority) {
                best = Some(*loan);
            }
        }
        best
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, keep: impl Fn(&Loan) -> bool) {
        for place in self.places() {
            *place = place.filter(|loan| keep(loan));
        }
    }

    /// Its vcpu serves that caller from now on, which lends that, if it lends anything. Whom it has served
    /// before may wait on.
    pub(super) fn serve(&mut self, caller: Sleep, loan: Option<Loan>) {
        let known = self.take(caller);
        let is_more = |known: &Loan| loan.is_some_and(|loan| known.priority < loan.priority);
        // One that is known goes on, with what is left of it.
        let loan = known.filter(|known| !is_more(known)).or(loan);
        if let Some(before) = core::mem::replace(&mut self.served, loan) {
            self.wait(before);
        }
    }

    /// One that waits lends that.
    pub(super) fn wait(&mut self, loan: Loan) {
        // Nobody waits for the same one twice. What it lends may be more than it was.
        if let Some(same) = self.places().find(|place| is_of(place, loan.lender)) {
            *same = same
                .filter(|same| same.priority >= loan.priority)
                .or(Some(loan));
            return;
        }
        let least = self
            .waiting
            .iter_mut()
            .min_by_key(|place| place.map(|loan| loan.priority));
        if let Some(place) =
            least.filter(|place| place.is_none_or(|it| it.priority < loan.priority))
        {
            *place = Some(loan);
        }
    }

    /// Takes out what that one lends in that sleep.
    pub(super) fn take(&mut self, lender: Sleep) -> Option<Loan> {
        self.places().find(|place| is_of(place, lender))?.take()
    }

    /// What somebody of another CPU lends who pays by that name.
    pub(super) fn of_payer(&self, payer: Payer) -> Option<&Loan> {
        self.all().find(|loan| loan.payer == Some(payer))
    }

    /// As [`Loans::of_payer`], to change it.
    pub(super) fn of_payer_mut(&mut self, payer: Payer) -> Option<&mut Loan> {
        let mut loans = self.places().filter_map(Option::as_mut);
        loans.find(|loan| loan.payer == Some(payer))
    }

    fn all(&self) -> impl Iterator<Item = &Loan> {
        self.served.iter().chain(self.waiting.iter().flatten())
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Option<Loan>> {
        core::iter::once(&mut self.served).chain(&mut self.waiting)
    }
}

fn is_of(place: &Option<Loan>, lender: Sleep) -> bool {
    place.is_some_and(|loan| loan.lender == lender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::{Priority, VcpuId};
    use proptest::prelude::*;

    fn sleep(number: u32) -> Sleep {
        Sleep {
            vcpu: VcpuId(number),
            wakings: 1,
        }
    }

    fn loan(number: u32, level: u8) -> Loan {
        Loan {
            lender: sleep(number),
            origin: sleep(number),
            payer: None,
            priority: Priority::of_level(level),
            allowance: None,
        }
    }

    fn best(loans: &Loans) -> Option<u32> {
        loans.best(|_| true).map(|loan| loan.lender.vcpu.0)
    }

    #[test]
    fn the_most_urgent_counts_and_then_the_next() {
        let mut loans = Loans::default();
        loans.serve(sleep(0), Some(loan(0, 20)));
        loans.wait(loan(1, 20));
        assert_eq!(best(&loans), Some(0), "of equals the one that is served");
        loans.wait(loan(2, 30));
        loans.wait(loan(3, 25));
        assert_eq!(best(&loans), Some(2));
        loans.retain(|loan| loan.lender != sleep(2));
        assert_eq!(best(&loans), Some(3));
        loans.retain(|loan| loan.lender != sleep(3));
        assert_eq!(best(&loans), Some(0), "a third was forgotten");
    }

    #[test]
    fn who_was_served_before_waits_on_and_who_is_served_does_not_wait() {
        let mut loans = Loans::default();
        loans.serve(sleep(0), Some(loan(0, 20)));
        loans.wait(loan(1, 10));
        loans.serve(sleep(1), Some(loan(1, 10)));
        assert_eq!(best(&loans), Some(0));
        assert!(loans.take(sleep(1)).is_some() && loans.take(sleep(1)).is_none());
        loans.serve(sleep(2), None);
        assert_eq!(best(&loans), Some(0));
    }

    proptest! {
        /// Whatever came: the most urgent one of all that still wait is known, as long as no more than two
        /// before it have gone.
        #[test]
        fn the_two_most_urgent_are_kept(levels in proptest::collection::vec(0u8..64, 1..40)) {
            let mut loans = Loans::default();
            for (number, level) in (0..).zip(&levels) {
                loans.wait(loan(number, *level));
            }
            let mut sorted = levels.clone();
            sorted.sort_unstable_by(|one, other| other.cmp(one));
            for level in sorted.iter().take(WAITING) {
                let best = loans.best(|_| true).unwrap();
                prop_assert_eq!(best.priority, Priority::of_level(*level));
                loans.take(best.lender);
            }
            prop_assert!(loans.is_empty());
        }
    }
}
