//! A lock for what interrupt handlers use, too.
#![forbid(unsafe_code)]

use core::ops::{Deref, DerefMut};

use spin::mutex::{Mutex, MutexGuard};

use crate::ops::InterruptsOff;

/// A lock that is held with interrupts off. Whoever has it does not sleep.
pub struct IrqLock<T> {
    value: Mutex<T>,
}

/// What an [`IrqLock`] protects.
pub struct IrqGuard<'a, T> {
    // In this order: first the lock is let go, then interrupts are let in.
    value: MutexGuard<'a, T>,
    _off: InterruptsOff,
}

impl<T> IrqLock<T> {
    /// A lock that nobody has.
    pub const fn new(value: T) -> Self {
        IrqLock {
            value: Mutex::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let off = InterruptsOff::new();
        IrqGuard {
            value: self.value.lock(),
            _off: off,
        }
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
