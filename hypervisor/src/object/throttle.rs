//! Throttles: how often bits go through an event.
//!
//! An event with a throttle takes bits in without a look at the clock, and says that it holds some. The
//! loop has it let them go: now, or when the interval is over.

use crate::sched::TimerId;

use super::Wake;

/// The throttle of an event.
pub struct Throttle {
    /// Among the timers of the loop.
    id: TimerId,
    interval_ns: u64,
    /// Before that nothing is posted.
    next_ns: u64,
    held: u64,
}

impl Throttle {
    /// A throttle for an event through which nothing was posted yet.
    pub const fn new(id: TimerId, interval_ns: u64) -> Self {
        Throttle {
            id,
            interval_ns,
            next_ns: 0,
            held: 0,
        }
    }

    /// The number of its event among the timers.
    pub(super) const fn id(&self) -> TimerId {
        self.id
    }

    /// Takes bits in. Says whom to tell, once until they are let go.
    pub(super) fn hold(&mut self, bits: u64) -> Option<Wake> {
        let is_first = self.held == 0;
        self.held |= bits;
        (is_first && bits != 0).then_some(Wake::Held(self.id))
    }

    /// Takes out what may be posted now.
    ///
    /// # Errors
    /// When to ask again, in nanoseconds.
    pub(super) fn let_go(&mut self, now_ns: u64) -> Result<u64, u64> {
        if now_ns < self.next_ns {
            return Err(self.next_ns);
        }
        if self.held != 0 {
            self.next_ns = now_ns.saturating_add(self.interval_ns);
        }
        Ok(core::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::CpuIndex;
    use proptest::prelude::*;

    fn id() -> TimerId {
        TimerId::new(CpuIndex::BOOT, 3).unwrap()
    }

    #[test]
    fn whoever_holds_is_told_of_once() {
        let mut throttle = Throttle::new(id(), 10);
        assert_eq!(throttle.hold(0), None);
        assert_eq!(throttle.hold(1), Some(Wake::Held(id())));
        assert_eq!(throttle.hold(2), None);
        assert_eq!(throttle.let_go(5), Ok(3));
        assert_eq!(throttle.let_go(14), Err(15));
        assert_eq!(throttle.hold(4), Some(Wake::Held(id())));
        assert_eq!(throttle.let_go(15), Ok(4));
    }

    proptest! {
        /// However it is asked, what goes through keeps its distance, and nothing is lost.
        #[test]
        fn what_goes_through_keeps_its_distance(
            interval_ns in 1u64..50,
            steps in proptest::collection::vec((0u64..4, 0u64..30), 0..100),
        ) {
            let mut throttle = Throttle::new(id(), interval_ns);
            let (mut now_ns, mut held, mut last_ns) = (0, 0, None);
            for (bits, passed_ns) in steps {
                now_ns += passed_ns;
                throttle.hold(bits);
                held |= bits;
                let is_over = last_ns.is_none_or(|last_ns| last_ns + interval_ns <= now_ns);
                let gone = throttle.let_go(now_ns);
                prop_assert_eq!(gone.is_ok(), is_over);
                if let Ok(bits) = gone {
                    prop_assert_eq!(bits, core::mem::take(&mut held));
                    if bits != 0 {
                        last_ns = Some(now_ns);
                    }
                }
            }
        }
    }
}
