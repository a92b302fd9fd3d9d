//! Which vcpu runs next, which sleep and until when, and which have an upcall to get.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::Deadline;

use super::{Attention, DeadlineQueue, RunQueue, Told, VcpuId};

/// The vcpus of one physical CPU.
#[derive(Default)]
pub struct Scheduler {
    queue: RunQueue,
    deadlines: DeadlineQueue<VcpuId>,
    /// By number; those of other CPUs count as retired.
    vcpus: Vec<Slot>,
    /// What the loop must look at before it enters a guest again.
    attention: Arc<Attention>,
    /// A vcpu has become ready since the loop last looked, or another time is due.
    became_ready: bool,
    /// The vcpu that gets the CPU if the running one goes to sleep before the loop looks.
    handed_over: Option<VcpuId>,
    /// A vcpu to which it was handed over for nothing, until the loop has asked.
    passed_over: Option<VcpuId>,
}

#[derive(Clone, Copy)]
struct Slot {
    state: State,
    /// An event word has become pending and the guest has not been told.
    upcall: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Blocked,
    Retired,
}

impl Scheduler {
    /// A scheduler without vcpus, which calls for that CPU's attention.
    pub fn new(attention: Arc<Attention>) -> Self {
        Scheduler {
            attention,
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
        self.requeue(id);
    }

    /// Makes room for a vcpu of that number, which does not run yet. All memory that it will ever need
    /// here is taken now.
    pub fn reserve(&mut self, id: VcpuId) {
        let numbers = id.0.saturating_add(1);
        if self.vcpus.len() < numbers as usize {
            let absent = Slot {
                state: State::Retired,
                upcall: false,
            };
            self.vcpus.resize(numbers as usize, absent);
            self.queue.reserve(numbers);
            self.deadlines.reserve(numbers);
        }
    }

    /// A vcpu with a reserved number is ready to run.
    pub fn start(&mut self, id: VcpuId) {
        self.clear_upcall(id);
        self.requeue(id);
        self.attend_again();
    }

    /// Takes the next vcpu to run.
    pub fn pick(&mut self) -> Option<VcpuId> {
        self.keep_in_line();
        let id = self.queue.pop()?;
        self.set(id, State::Running);
        Some(id)
    }

    /// Whether another vcpu is waiting for the CPU.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The running vcpu gives way and queues up again.
    pub fn requeue(&mut self, id: VcpuId) {
        self.set(id, State::Ready);
        self.queue.push(id);
    }

    /// The running vcpu goes to sleep.
    #[inline]
    pub fn block(&mut self, id: VcpuId, deadline: Deadline) {
        self.set(id, State::Blocked);
        if deadline != Deadline::NEVER {
            self.deadlines.set(id, deadline.0);
        }
    }

    /// The vcpu never runs again.
    pub fn retire(&mut self, id: VcpuId) {
        self.set(id, State::Retired);
        self.handed_over = self.handed_over.filter(|next| *next != id);
        self.queue.remove(id);
        self.deadlines.clear(id);
    }

    /// Puts a vcpu to sleep that does not run at the moment.
    pub fn suspend(&mut self, id: VcpuId) {
        if self.slot(id).is_some_and(|slot| slot.state == State::Ready) {
            self.handed_over = self.handed_over.filter(|next| *next != id);
            self.queue.remove(id);
            self.set(id, State::Blocked);
        }
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
                self.rouse(id);
                true
            }
            Some(State::Ready | State::Running) => true,
            Some(State::Retired) | None => false,
        }
    }

    #[inline(never)]
    fn rouse(&mut self, id: VcpuId) {
        self.deadlines.clear(id);
        self.requeue(id);
        self.attend_again();
    }

    /// Makes a vcpu that sleeps, or that something else has woken already, the one to run if the
    /// running one goes to sleep now. Whether the vcpu is this CPU's.
    #[inline(always)]
    pub fn hand_over(&mut self, id: VcpuId) -> bool {
        self.keep_in_line();
        match self.slot(id).map(|slot| slot.state) {
            Some(State::Blocked) => {
                self.deadlines.clear(id);
                self.set(id, State::Ready);
            }
            Some(State::Ready) => self.queue.remove(id),
            Some(State::Running) => return true,
            Some(State::Retired) | None => return false,
        }
        self.handed_over = Some(id);
        self.attention.call(Told::OFFER);
        true
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

    /// Takes the vcpu to which the CPU was handed over; it is the running one now.
    #[inline]
    pub fn take_over(&mut self) -> Option<VcpuId> {
        let id = self.handed_over.take()?;
        self.attention.take_back(Told::OFFER);
        self.set(id, State::Running);
        Some(id)
    }

    /// Nobody went to sleep for it: it queues up like all others.
    #[inline]
    fn keep_in_line(&mut self) {
        if let Some(id) = self.handed_over.take() {
            self.queue.push(id);
            self.passed_over = Some(id);
            self.became_ready = true;
        }
    }

    /// Records that a vcpu has an upcall to get, and wakes it. Whether the vcpu is this CPU's.
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

    /// Wakes every vcpu whose deadline has passed, and says which.
    pub fn expire(&mut self, now_ns: u64, mut woken: impl FnMut(VcpuId)) {
        while let Some(id) = self.deadlines.pop_due(now_ns) {
            self.wake(id);
            woken(id);
        }
    }

    /// The earliest deadline in nanoseconds.
    #[inline]
    pub fn earliest_deadline(&self) -> Option<u64> {
        self.deadlines.earliest()
    }

    #[inline]
    fn set(&mut self, id: VcpuId, state: State) {
        if let Some(slot) = self.slot_mut(id) {
            slot.state = state;
        }
    }

    #[inline]
    fn slot(&self, id: VcpuId) -> Option<&Slot> {
        self.vcpus.get(id.0 as usize)
    }

    #[inline]
    fn slot_mut(&mut self, id: VcpuId) -> Option<&mut Slot> {
        self.vcpus.get_mut(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn add<const N: usize>(scheduler: &mut Scheduler) -> [VcpuId; N] {
        let ids = core::array::from_fn(|number| VcpuId(number as u32));
        ids.map(|id| {
            scheduler.add(id);
            id
        })
    }

    #[test]
    fn a_signal_reaches_a_running_vcpu_without_queueing_it_twice() {
        let mut scheduler = Scheduler::default();
        let [only] = add(&mut scheduler);
        assert_eq!(scheduler.pick(), Some(only));
        scheduler.signal(only);
        assert!(scheduler.has_upcall(only));
        assert!(!scheduler.has_ready() && scheduler.attention().is_told());
        scheduler.attend();
        scheduler.clear_upcall(only);
        assert!(!scheduler.has_upcall(only));
    }

    #[test]
    fn a_deadline_wakes_once() {
        let mut scheduler = Scheduler::default();
        let [only] = add(&mut scheduler);
        scheduler.pick();
        scheduler.block(only, Deadline(100));
        assert_eq!(scheduler.earliest_deadline(), Some(100));
        scheduler.expire(99, |_| {});
        assert_eq!(scheduler.pick(), None);
        let mut woken = Vec::new();
        scheduler.expire(100, |id| woken.push(id));
        assert_eq!(woken, [only]);
        assert!(scheduler.attention().is_told());
        assert_eq!(scheduler.pick(), Some(only));
        assert_eq!(scheduler.earliest_deadline(), None);
    }

    #[test]
    fn a_retired_vcpu_stays_away() {
        let mut scheduler = Scheduler::default();
        let [only] = add(&mut scheduler);
        scheduler.retire(only);
        scheduler.wake(only);
        scheduler.signal(only);
        assert_eq!(scheduler.pick(), None);
    }

    #[test]
    fn a_vcpu_that_an_event_has_woken_is_handed_over_to_before_its_turn() {
        let mut scheduler = Scheduler::default();
        let [caller, other, server] = add(&mut scheduler);
        for id in [caller, other, server] {
            assert_eq!(scheduler.pick(), Some(id));
            if id == server {
                scheduler.block(id, Deadline(100));
            } else {
                scheduler.requeue(id);
            }
        }
        assert_eq!(scheduler.pick(), Some(caller));
        scheduler.signal(server);
        scheduler.hand_over(server);
        scheduler.block(caller, Deadline::NEVER);
        assert_eq!(scheduler.take_over(), Some(server));
        assert!(scheduler.attend(), "the event is still to be looked at");
        assert_eq!(scheduler.pick(), Some(other));
        assert_eq!(scheduler.pick(), None, "the server is not queued any more");
        assert_eq!(scheduler.earliest_deadline(), None);
    }

    #[test]
    fn who_was_handed_over_to_queues_up_if_nobody_goes_to_sleep() {
        let mut scheduler = Scheduler::default();
        let [caller, server] = add(&mut scheduler);
        scheduler.pick();
        scheduler.pick();
        scheduler.block(server, Deadline::NEVER);
        assert!(!scheduler.attention().is_told());
        scheduler.hand_over(server);
        assert!(scheduler.attention().is_told());
        assert!(scheduler.attend() && scheduler.has_ready());
        scheduler.hand_over(caller);
        scheduler.block(caller, Deadline::NEVER);
        assert_eq!(
            scheduler.take_over(),
            None,
            "who runs is not handed over to"
        );
        assert_eq!(scheduler.pick(), Some(server));
    }

    #[test]
    fn taking_over_leaves_no_news_behind() {
        let mut scheduler = Scheduler::default();
        let [caller, server] = add(&mut scheduler);
        scheduler.pick();
        scheduler.pick();
        scheduler.block(server, Deadline::NEVER);
        scheduler.hand_over(server);
        scheduler.block(caller, Deadline::NEVER);
        assert_eq!(scheduler.take_over(), Some(server));
        assert!(!scheduler.attention().is_told());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Next,
        Requeue,
        Block(u64),
        Wake(u32),
        Expire(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Next),
            Just(Step::Requeue),
            (0u64..50).prop_map(Step::Block),
            (0u32..6).prop_map(Step::Wake),
            (0u64..50).prop_map(Step::Expire),
        ];
        proptest::collection::vec(step, 0..150)
    }

    proptest! {
        /// The order of running is that of a plain queue, whatever wakes and expires in between.
        #[test]
        fn vcpus_run_in_the_order_of_a_queue(steps in steps()) {
            let mut scheduler = Scheduler::default();
            let mut ready = VecDeque::from(add::<5>(&mut scheduler));
            let mut sleeping: Vec<(u64, usize, VcpuId)> = Vec::new();
            let mut running = None;
            for (time, step) in steps.into_iter().enumerate() {
                match (step, running) {
                    (Step::Next, None) => {
                        running = ready.pop_front();
                        prop_assert_eq!(scheduler.pick(), running);
                    }
                    (Step::Requeue, Some(id)) => {
                        scheduler.requeue(id);
                        ready.push_back(id);
                        running = None;
                    }
                    (Step::Block(deadline), Some(id)) => {
                        scheduler.block(id, Deadline(deadline));
                        sleeping.push((deadline, time, id));
                        running = None;
                    }
                    (Step::Wake(id), _) => {
                        scheduler.wake(VcpuId(id));
                        if let Some(place) = sleeping.iter().position(|entry| entry.2 .0 == id) {
                            ready.push_back(sleeping.remove(place).2);
                        }
                    }
                    (Step::Expire(now), _) => {
                        scheduler.expire(now, |_| {});
                        sleeping.sort();
                        while sleeping.first().is_some_and(|entry| entry.0 <= now) {
                            ready.push_back(sleeping.remove(0).2);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
