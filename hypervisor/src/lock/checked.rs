//! A lock that is held, where it is known who holds what.

use core::ops::{Deref, DerefMut};

use super::held::Held;

/// A lock that is held.
pub struct Guard<'a, T> {
    // Given up in this order.
    inner: spin::MutexGuard<'a, T>,
    _held: Held,
}

impl<'a, T> Guard<'a, T> {
    pub(super) fn new(inner: spin::MutexGuard<'a, T>, held: Held) -> Self {
        Guard { inner, _held: held }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
