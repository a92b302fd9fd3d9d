//! Which vcpu runs next, which sleep and until when, and which have an upcall to get.
//!
//! With which priority a vcpu runs and on whose budget is in `terms`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use nuncio_abi::Deadline;

use super::loans::Loans;
use super::slot::{Ledger, Payer, Slot, State};
use super::{Attention, DeadlineQueue, Offers, Priority, RunQueue, Told, VcpuId};

/// How long a vcpu runs while others of its priority wait, in nanoseconds.
pub(super) const SLICE_NS: i32 = 5_000_000;

/// The most that a vcpu can owe: about what the longest call costs. A stall of the whole machine,
/// which is nobody's fault, is not held against one vcpu for longer.
const MOST_OVERDRAWN_NS: i32 = 250_000_000;

/// The vcpus of one physical CPU.
#[derive(Default)]
pub struct Scheduler {
    pub(super) queue: RunQueue,
    /// Until when vcpus sleep, and when those whose budget is used up have some again.
    pub(super) deadlines: DeadlineQueue<VcpuId>,
    /// By number; those of other CPUs count as retired.
    vcpus: Vec<Slot>,
    pub(super) ledgers: Vec<Ledger>,
    /// What the loop must look at before it enters a guest again.
    attention: Arc<Attention>,
    /// A vcpu has become ready since the loop last looked, or another time is due.
    became_ready: bool,
    /// Who gets the CPU if the running vcpu goes to sleep before the loop looks.
    handed_over: Option<HandedOver>,
    /// A vcpu to which it was handed over for nothing, until the loop has asked.
    passed_over: Option<VcpuId>,
    pub(super) turn: Turn,
    /// What vcpus of different CPUs lend each other.
    pub(super) offers: Arc<Offers>,
    /// How many of them this CPU's have been lent.
    pub(super) loans_from_afar: u32,
}

#[derive(Clone, Copy)]
struct HandedOver {
    to: VcpuId,
    /// Whether the one that goes to sleep lends what it has, until it is awake.
    is_lent: bool,
}

/// The vcpu that runs.
pub(super) struct Turn {
    pub(super) id: VcpuId,
    pub(super) priority: Priority,
    pub(super) payer: Option<Payer>,
    /// Whether anybody's budget was used, or anything lent, when that was looked at last.
    pub(super) may_end: bool,
    /// From when on its time has not been charged yet.
    pub(super) since_ns: u64,
    /// Since when one of its priority has waited; until then it takes no time from anybody.
    contended_ns: Option<u64>,
}

impl Default for Turn {
    fn default() -> Self {
        Turn {
            id: VcpuId(u32::MAX),
            priority: Priority::DEFAULT,
            payer: None,
            may_end: false,
            since_ns: 0,
            contended_ns: None,
        }
    }
}

impl Scheduler {
    /// A scheduler without vcpus, which calls for that CPU's attention.
    pub fn new(attention: Arc<Attention>, offers: Arc<Offers>) -> Self {
        Scheduler {
            attention,
            offers,
            ..Self::default()
        }
    }

    /// The CPU's attention.
    #[inline(always)]
    pub fn attention(&self) -> &Attention {
        &self.attention
    }

    /// Adds a vcpu that is ready to run.
    pub fn add(&mut self, id: VcpuId) {
        self.reserve(id);
        self.publish(id);
        self.queue_up(id);
    }

    /// Makes room for a vcpu of that number, which does not run yet. All memory that it will ever need
    /// here is taken now.
    pub fn reserve(&mut self, id: VcpuId) {
        let numbers = id.0.saturating_add(1);
        if self.vcpus.len() < numbers as usize {
            self.vcpus.resize(numbers as usize, Slot::ABSENT);
            self.ledgers.resize(numbers as usize, Ledger::default());
            self.queue.reserve(numbers);
            self.deadlines.reserve(numbers);
        }
    }

