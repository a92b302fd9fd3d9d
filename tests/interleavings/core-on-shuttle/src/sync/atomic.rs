//! Atomics that take every access for a point at which threads are switched.
//!
//! Shuttle runs one thread at a time, so all accesses are sequentially consistent, whatever order the
//! code asks for. What depends on weaker orders is for loom to find.

use core::cell::Cell;
use core::ops::Range;

pub use ::core::sync::atomic::{compiler_fence, fence, Ordering};
// Only what belongs to the hardware has pointers that are atomic.
pub use ::core::sync::atomic::AtomicPtr;

std::thread_local! {
    /// An access to one of shuttle's own atomics is how threads are switched.
    static SWITCH: shuttle::sync::atomic::AtomicBool =
        const { shuttle::sync::atomic::AtomicBool::new(false) };
    static QUIET: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Takes relaxed loads and stores at these addresses for no points at which threads are switched, in
/// all executions of this test.
///
/// For the frames of the machine: they are cleared word by word, thousands at a time, by whoever
/// alone knows of them, and page tables are written under the lock of their space.
pub fn set_quiet(addresses: Range<usize>) {
    QUIET.set((addresses.start, addresses.end));
}

fn switch() {
    SWITCH.with(|atomic| atomic.load(Ordering::SeqCst));
}

fn switch_unless_quiet(address: usize, ordering: Ordering) {
    let (start, end) = QUIET.get();
    if ordering != Ordering::Relaxed || !(start..end).contains(&address) {
        switch();
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty, [$($method:ident),*]) => {
        /// As in the core library, and a point at which threads are switched in every access.
        #[derive(Default)]
        #[repr(transparent)]
        pub struct $name(::core::sync::atomic::$name);

        #[allow(missing_docs, reason = "as in the core library")]
        impl $name {
            pub const fn new(value: $value) -> Self {
                $name(::core::sync::atomic::$name::new(value))
            }

            fn before_plain(&self, ordering: Ordering) {
                switch_unless_quiet(::core::ptr::from_ref(self).addr(), ordering);
            }

            pub fn load(&self, ordering: Ordering) -> $value {
                self.before_plain(ordering);
                self.0.load(ordering)
            }

            pub fn store(&self, value: $value, ordering: Ordering) {
                self.before_plain(ordering);
                self.0.store(value, ordering);
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                switch();
                self.0.compare_exchange(current, new, success, failure)
            }

            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut value = self.load(fetch);
                while let Some(new) = update(value) {
                    match self.compare_exchange(value, new, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(other) => value = other,
                    }
                }
                Err(value)
            }

            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            pub fn into_inner(self) -> $value {
                self.0.into_inner()
            }

            pub const fn as_ptr(&self) -> *mut $value {
                self.0.as_ptr()
            }

            $(
                pub fn $method(&self, value: $value, ordering: Ordering) -> $value {
                    switch();
                    self.0.$method(value, ordering)
                }
            )*
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, formatter)
            }
        }
    };
}

macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!(
            $name,
            $value,
            [swap, fetch_and, fetch_or, fetch_xor, fetch_add, fetch_sub, fetch_max, fetch_min]
        );
    };
}

atomic!(AtomicBool, bool, [swap, fetch_and, fetch_or, fetch_xor]);
number!(AtomicU8, u8);
number!(AtomicU16, u16);
number!(AtomicU32, u32);
number!(AtomicU64, u64);
number!(AtomicUsize, usize);
