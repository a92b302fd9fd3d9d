//! The timers of one physical CPU: when each is due.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::Deadline;

use crate::mem::KernelCharge;
use crate::object::{Event, Timer, Wake};
use crate::sched::{DeadlineQueue, Numbered, TimerId};

/// Every timer has a number, which is used again after it.
#[derive(Default)]
pub(super) struct Timers {
    due: DeadlineQueue<TimerId>,
    timers: Vec<Weak<Timer>>,
    free: Vec<TimerId>,
}

impl Timers {
    /// Makes a timer that is not armed. All memory that it will ever need here is taken now.
    pub(super) fn add(&mut self, event: Arc<Event>, bits: u64, charge: KernelCharge) -> Arc<Timer> {
        let id = self.free.pop().unwrap_or_else(|| {
            let id = TimerId(self.timers.len() as u32);
            self.timers.push(Weak::new());
            self.due.reserve(self.timers.len() as u32);
            self.free.reserve(self.timers.len());
            id
        });
        let timer = Arc::new(Timer::new(id, event, bits, charge));
        if let Some(place) = self.timers.get_mut(id.index()) {
            *place = Arc::downgrade(&timer);
        }
        timer
    }

    /// Nobody holds the timer any more: its number is free.
    pub(super) fn remove(&mut self, id: TimerId) {
        self.due.clear(id);
        if let Some(place) = self.timers.get_mut(id.index()) {
            *place = Weak::new();
            self.free.push(id);
        }
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
        let timer = self.timers.get(id.index()).and_then(Weak::upgrade);
        Some(timer.and_then(|timer| timer.fire()))
    }
}