    /// A vcpu with a reserved number is ready to run.
    pub fn start(&mut self, id: VcpuId) {
        self.clear_upcall(id);
        self.publish(id);
        self.queue_up(id);
        self.attend_again();
    }

    /// The vcpu that runs.
    pub const fn turn_id(&self) -> VcpuId {
        self.turn.id
    }

    /// Takes the next vcpu to run; [`Scheduler::begin`] says whether it does.
    pub fn pick(&mut self) -> Option<VcpuId> {
        self.keep_in_line();
        let (id, _) = self.queue.pop()?;
        self.set(id, State::Running);
        Some(id)
    }

    /// The vcpu that was picked runs now: for how long, in nanoseconds, if others of its priority wait.
    /// `None` if it does not: it stands in line again, or waits for its budget.
    pub fn begin(&mut self, id: VcpuId, now_ns: u64) -> Option<u64> {
        let terms = self.terms(id);
        let is_late = self.has_to_wait(id, terms, now_ns);
        let has_rivals = self.queue.has(terms.priority);
        let slot = self.vcpus.get_mut(id.0 as usize)?;
        if is_late {
            return None;
        }
        if slot.slice_left_ns <= 0 {
            if has_rivals {
                self.queue_up(id);
                return None;
            }
            slot.slice_left_ns = SLICE_NS;
        }
        let slice_ns = u64::from(slot.slice_left_ns.unsigned_abs());
        self.turn = Turn {
            id,
            priority: terms.priority,
            payer: terms.payer,
            may_end: terms.payer.is_some() || slot.has_loan,
            since_ns: now_ns,
            contended_ns: has_rivals.then_some(now_ns),
        };
        Some(slice_ns)
    }

    /// The running vcpu leaves the CPU without going to sleep. If there is something left of its slice
    /// it goes on with that, before all others of its priority.
    pub fn give_way(&mut self, now_ns: u64, slice_end_ns: u64) {
        self.settle(now_ns);
        let id = self.turn.id;
        // Who has had the CPU to itself has not kept it from anybody.
        let owed_from_ns = match self.turn.contended_ns {
            Some(contended_ns) => slice_end_ns.max(contended_ns),
            None => slice_end_ns.max(now_ns),
        };
        let left_ns = owed_from_ns.cast_signed().saturating_sub_unsigned(now_ns);
        if let Some(slot) = self.slot_mut(id) {
            let left_ns = left_ns.clamp(i64::from(-MOST_OVERDRAWN_NS), i64::from(SLICE_NS));
            slot.slice_left_ns = left_ns as i32;
        }
        if slice_end_ns > now_ns {
            self.set(id, State::Ready);
            self.queue.push_front(id, self.turn.priority);
        } else {
            self.queue_up(id);
        }
    }

    /// Whether another vcpu of the running one's priority is waiting for the CPU.
    #[inline]
    pub const fn has_rival(&self) -> bool {
        self.queue.has(self.turn.priority)
    }

    /// Whether one of the running vcpu's priority waits since it was asked last.
    #[inline]
    pub const fn is_newly_contended(&self) -> bool {
        self.turn.contended_ns.is_none() && self.has_rival()
    }

    /// Notes that one of the running vcpu's priority has begun to wait.
    pub fn contend(&mut self, now_ns: u64) {
        self.turn.contended_ns = Some(now_ns);
    }

    /// Whether a vcpu of a higher priority than the running one's is waiting for the CPU.
    #[inline]
    pub const fn is_outranked(&self) -> bool {
        self.queue.has_above(self.turn.priority)
    }

    /// A vcpu stands in line behind all others of its priority, with another slice.
    pub(super) fn queue_up(&mut self, id: VcpuId) {
        let priority = self.terms(id).priority;
        self.set(id, State::Ready);
        if let Some(slot) = self.slot_mut(id) {
            slot.slice_left_ns = slot.slice_left_ns.min(0).saturating_add(SLICE_NS);
        }
        self.queue.push_back(id, priority);
    }

