//! What vcpus lend each other while they wait: their priority, and their budget.
//!
//! A loan is kept with its borrower and names the sleep of its lender, so that it ends by itself. One from
//! another CPU is what was read of an offer ([`Offers`](super::Offers)); the budget that comes with it is a copy, and what is
//! used of it is reported to the lender's CPU.

use super::loans::Loans;
use super::offers::Caller;
use super::slot::{Loan, Payer, Sleep, Slot, State, Terms};
use super::{Allowance, Numbered, Scheduler, VcpuId};

/// For so long nobody notices that a loan from another CPU is over, if nothing else happens.
pub(super) const LOOK_NS: u64 = 5_000_000;

impl Scheduler {
    #[inline(never)]
    pub(super) fn borrowed_terms(&self, id: VcpuId, slot: Slot) -> Terms {
        match self.loan(id) {
            Some(loan) => Terms {
                priority: slot.priority.max(loan.priority),
                payer: loan.payer,
            },
            None => Terms {
                priority: slot.priority,
                payer: slot.payer,
            },
        }
    }

    /// What the vcpu uses of all that it has been lent, if anything is left that is not over.
    pub(super) fn loan(&self, id: VcpuId) -> Option<Loan> {
        self.slot(id).filter(|slot| slot.has_loan)?;
        let loans = &self.ledgers.get(id.index())?.loans;
        loans.best(|loan| self.lasts(loan))
    }

    /// The vcpu of this turn, which has gone to sleep, lends another one what it has run with.
    pub(super) fn lend(&mut self, to: VcpuId) {
        let loan = self.loan_of_turn(self.turn.id);
        self.borrow(to, loan, true);
    }

    /// The vcpu of this turn, which goes to sleep now, lends what it has run with to one that is busy. The
    /// lender is that vcpu itself, or one for which it waits and which waits for the borrower.
    pub fn lend_to_busy(&mut self, lender: VcpuId, to: VcpuId) {
        let before = self.terms(to);
        let loan = self.loan_of_turn(lender);
        self.borrow(to, loan, false);
        self.requeue(to, before);
    }

    /// The vcpu of this turn has taken a call out of a queue, and `next` is the caller behind that one. They
    /// lend what they have.
    pub fn serve(&mut self, caller: VcpuId, next: Option<VcpuId>, now_ns: u64) {
        let id = self.turn.id;
        // What it has used until now is charged to whom it was lent by until now.
        self.settle(now_ns);
        match self.loan_of_sleeper(caller, id) {
            Some(loan) => self.borrow(id, loan, true),
            None => self.keep_serving(id, caller),
        }
        if let Some(loan) = next.and_then(|next| self.loan_of_sleeper(next, id)) {
            self.borrow(id, loan, false);
        }
        self.attend_again();
    }

    /// The vcpu of this turn, which goes to sleep now, offers what it has run with to one of another CPU, as
    /// [`Scheduler::lend_to_busy`] does. Whether that one's CPU has to be told: not if it would have nothing of it.
    pub fn offer_afar(&mut self, lender: VcpuId, to: VcpuId, is_served: bool, now_ns: u64) -> bool {
        let is_capped = self.turn.payer.is_some();
        if !(self.offers.gains(to, self.turn.priority) || is_served && is_capped) {
            return false;
        }
        if is_capped {
            self.settle(now_ns);
        }
        self.end_offer(lender);
        let (priority, payer) = (self.turn.priority, self.turn.payer);
        let allowance = payer.and_then(|payer| self.allowance(payer)).copied();
        self.offers.make(lender, to, priority, allowance);
        if let Some(slot) = self.slot_mut(lender) {
            slot.lends_afar = true;
            // So that whoever hands the CPU over to it looks.
            slot.has_loan = true;
        }
        if let Some(ledger) = self.ledger_mut(lender) {
            ledger.lent_on = payer;
        }
        let caller = Caller {
            vcpu: lender,
            priority,
            is_served,
        };
        self.offers.announce(to, caller);
        true
    }

