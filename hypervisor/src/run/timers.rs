//! The timers of one physical CPU: when each is due. They may be armed from any CPU.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::Deadline;

use crate::mem::KernelCharge;
use crate::object::{Event, Timer};
use crate::sched::{CpuIndex, DeadlineQueue, Numbered, TimerId};

/// Every timer has a number, which is used again after it.
pub(super) struct Timers {
    cpu: CpuIndex,
    due: DeadlineQueue<TimerId>,
    timers: Vec<Weak<Timer>>,
    free: Vec<TimerId>,
}

impl Timers {
    /// No timers.
    pub(super) const fn new(cpu: CpuIndex) -> Self {
        Timers {
            cpu,
            due: DeadlineQueue::new(),
            timers: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Makes a timer that is not armed. All memory that it will ever need here is taken now. `None`
    /// if there are too many.
    pub(super) fn add(
        &mut self,
        event: Arc<Event>,
        bits: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Timer>> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => self.new_id()?,
        };
        let timer = Arc::new(Timer::new(id, event, bits, charge));
        if let Some(place) = self.timers.get_mut(id.index()) {
            *place = Arc::downgrade(&timer);
        }
        Some(timer)
    }

    fn new_id(&mut self) -> Option<TimerId> {
        let id = TimerId::new(self.cpu, self.timers.len())?;
        self.timers.push(Weak::new());
        self.due.reserve(self.timers.len() as u32);
        self.free.reserve(self.timers.len());
        Some(id)
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

    /// The next one that is due, which is not armed any more; it may be gone.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<Option<Arc<Timer>>> {
        let id = self.due.pop_due(now_ns)?;
        Some(self.timers.get(id.index()).and_then(Weak::upgrade))
    }
}