    /// The running vcpu goes to sleep.
    #[inline]
    pub fn block(&mut self, id: VcpuId, deadline: Deadline) {
        self.set(id, State::Blocked);
        if deadline != Deadline::NEVER {
            self.deadlines.set(id, deadline.0);
        }
    }

    /// The running vcpu can go on when its budget allows.
    pub(super) fn park(&mut self, id: VcpuId, refill_ns: u64) {
        self.set(id, State::Parked);
        self.deadlines.set(id, refill_ns);
    }

    /// The vcpu does not run until it is started again. How it is scheduled stays, and so does what is left
    /// of its budget.
    pub fn stop(&mut self, id: VcpuId) {
        self.take_out(id);
        self.end_lending(id);
        if let Some(slot) = self.slot_mut(id) {
            slot.state = State::Retired;
            slot.upcall = false;
            slot.has_loan = false;
        }
        if let Some(ledger) = self.ledgers.get_mut(id.0 as usize) {
            ledger.loans = Loans::default();
        }
    }

    /// The vcpu never runs again.
    pub fn retire(&mut self, id: VcpuId) {
        if self.slot(id).is_none() {
            // It has never been here.
            return;
        }
        self.take_out(id);
        self.end_lending(id);
        self.leave_payer(id);
        if let Some(slot) = self.slot_mut(id) {
            let life = slot.life.checked_add(1);
            *slot = Slot {
                life: life
                    .filter(|it| *it < Payer::AFAR)
                    .unwrap_or(NonZeroU32::MIN),
                wakings: slot.wakings,
                ..Slot::ABSENT
            };
        }
        if let Some(ledger) = self.ledgers.get_mut(id.0 as usize) {
            *ledger = Ledger::default();
        }
    }

    /// Puts a vcpu to sleep that does not run at the moment.
    pub fn suspend(&mut self, id: VcpuId) {
        let can_run = |slot: &Slot| matches!(slot.state, State::Ready | State::Parked);
        if self.slot(id).is_some_and(can_run) {
            self.take_out(id);
            self.set(id, State::Blocked);
        }
    }

    /// Takes a vcpu out of all that would have it run.
    fn take_out(&mut self, id: VcpuId) {
        self.handed_over = self.handed_over.filter(|next| next.to != id);
        self.queue.remove(id);
        self.deadlines.clear(id);
    }

    /// Whether a vcpu has the CPU.
    pub fn is_running(&self, id: VcpuId) -> bool {
        self.slot(id)
            .is_some_and(|slot| slot.state == State::Running)
    }

    /// Whether a vcpu sleeps.
    pub fn is_blocked(&self, id: VcpuId) -> bool {
        self.slot(id)
            .is_some_and(|slot| slot.state == State::Blocked)
    }

    /// Makes a sleeping vcpu ready; nothing happens to any other. Whether the vcpu is this CPU's.
    #[inline]
    pub fn wake(&mut self, id: VcpuId) -> bool {
        match self.slot(id).map(|slot| slot.state) {
            Some(State::Blocked) => {
                self.end_lending(id);
                self.rouse(id);
                true
            }
            Some(State::Ready | State::Running | State::Parked) => true,
            Some(State::Retired) | None => false,
        }
    }

    #[inline(never)]
    fn rouse(&mut self, id: VcpuId) {
        self.deadlines.clear(id);
        self.queue_up(id);
        self.attend_again();
    }