    /// Somebody of another CPU has left word that he lends a vcpu of this one something.
    pub fn borrow_afar(&mut self, to: VcpuId, now_ns: u64) {
        let Some(caller) = self.offers.take_best(to) else {
            return;
        };
        if self.turn.id == to && self.is_charging() {
            // Who has paid until now may be forgotten.
            self.settle(now_ns);
        }
        let before = self.terms(to);
        if let Some(loan) = self.loan_from_afar(caller.vcpu, to) {
            self.borrow(to, loan, caller.is_served);
        }
        self.requeue(to, before);
    }

    /// The vcpu does not offer anything to another CPU any more. What was used there is charged here.
    #[cold]
    #[inline(never)]
    pub(super) fn end_offer(&mut self, lender: VcpuId) {
        self.offers.end(lender);
        if let Some(slot) = self.slot_mut(lender) {
            slot.lends_afar = false;
        }
        let used_ns = self.offers.take_use(lender);
        // What is reported later is charged with the next offer.
        let payer = self.ledger_mut(lender).and_then(|it| it.lent_on);
        if let Some(payer) = payer {
            if let Some(allowance) = self.allowance_mut(payer) {
                allowance.use_up(used_ns);
            }
            self.report_use(payer, used_ns);
        }
        self.forget_loans(lender);
    }

    /// To be called for one to which the CPU was handed over, and which so waits no longer.
    pub(super) fn end_offer_of_woken(&mut self, id: VcpuId) {
        if self.slot(id).is_some_and(|slot| slot.lends_afar) {
            self.end_offer(id);
        }
    }

    /// Charges time to whom it was lent by, or whose it is.
    pub(super) fn charge(&mut self, payer: Payer, from_ns: u64, to_ns: u64) {
        if let Some(allowance) = self.allowance_mut(payer) {
            allowance.charge(from_ns, to_ns);
        }
        self.report_use(payer, to_ns.saturating_sub(from_ns));
    }

    /// A budget of another CPU's has been used.
    fn report_use(&self, payer: Payer, ns: u64) {
        if !payer.is_afar() {
            return;
        }
        let loans = self.ledgers.get(payer.vcpu.index()).map(|it| &it.loans);
        if let Some(loan) = loans.and_then(|loans| loans.of_payer(payer)) {
            self.offers.add_use(loan.lender.vcpu, ns);
        }
    }

    /// The copy of another CPU's budget.
    pub(super) fn allowance_afar(&self, payer: Payer) -> Option<&Allowance> {
        let loans = &self.ledgers.get(payer.vcpu.index())?.loans;
        loans.of_payer(payer)?.allowance.as_ref()
    }

    /// As [`Scheduler::allowance_afar`], to change it.
    pub(super) fn allowance_afar_mut(&mut self, payer: Payer) -> Option<&mut Allowance> {
        let loans = &mut self.ledger_mut(payer.vcpu)?.loans;
        loans.of_payer_mut(payer)?.allowance.as_mut()
    }

    /// When to look whether what was lent to the vcpu of this turn from another CPU is over.
    pub(super) fn look_ns(&self) -> Option<u64> {
        let loan = self.loan(self.turn.id)?;
        let is_afar = loan.lender.offer().or(loan.origin.offer()).is_some();
        is_afar.then(|| self.turn.since_ns.saturating_add(LOOK_NS))
    }

    /// The vcpu of this turn runs on terms that may end: on a budget, or with what it has been lent.
    pub(super) fn note_terms(&mut self, id: VcpuId) {
        let has_loan = self.slot(id).is_some_and(|slot| slot.has_loan);
        self.turn.may_end = has_loan || self.turn.payer.is_some();
    }

    /// Loans that are over need not be looked at again.
    pub(super) fn forget_loans(&mut self, id: VcpuId) {
        let loans = self.lasting_loans(id);
        self.set_loans(id, loans);
    }

    /// What the vcpu uses of all that it has been lent is used up. Whether it was lent anything.
    pub(super) fn forget_best_loan(&mut self, id: VcpuId) -> bool {
        let Some(best) = self.loan(id) else {
            return false;
        };
        let mut loans = self.lasting_loans(id);
        loans.take(best.lender);
        self.set_loans(id, loans);
        true
    }

