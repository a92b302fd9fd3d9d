//! Locks that know their place in the order in which locks are taken.
//!
//! [`rank`] is that order. Where debug assertions are compiled, each CPU knows which locks it holds, and one
//! that is taken out of order ends the hypervisor at once, whether another CPU has been in the way or
//! not. Without them a lock is exactly that of the `spin` crate.

#![forbid(unsafe_code)]

#[cfg(debug_assertions)]
mod checked;
#[cfg(debug_assertions)]
mod held;
pub mod rank;

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

use rank::Rank;

#[cfg(debug_assertions)]
pub use checked::Guard;

/// A lock that is held.
#[cfg(not(debug_assertions))]
pub type Guard<'a, T> = spin::MutexGuard<'a, T>;

/// A lock of that rank.
pub struct Mutex<T, R> {
    inner: spin::Mutex<T>,
    rank: PhantomData<fn() -> R>,
}

impl<T, R: Rank> Mutex<T, R> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        Mutex {
            inner: spin::Mutex::new(value),
            rank: PhantomData,
        }
    }

    /// Waits for it.
    #[inline(always)]
    pub fn lock(&self) -> Guard<'_, T> {
        self.lock_as::<R>()
    }

    /// Waits for it as one of another rank, where two of a kind have an order of their own.
    #[cfg(debug_assertions)]
    pub fn lock_as<S: Rank>(&self) -> Guard<'_, T> {
        // Before it is waited for: what is out of order may never come.
        let held = held::Held::take::<S>();
        Guard::new(self.inner.lock(), held)
    }

    /// Waits for it as one of another rank, where two of a kind have an order of their own.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub fn lock_as<S: Rank>(&self) -> Guard<'_, T> {
        self.inner.lock()
    }
}

impl<T: Default, R: Rank> Default for Mutex<T, R> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Ranks, by their places in [`rank::ALL`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ranks(u64);

impl Ranks {
    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for (place, row) in rank::ALL.iter().enumerate() {
            if self.0 & 1 << place != 0 {
                let comma = if is_first { "" } else { ", " };
                write!(formatter, "{comma}{}", row.name)?;
                is_first = false;
            }
        }
        Ok(())
    }
}

/// What this CPU holds; nothing if that is not kept.
pub fn held() -> Ranks {
    #[cfg(debug_assertions)]
    return held::of_this_cpu();
    #[cfg(not(debug_assertions))]
    Ranks(0)
}

/// That this CPU holds nothing, before it enters a guest: nobody knows when it comes back.
#[inline(always)]
pub fn assert_none_is_held() {
    debug_assert!(held().is_empty(), "held in a guest: {}", held());
}

/// Says where each CPU of a bare machine keeps what it holds. Before that nothing is checked.
pub fn keep_in(word: fn() -> &'static AtomicU64) {
    #[cfg(all(debug_assertions, target_os = "none"))]
    held::keep_in(word);
    #[cfg(not(all(debug_assertions, target_os = "none")))]
    let _ = word;
}

#[cfg(test)]
mod tests;