    /// What the vcpu has lent is its own again: it does not wait for it any longer.
    #[inline]
    pub fn end_lending(&mut self, id: VcpuId) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        slot.wakings = slot.wakings.wrapping_add(1);
        if slot.lends_afar {
            self.end_offer(id);
        }
    }

    /// As [`Scheduler::hand_back`]; and if the running vcpu goes to sleep now, it lends the other one
    /// its priority and its budget until it is awake.
    #[inline(always)]
    pub fn hand_over(&mut self, id: VcpuId) -> bool {
        self.offer(id, true)
    }

    /// Makes a vcpu that sleeps, or that something else has woken already, the one to run if the
    /// running one goes to sleep now. Whether the vcpu is this CPU's.
    #[inline(always)]
    pub fn hand_back(&mut self, id: VcpuId) -> bool {
        self.offer(id, false)
    }

    #[inline(always)]
    fn offer(&mut self, to: VcpuId, is_lent: bool) -> bool {
        self.keep_in_line();
        let Some(slot) = self.slot_mut(to) else {
            return false;
        };
        match slot.state {
            State::Blocked | State::Parked => {
                slot.wakings = slot.wakings.wrapping_add(1);
                slot.state = State::Ready;
                self.deadlines.clear(to);
            }
            State::Ready => self.queue.remove(to),
            State::Running => return true,
            State::Retired => return false,
        }
        self.handed_over = Some(HandedOver { to, is_lent });
        self.attention.call(Told::OFFER);
        true
    }

    pub(super) fn is_handed_over(&self, id: VcpuId) -> bool {
        self.handed_over.is_some_and(|next| next.to == id)
    }

    /// Whether the CPU is handed over to a vcpu.
    #[inline]
    pub const fn has_offer(&self) -> bool {
        self.handed_over.is_some()
    }

    /// The vcpu to which the CPU was handed over, and which has become ready like all others since nobody went
    /// to sleep for it: to be asked for when [`Scheduler::attend`] says that one has become ready, and before
    /// [`Scheduler::pick`] and a second [`Scheduler::hand_over`].
    pub fn take_passed_over(&mut self) -> Option<VcpuId> {
        self.keep_in_line();
        self.passed_over.take()
    }

    /// Takes the vcpu to which the CPU was handed over by the one that has gone to sleep; it is the
    /// running one now. If it has another priority or budget than allows that, it is the next of its
    /// priority instead.
    #[inline(always)]
    pub fn take_over(&mut self) -> Option<VcpuId> {
        let HandedOver { to, is_lent } = self.handed_over.take()?;
        self.attention.take_back(Told::OFFER);
        let slot = self.vcpus.get_mut(to.0 as usize)?;
        // Nothing changes but the vcpu. If somebody more urgent is ready, the CPU has been told.
        let is_equal = slot.priority == self.turn.priority && slot.is_plain();
        if is_equal && self.turn.payer.is_none() {
            slot.state = State::Running;
            self.turn.id = to;
            return Some(to);
        }
        self.take_over_on_terms(to, is_lent)
    }

    #[inline(never)]
    fn take_over_on_terms(&mut self, to: VcpuId, is_lent: bool) -> Option<VcpuId> {
        self.end_offer_of_woken(to);
        if is_lent {
            self.lend(to);
        } else {
            self.forget_loans(to);
        }
        let terms = self.terms(to);
        if terms.payer != self.turn.payer || self.queue.has_above(terms.priority) {
            self.queue_up_first(to, terms.priority);
            self.passed_over = Some(to);
            return None;
        }
        self.set(to, State::Running);
        self.turn.id = to;
        self.note_terms(to);
        if terms.priority != self.turn.priority {
            // Others are its equals now.
            self.turn.priority = terms.priority;
            self.attend_again();
        }
        Some(to)
    }

    fn queue_up_first(&mut self, id: VcpuId, priority: Priority) {
        self.queue_up(id);
        self.queue.remove(id);
        self.queue.push_front(id, priority);
    }

    /// Gives the CPU to a vcpu that could run, whoever else could. Whether it has it.
    #[cold]
    pub fn give_to(&mut self, id: VcpuId) -> bool {
        let can_run = |slot: &Slot| matches!(slot.state, State::Ready | State::Parked);
        if !self.slot(id).is_some_and(can_run) {
            return false;
        }
        self.take_out(id);
        self.set(id, State::Running);
        self.turn.id = id;
        self.settle(self.turn.since_ns);
        self.attend_again();
        true
    }

    #[inline(always)]
    fn keep_in_line(&mut self) {
        if self.handed_over.is_some() {
            self.take_offer_back();
        }
    }

    /// Nobody went to sleep for it: it queues up like all others.
    #[cold]
    #[inline(never)]
    fn take_offer_back(&mut self) {
        if let Some(HandedOver { to, .. }) = self.handed_over.take() {
            self.end_offer_of_woken(to);
            self.queue_up(to);
            self.passed_over = Some(to);
            self.became_ready = true;
        }
    }

    /// Records that a vcpu has an upcall to get, and wakes it. What it has lent stays lent, since no event
    /// ends a call. Whether the vcpu is this CPU's.
    #[inline]
    pub fn signal(&mut self, id: VcpuId) -> bool {
        let Some(slot) = self.slot_mut(id) else {
            return false;
        };
        if slot.state == State::Retired {
            return false;
        }
        let sleeps = slot.state == State::Blocked;
        slot.upcall = true;
        self.attention.call(Told::NEWS);
        if sleeps {
            self.rouse(id);
        }
        true
    }

    /// As [`Scheduler::signal`], if the vcpu sleeps.
    pub fn signal_asleep(&mut self, id: VcpuId) -> bool {
        if self.is_blocked(id) {
            self.signal(id)
        } else {
            self.is_known(id)
        }
    }

    /// Whether the vcpu is this CPU's.
    pub fn is_known(&self, id: VcpuId) -> bool {
        self.slot(id)
            .is_some_and(|slot| slot.state != State::Retired)
    }

    /// Whether the vcpu has an upcall to get.
    #[inline]
    pub fn has_upcall(&self, id: VcpuId) -> bool {
        self.slot(id).is_some_and(|slot| slot.upcall)
    }

    /// The upcall has been handed over.
    #[inline]
    pub fn clear_upcall(&mut self, id: VcpuId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.upcall = false;
        }
    }

    /// Asks the loop to look.
    pub fn call_attention(&mut self) {
        self.attention.call(Told::NEWS);
    }

    /// Asks the loop to look as if a vcpu had become ready.
    pub fn attend_again(&mut self) {
        self.attention.call(Told::NEWS);
        self.became_ready = true;
    }

    /// The loop looks now. Whether a vcpu has become ready since it last did.
    pub fn attend(&mut self) -> bool {
        self.attention.take_back(Told::OFFER | Told::NEWS);
        self.keep_in_line();
        core::mem::take(&mut self.became_ready)
    }

    /// Wakes every vcpu whose deadline has passed, and says which; and lets those run on that have a budget
    /// again.
    pub fn expire(&mut self, now_ns: u64, mut woken: impl FnMut(VcpuId)) {
        while let Some(id) = self.deadlines.pop_due(now_ns) {
            let is_parked = |slot: &Slot| slot.state == State::Parked;
            if self.slot(id).is_some_and(is_parked) {
                self.queue_up(id);
                self.attend_again();
            } else {
                self.wake(id);
                woken(id);
            }
        }
    }

    /// The earliest deadline in nanoseconds, or when somebody has a budget again.
    #[inline]
    pub fn earliest_deadline(&self) -> Option<u64> {
        self.deadlines.earliest()
    }

    #[inline]
    pub(super) fn set(&mut self, id: VcpuId, state: State) {
        if let Some(slot) = self.slot_mut(id) {
            slot.state = state;
        }
    }

    #[inline]
    pub(super) fn slot(&self, id: VcpuId) -> Option<&Slot> {
        self.vcpus.get(id.0 as usize)
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, id: VcpuId) -> Option<&mut Slot> {
        self.vcpus.get_mut(id.0 as usize)
    }
}

#[cfg(test)]
mod tests;