    fn borrow(&mut self, to: VcpuId, loan: Loan, is_served: bool) {
        let Some(&slot) = self.slot(to) else {
            return;
        };
        if slot.state == State::Retired {
            return;
        }
        let mut loans = self.lasting_loans(to);
        // Whether it is better off, or would have to pay for it.
        let gains = slot.priority < loan.priority || slot.payer.is_some();
        if is_served {
            let is_needed = gains || loan.payer.is_some();
            loans.serve(loan.lender, is_needed.then_some(loan));
        } else if gains {
            loans.wait(loan);
        }
        self.set_loans(to, loans);
    }

    /// Whom the vcpu serves now has lent it something before, or never.
    fn keep_serving(&mut self, id: VcpuId, caller: VcpuId) {
        let mut loans = self.lasting_loans(id);
        loans.serve(self.sleep(caller), None);
        self.set_loans(id, loans);
    }

    /// A vcpu that has been lent something stands where that belongs.
    fn requeue(&mut self, id: VcpuId, before: Terms) {
        let Some(slot) = self.slot(id).filter(|_| self.terms(id) != before) else {
            return;
        };
        match slot.state {
            State::Ready | State::Parked if !self.is_handed_over(id) => {
                self.suspend(id);
                self.queue_up(id);
                self.attend_again();
            }
            State::Running => self.attend_again(),
            _ => {}
        }
    }

    fn lasting_loans(&self, id: VcpuId) -> Loans {
        let loans = self.ledgers.get(id.index()).map(|ledger| ledger.loans);
        let mut loans = loans.unwrap_or_default();
        loans.retain(|loan| self.lasts(loan));
        loans
    }

    fn set_loans(&mut self, id: VcpuId, loans: Loans) {
        if let Some(slot) = self.slot_mut(id) {
            slot.has_loan = !loans.is_empty() || slot.lends_afar;
        }
        if let Some(ledger) = self.ledger_mut(id) {
            ledger.loans = loans;
        }
    }

    /// What the vcpu of this turn has run with, lent by itself or by one for which it waits.
    fn loan_of_turn(&self, lender: VcpuId) -> Loan {
        let first = self.sleep(self.turn.id);
        Loan {
            lender: self.sleep(lender),
            origin: self.loan(self.turn.id).map_or(first, |loan| loan.origin),
            payer: self.turn.payer,
            priority: self.turn.priority,
            allowance: None,
        }
    }

    /// What one lends that has slept for the borrower before this turn.
    fn loan_of_sleeper(&mut self, lender: VcpuId, to: VcpuId) -> Option<Loan> {
        match self.slot(lender).map(|slot| slot.state) {
            Some(State::Blocked) => {
                let Terms { priority, payer } = self.terms(lender);
                let sleep = self.sleep(lender);
                Some(Loan {
                    lender: sleep,
                    origin: self.loan(lender).map_or(sleep, |loan| loan.origin),
                    payer,
                    priority,
                    allowance: None,
                })
            }
            Some(State::Retired) | None => self.loan_from_afar(lender, to),
            // It has been woken, and looks what for.
            Some(State::Ready | State::Running | State::Parked) => None,
        }
    }

    fn loan_from_afar(&mut self, lender: VcpuId, to: VcpuId) -> Option<Loan> {
        let offered = self.offers.get(lender, to)?;
        let sleep = Sleep::afar(lender, offered.number);
        self.loans_from_afar = self.loans_from_afar.wrapping_add(1);
        let number = self.loans_from_afar;
        Some(Loan {
            lender: sleep,
            origin: sleep,
            payer: offered.allowance.map(|_| Payer::afar(to, number)),
            priority: offered.priority,
            allowance: offered.allowance,
        })
    }

    /// Whether both who has lent and who has lent it to him still sleep.
    #[inline]
    fn lasts(&self, loan: &Loan) -> bool {
        self.is_asleep(loan.lender) && self.is_asleep(loan.origin)
    }

    fn is_asleep(&self, sleep: Sleep) -> bool {
        match sleep.offer() {
            Some(offer) => self.offers.lasts(sleep.vcpu, offer),
            None => self.sleep(sleep.vcpu) == sleep,
        }
    }

    /// The sleep of a vcpu of this CPU, which it is in or will be in next.
    #[inline]
    fn sleep(&self, vcpu: VcpuId) -> Sleep {
        Sleep {
            vcpu,
            wakings: self.slot(vcpu).map_or(0, |slot| slot.wakings),
        }
    }
}

#[cfg(test)]
mod tests;
