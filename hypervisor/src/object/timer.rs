//! Timers: bits of an event that are set at a point in time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::mem::KernelCharge;
use crate::sched::TimerId;

use super::{Event, Wake};

/// A timer. When it is due is the loop's affair, which finds it by its number.
pub struct Timer {
    id: TimerId,
    event: Arc<Event>,
    bits: u64,
    /// Handles to it, those in messages included.
    handles: AtomicUsize,
    _charge: KernelCharge,
}

impl Timer {
    /// A timer that sets these bits of `event`.
    pub const fn new(id: TimerId, event: Arc<Event>, bits: u64, charge: KernelCharge) -> Self {
        Timer {
            id,
            event,
            bits,
            handles: AtomicUsize::new(0),
            _charge: charge,
        }
    }

    /// Its number.
    pub const fn id(&self) -> TimerId {
        self.id
    }

    /// It is due: sets the bits. A waiter that is gone misses nothing.
    pub fn fire(&self) -> Option<Wake> {
        self.event.announce(self.bits).ok().flatten()
    }

    pub(super) fn handle_added(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whom to tell when the last handle is gone: the timer is never due again.
    pub(super) fn handle_gone(&self) -> Option<Wake> {
        let was_last = self.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        was_last.then_some(Wake::TimerGone(self.id))
    }
}
