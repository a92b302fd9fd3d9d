//! What interrupt handlers tell the code that they interrupted.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64};

/// The events of one CPU.
#[derive(Debug)]
pub(super) struct LocalEvents {
    /// The timer has expired since this was last looked at.
    pub(super) timer_fired: AtomicBool,
    /// The timer counts.
    pub(super) timer_running: AtomicBool,
    /// Another CPU has sent an interrupt since this was last looked at.
    pub(super) signalled: AtomicBool,
    /// How often the timer has expired.
    pub(super) timer_interrupts: AtomicU64,
    /// NMIs so far.
    pub(super) nmis: AtomicU64,
    /// Debug exceptions so far.
    pub(super) debug_exceptions: AtomicU64,
    /// Interrupts so far at vectors that nobody programmed.
    pub(super) unexpected_interrupts: AtomicU64,
}

impl LocalEvents {
    pub(super) const fn new() -> Self {
        LocalEvents {
            timer_fired: AtomicBool::new(false),
            timer_running: AtomicBool::new(false),
            signalled: AtomicBool::new(false),
            timer_interrupts: AtomicU64::new(0),
            nmis: AtomicU64::new(0),
            debug_exceptions: AtomicU64::new(0),
            unexpected_interrupts: AtomicU64::new(0),
        }
    }
}
