//! The timers of one physical CPU, and its events with an interval: when each is due. They may be armed
//! from any CPU.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::Deadline;

use crate::mem::KernelCharge;
use crate::object::{Event, Target, Throttle, Timer};
use crate::sched::{CpuIndex, DeadlineQueue, Numbered, TimerId};

/// Every timer and every event with an interval has a number, which is used again after it.
pub struct Timers {
    cpu: CpuIndex,
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

/// What is due.
pub enum Due {
    /// A timer, which fires.
    Timer(Arc<Timer>),
    /// An event that holds bits.
    Event(TimerId),
}

impl Timers {
    /// No timers.
    pub const fn new(cpu: CpuIndex) -> Self {
        Timers {
            cpu,
            due: DeadlineQueue::new(),
            owners: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Makes a timer that is not armed. All memory that it will ever need here is taken now. `None`
    /// if there are too many.
    pub fn add(
        &mut self,
        event: Arc<Event>,
        bits: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Timer>> {
        let id = self.new_id()?;
        let timer = Arc::new(Timer::new(id, event, bits, charge));
        self.own(id, Owner::Timer(Arc::downgrade(&timer)));
        Some(timer)
    }

    /// Makes an event with an interval, in the same way.
    pub fn add_event(
        &mut self,
        target: Target,
        interval_ns: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Event>> {
        let id = self.new_id()?;
        let throttle = Throttle::new(id, interval_ns);
        let event = Arc::new(Event::throttled(target, charge, throttle));
        self.own(id, Owner::Event(Arc::downgrade(&event)));
        Some(event)
    }

    fn new_id(&mut self) -> Option<TimerId> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        let id = TimerId::new(self.cpu, self.owners.len())?;
        self.owners.push(Owner::Nobody);
        self.due.reserve(self.owners.len() as u32);
        self.free.reserve(self.owners.len());
        Some(id)
    }

    fn own(&mut self, id: TimerId, owner: Owner) {
        if let Some(place) = self.owners.get_mut(id.index()) {
            *place = owner;
        }
    }

    /// Nobody holds the timer any more, or waits for the event: its number is free.
    pub fn remove(&mut self, id: TimerId) {
        self.due.clear(id);
        self.own(id, Owner::Nobody);
        self.free.push(id);
    }

    /// Sets when a timer is due, if it ever is.
    pub fn arm(&mut self, id: TimerId, deadline: Deadline) {
        if deadline == Deadline::NEVER {
            self.due.clear(id);
        } else {
            self.due.set(id, deadline.0);
        }
    }

    /// Sets when an event is due that holds bits, if it still has the number.
    pub fn hold(&mut self, id: TimerId, event: &Arc<Event>, until_ns: u64) {
        match self.owners.get(id.index()) {
            Some(Owner::Event(owner)) if core::ptr::eq(owner.as_ptr(), Arc::as_ptr(event)) => {
                self.due.set(id, until_ns);
            }
            _ => {}
        }
    }

    /// The event with that number.
    pub fn event(&self, id: TimerId) -> Option<Arc<Event>> {
        match self.owners.get(id.index())? {
            Owner::Event(event) => event.upgrade(),
            _ => None,
        }
    }

    /// When the next one is due, in nanoseconds.
    pub fn earliest(&self) -> Option<u64> {
        self.due.earliest()
    }

    /// The next one that is due, which is not armed any more; it may be gone.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Option<Due>> {
        let id = self.due.pop_due(now_ns)?;
        Some(match self.owners.get(id.index()) {
            Some(Owner::Timer(timer)) => timer.upgrade().map(Due::Timer),
            Some(Owner::Event(_)) => Some(Due::Event(id)),
            _ => None,
        })
    }
}
