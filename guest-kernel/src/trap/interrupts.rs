//! Interrupts of vectors that no exception has: who takes them.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

/// Takes an interrupt, with interrupts off; it is given the vector.
pub type Handler = fn(u8);

static HANDLER: Once<Handler> = Once::new();
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);

/// Has `handler` take the interrupts of all vectors from 32 on, for good. False if somebody has them already.
///
/// It takes no lock that may be held where interrupts are let in.
pub fn hand_to(handler: Handler) -> bool {
    let mut is_new = false;
    HANDLER.call_once(|| {
        is_new = true;
        handler
    });
    is_new
}

/// Whether somebody takes them.
#[cfg(feature = "bare-metal")]
pub(super) fn are_taken() -> bool {
    HANDLER.is_completed()
}

/// How many interrupts have come that nobody takes.
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Gives an interrupt to who takes it; false, and counted, if nobody does.
#[cfg(feature = "bare-metal")]
pub(super) fn deliver(vector: u8) -> bool {
    match HANDLER.get() {
        Some(handler) => handler(vector),
        None => {
            UNEXPECTED.fetch_add(1, Ordering::Relaxed);
        }
    }
    HANDLER.is_completed()
}
