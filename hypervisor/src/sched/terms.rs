//! With which priority a vcpu runs, and on whose budget: its own, that of the vcpu whose making it is, or
//! what a caller has lent it.

use nuncio_abi::{Budget, BudgetChange};

use super::slot::{Ledger, Payer, State, Terms};
use super::{Allowance, Numbered, Priority, Scheduler, VcpuId};

/// What is changed about how a vcpu is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its new priority, if it gets another one.
    pub priority: Option<Priority>,
    /// What becomes of its budget.
    pub budget: BudgetChange,
}

/// The vcpu uses the budget of the one that has made it, and can have none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Scheduler {
    /// Says how a vcpu of the plan is scheduled, before it runs.
    pub fn plan(&mut self, id: VcpuId, priority: Priority, budget: Option<Budget>) {
        self.set_ceiling(id, priority);
        let change = Change {
            priority: Some(priority),
            budget: budget.map_or(BudgetChange::Unlimited, BudgetChange::Limited),
        };
        // It has no maker who could be in the way.
        let _ = self.change(id, change, 0);
    }

    /// As [`Scheduler::reserve`], for a vcpu that the running one makes: it gets its maker's priority, may
    /// give no higher ones, and uses its maker's budget if that has one.
    pub fn reserve_made(&mut self, id: VcpuId) {
        self.reserve(id);
        // One of that number may never have run.
        self.retire(id);
        let Some(&maker) = self.slot(self.turn.id) else {
            return;
        };
        let payer = maker.payer.filter(|payer| self.allowance(*payer).is_some());
        if let Some(slot) = self.slot_mut(id) {
            slot.priority = maker.priority;
            slot.ceiling = maker.ceiling;
            slot.payer = payer;
        }
        if let Some(ledger) = payer.and_then(|payer| self.ledger_mut(payer.vcpu)) {
            ledger.dependants = ledger.dependants.saturating_add(1);
        }
        self.publish(id);
    }

    /// A vcpu does not use the budget of another one any more.
    pub(super) fn leave_payer(&mut self, id: VcpuId) {
        let payer = self.slot(id).and_then(|slot| slot.payer);
        let Some(payer) = payer.filter(|payer| payer.vcpu != id) else {
            return;
        };
        let is_there = self
            .slot(payer.vcpu)
            .is_some_and(|slot| slot.life == payer.life);
        if let (true, Some(ledger)) = (is_there, self.ledger_mut(payer.vcpu)) {
            ledger.dependants = ledger.dependants.saturating_sub(1);
        }
    }

    /// The highest priority that a vcpu may give.
    pub fn ceiling(&self, id: VcpuId) -> Priority {
        self.slot(id).map_or(Priority::DEFAULT, |slot| slot.ceiling)
    }

    /// Sets the highest priority that a vcpu may give.
    pub fn set_ceiling(&mut self, id: VcpuId, ceiling: Priority) {
        if let Some(slot) = self.slot_mut(id) {
            slot.ceiling = ceiling;
        }
    }

    /// Changes how a vcpu is scheduled, whatever it does at the moment. A new budget begins with a period
    /// of its own.
    ///
    /// # Errors
    /// If its budget is somebody else's; then nothing has changed.
    pub fn change(&mut self, id: VcpuId, change: Change, now_ns: u64) -> Result<(), Refused> {
        let Some(&slot) = self.slot(id) else {
            return Ok(());
        };
        let own = Payer {
            vcpu: id,
            life: slot.life,
        };
        if change.budget != BudgetChange::Keep && slot.payer.is_some_and(|payer| payer != own) {
            return Err(Refused);
        }
        let is_running = self.turn.id == id && slot.state == State::Running;
        if is_running {
            self.settle(now_ns);
        }
        if let Some(slot) = self.slot_mut(id) {
            slot.priority = change.priority.unwrap_or(slot.priority);
            match change.budget {
                BudgetChange::Keep => {}
                BudgetChange::Unlimited => slot.payer = None,
                BudgetChange::Limited(_) => slot.payer = Some(own),
            }
        }
        if let Some(ledger) = self.ledger_mut(id) {
            match change.budget {
                BudgetChange::Keep => {}
                BudgetChange::Unlimited => ledger.allowance = None,
                BudgetChange::Limited(budget) => {
                    ledger.allowance = Some(Allowance::new(budget, now_ns));
                }
            }
        }
        self.publish(id);
        if is_running {
            self.settle(now_ns);
        }
        if matches!(slot.state, State::Ready | State::Parked) {
            self.suspend(id);
            self.queue_up(id);
        }
        self.attend_again();
        Ok(())
    }

    /// Tells other CPUs how a vcpu is scheduled itself.
    pub(super) fn publish(&self, id: VcpuId) {
        if let Some(slot) = self.slot(id) {
            self.offers.set_own(id, slot.priority, slot.payer.is_some());
        }
    }

    /// With which priority a vcpu runs now, and on whose budget.
    #[inline]
    pub(super) fn terms(&self, id: VcpuId) -> Terms {
        let Some(slot) = self.slot(id) else {
            return Terms {
                priority: Priority::DEFAULT,
                payer: None,
            };
        };
        if slot.has_loan {
            return self.borrowed_terms(id, *slot);
        }
        Terms {
            priority: slot.priority,
            payer: slot.payer,
        }
    }

    /// Charges the time of the vcpu that runs up to now, and looks with what it goes on: who has lent it
    /// something may be awake.
    #[cold]
    #[inline(never)]
    pub fn settle(&mut self, now_ns: u64) {
        let since_ns = core::mem::replace(&mut self.turn.since_ns, now_ns);
        if let Some(payer) = self.turn.payer {
            self.charge(payer, since_ns, now_ns);
        }
        let Terms { priority, payer } = self.terms(self.turn.id);
        (self.turn.priority, self.turn.payer) = (priority, payer);
        self.note_terms(self.turn.id);
        if let Some(allowance) = self.payers_allowance() {
            allowance.renew(now_ns);
        }
    }

    /// Nobody runs any more, or somebody else will.
    #[cold]
    #[inline(never)]
    pub fn end_turn(&mut self, now_ns: u64) {
        self.settle(now_ns);
        self.turn.payer = None;
    }

    /// Whether the time of the vcpu that runs is charged to anybody.
    #[inline]
    pub const fn is_charging(&self) -> bool {
        self.turn.payer.is_some()
    }

    /// Whether the vcpu that runs does so on its own terms, without a budget.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let has_loan = self.slot(self.turn.id).is_some_and(|slot| slot.has_loan);
        !self.is_charging() && !has_loan
    }

    /// When the budget is used up that the running vcpu uses, or it has to be looked whether that is still
    /// lent to it.
    #[inline]
    pub fn budget_end_ns(&self) -> Option<u64> {
        if self.turn.may_end {
            self.terms_end_ns()
        } else {
            None
        }
    }

    #[cold]
    #[inline(never)]
    fn terms_end_ns(&self) -> Option<u64> {
        let allowance = self.turn.payer.and_then(|payer| self.allowance(payer));
        let end_ns = allowance.map(|allowance| allowance.end_ns(self.turn.since_ns));
        [end_ns, self.look_ns()].into_iter().flatten().min()
    }

    /// Whether the budget that the running vcpu uses is used up.
    pub fn is_used_up(&self) -> bool {
        let payer = self.turn.payer;
        let allowance = payer.and_then(|payer| self.allowance(payer));
        allowance.is_some_and(Allowance::is_used_up)
    }

    /// Whether a vcpu that was picked cannot run yet: it stands in line again, as somebody of a higher
    /// priority has come before it since it was lent one, or it waits for its budget.
    #[inline]
    pub(super) fn has_to_wait(&mut self, id: VcpuId, terms: Terms, now_ns: u64) -> bool {
        if self.queue.has_above(terms.priority) {
            self.queue_up(id);
            return true;
        }
        terms
            .payer
            .is_some_and(|payer| self.waits_for_budget(id, payer, now_ns))
    }

    #[cold]
    fn waits_for_budget(&mut self, id: VcpuId, payer: Payer, now_ns: u64) -> bool {
        let Some(allowance) = self.allowance_mut(payer) else {
            return false;
        };
        allowance.renew(now_ns);
        if !allowance.is_used_up() {
            return false;
        }
        let refill_ns = allowance.refill_ns();
        if self.forget_best_loan(id) {
            // It is used up: the vcpu goes on with another loan, or with what it has itself.
            self.queue_up(id);
        } else {
            self.park(id, refill_ns);
        }
        true
    }

    fn payers_allowance(&mut self) -> Option<&mut Allowance> {
        self.allowance_mut(self.turn.payer?)
    }

    pub(super) fn allowance(&self, payer: Payer) -> Option<&Allowance> {
        if payer.is_afar() {
            return self.allowance_afar(payer);
        }
        self.slot(payer.vcpu)
            .filter(|slot| slot.life == payer.life)?;
        self.ledgers.get(payer.vcpu.index())?.allowance.as_ref()
    }

    pub(super) fn allowance_mut(&mut self, payer: Payer) -> Option<&mut Allowance> {
        if payer.is_afar() {
            return self.allowance_afar_mut(payer);
        }
        self.slot(payer.vcpu)
            .filter(|slot| slot.life == payer.life)?;
        self.ledger_mut(payer.vcpu)?.allowance.as_mut()
    }

    pub(super) fn ledger_mut(&mut self, id: VcpuId) -> Option<&mut Ledger> {
        self.ledgers.get_mut(id.index())
    }
}

#[cfg(test)]
pub(super) mod tests;
