//! What Nuncio uses of the `spin` crate, made of shuttle's locks: who waits for one lets others go on,
//! and a lock that can never be had is reported as a deadlock.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError};

/// A lock, as `spin::Mutex`.
#[derive(Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

/// A lock that is held, as `spin::MutexGuard`.
pub type MutexGuard<'a, T> = shuttle::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    /// Waits for it. Whoever has panicked with it has failed the test already.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// A value that is written once, as `spin::Once`.
#[derive(Default)]
pub struct Once<T> {
    writer: Mutex<()>,
    is_there: AtomicBool,
    value: OnceLock<T>,
}

impl<T> Once<T> {
    /// Without a value.
    pub const fn new() -> Self {
        Once {
            writer: Mutex::new(()),
            is_there: AtomicBool::new(false),
            value: OnceLock::new(),
        }
    }

    /// Its value, which the first caller makes.
    pub fn call_once(&self, make: impl FnOnce() -> T) -> &T {
        let _writer = self.writer.lock();
        let value = self.value.get_or_init(make);
        self.is_there.store(true, Ordering::Release);
        value
    }

    /// Its value, if it has one.
    pub fn get(&self) -> Option<&T> {
        let is_there = self.is_there.load(Ordering::Acquire);
        self.value.get().filter(|_| is_there)
    }

    /// Whether it has a value.
    pub fn is_completed(&self) -> bool {
        self.get().is_some()
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Once<T> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_tuple("Once").field(&self.get()).finish()
    }
}
