//! Who wants to be woken when.
#![forbid(unsafe_code)]

use alloc::collections::BTreeMap;

/// Sleepers by their deadlines. Each has a number, and at most one deadline.
pub struct Deadlines<T> {
    sleepers: BTreeMap<(u64, u64), T>,
}

impl<T> Deadlines<T> {
    /// Nobody sleeps.
    pub const fn new() -> Self {
        Deadlines {
            sleepers: BTreeMap::new(),
        }
    }

    /// Adds a sleeper.
    pub fn add(&mut self, deadline_ns: u64, number: u64, sleeper: T) {
        self.sleepers.insert((deadline_ns, number), sleeper);
    }

    /// Takes a sleeper out before its time.
    pub fn remove(&mut self, deadline_ns: u64, number: u64) -> Option<T> {
        self.sleepers.remove(&(deadline_ns, number))
    }

    /// The earliest deadline.
    pub fn earliest_ns(&self) -> Option<u64> {
        let (&(deadline_ns, _), _) = self.sleepers.first_key_value()?;
        Some(deadline_ns)
    }

    /// Takes out the one whose deadline has passed for longest.
    pub fn take_due(&mut self, now_ns: u64) -> Option<T> {
        let first = self.sleepers.first_entry()?;
        let (deadline_ns, _) = *first.key();
        (deadline_ns <= now_ns).then(|| first.remove())
    }

    /// How many sleep.
    pub fn len(&self) -> usize {
        self.sleepers.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.sleepers.is_empty()
    }
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Deadlines::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn all_wake_in_the_order_of_their_times_and_none_too_early(
            times in proptest::collection::vec(0u64..1000, 0..50),
            removed in proptest::collection::vec(any::<bool>(), 50),
            now_ns in 0u64..1000,
        ) {
            let mut deadlines = Deadlines::new();
            let mut expected = Vec::new();
            for (number, time) in (0..).zip(&times) {
                deadlines.add(*time, number, number);
            }
            for ((number, time), removed) in (0..).zip(&times).zip(removed) {
                if removed {
                    prop_assert_eq!(deadlines.remove(*time, number), Some(number));
                    prop_assert_eq!(deadlines.remove(*time, number), None);
                } else {
                    expected.push((*time, number));
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(deadlines.earliest_ns(), expected.first().map(|(time, _)| *time));
            let due: Vec<_> = core::iter::from_fn(|| deadlines.take_due(now_ns)).collect();
            let (passed, left): (Vec<_>, Vec<_>) =
                expected.into_iter().partition(|(time, _)| *time <= now_ns);
            let passed: Vec<_> = passed.into_iter().map(|(_, number)| number).collect();
            prop_assert_eq!(due, passed);
            prop_assert_eq!((deadlines.len(), deadlines.is_empty()), (left.len(), left.is_empty()));
        }
    }
}
