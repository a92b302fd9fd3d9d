//! Locks.

#[cfg(feature = "bare-metal")]
mod irq_lock;

#[cfg(feature = "bare-metal")]
pub use irq_lock::{IrqGuard, IrqLock};
