//! The timers of one physical CPU, and its events with an interval: when each is due.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::Deadline;

use crate::mem::KernelCharge;
use crate::object::{Event, Release, Target, Throttle, Timer, Wake};
use crate::sched::{DeadlineQueue, Numbered, TimerId};

/// Every timer and every event with an interval has a number, which is used again after it.
#[derive(Default)]
pub(super) struct Timers {
    due: DeadlineQueue<TimerId>,
    owners: Vec<Owner>,
    free: Vec<TimerId>,
}

/// Whose number it is.
#[derive(Clone, Default)]
enum Owner {
    #[default]
    Nobody,
    /// Due when it is armed for.
    Timer(Weak<Timer>),
    /// Due while it holds bits, at the end of its interval.
    Event(Weak<Event>),
}

impl Timers {
    /// Makes a timer that is not armed. All memory that it will ever need here is taken now.
    pub(super) fn add(&mut self, event: Arc<Event>, bits: u64, charge: KernelCharge) -> Arc<Timer> {
        let id = self.new_id();
        let timer = Arc::new(Timer::new(id, event, bits, charge));
        self.own(id, Owner::Timer(Arc::downgrade(&timer)));
        timer
    }

    /// Makes an event with an interval, in the same way.
    pub(super) fn add_event(
        &mut self,
        target: Target,
        interval_ns: u64,
        charge: KernelCharge,
    ) -> Arc<Event> {
        let id = self.new_id();
        let throttle = Throttle::new(id, interval_ns);
        let event = Arc::new(Event::throttled(target, charge, throttle));
        self.own(id, Owner::Event(Arc::downgrade(&event)));
        event
    }

    fn new_id(&mut self) -> TimerId {
        self.free.pop().unwrap_or_else(|| {
            let id = TimerId(self.owners.len() as u32);
            self.owners.push(Owner::Nobody);
            self.due.reserve(self.owners.len() as u32);
            self.free.reserve(self.owners.len());
            id
        })
    }

    fn own(&mut self, id: TimerId, owner: Owner) {
        if let Some(place) = self.owners.get_mut(id.index()) {
            *place = owner;
        }
    }

    /// Nobody holds the timer any more, or waits for the event: its number is free.
    #[inline(never)]
    pub(super) fn remove(&mut self, id: TimerId) {
        self.due.clear(id);
        self.own(id, Owner::Nobody);
        self.free.push(id);
    }

    /// Sets when a timer is due, if it ever is.
    pub(super) fn arm(&mut self, id: TimerId, deadline: Deadline) {
        if deadline == Deadline::NEVER {
            self.due.clear(id);
        } else {
            self.due.set(id, deadline.0);
        }
    }

    /// When the next one is due, in nanoseconds.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.due.earliest()
    }

    /// Fires the next one that is due; what it wakes is returned.
    pub(super) fn fire_next(&mut self, now_ns: u64) -> Option<Option<Wake>> {
        let id = self.due.pop_due(now_ns)?;
        Some(match self.owners.get(id.index()) {
            Some(Owner::Timer(timer)) => timer.upgrade().and_then(|timer| timer.fire()),
            _ => self.release(id, now_ns),
        })
    }

    /// Has an event post the bits that it holds, or look again when its interval is over; what it wakes
    /// is returned.
    pub(super) fn release(&mut self, id: TimerId, now_ns: u64) -> Option<Wake> {
        let Some(Owner::Event(event)) = self.owners.get(id.index()) else {
            return None;
        };
        match event.upgrade()?.release(now_ns) {
            Release::Done(wake) => wake,
            Release::At(next_ns) => {
                self.due.set(id, next_ns);
                None
            }
        }
    }
}
