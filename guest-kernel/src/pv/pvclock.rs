//! The clock that KVM and Xen share with their guests: a count of the time-stamp counter, the time at that moment,
//! and a rate, with a version that is odd while they change (Linux, Documentation/virt/kvm/x86/msr.rst; Xen,
//! public/xen.h, `vcpu_time_info`).
#![forbid(unsafe_code)]

use core::sync::atomic::{fence, AtomicU64, Ordering};

use nuncio_abi::ClockScale;

/// The words that are shared.
pub const WORDS: usize = 4;

/// Set if all CPUs' clocks are one.
const FLAG_STABLE: u64 = 1 << 0;

/// What the words say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvClock {
    base_ticks: u64,
    base_ns: u64,
    scale: ClockScale,
    flags: u64,
}

impl PvClock {
    /// Reads the words, and the time-stamp counter at the same moment; again if they change meanwhile. `None` if
    /// the rate makes no sense.
    pub fn read(words: &[AtomicU64; WORDS], mut ticks: impl FnMut() -> u64) -> Option<(Self, u64)> {
        let [version, base_ticks, base_ns, rate] = words;
        loop {
            let before = version.load(Ordering::Acquire) as u32;
            let read = [base_ticks, base_ns, rate].map(|word| word.load(Ordering::Relaxed));
            let ticks = ticks();
            fence(Ordering::Acquire);
            if before & 1 == 0 && version.load(Ordering::Relaxed) as u32 == before {
                return Some((Self::of(read)?, ticks));
            }
            core::hint::spin_loop();
        }
    }

    fn of([base_ticks, base_ns, rate]: [u64; 3]) -> Option<Self> {
        let shift = (rate >> 32) as u8 as i8;
        Some(PvClock {
            base_ticks,
            base_ns,
            scale: ClockScale::of_fraction(rate as u32, shift)?,
            flags: rate >> 40 & 0xFF,
        })
    }

    /// The time at a count of the time-stamp counter, which counts as the base if it is before that.
    pub const fn ns_at(&self, ticks: u64) -> u64 {
        let since = self.scale.convert(ticks.saturating_sub(self.base_ticks));
        self.base_ns.wrapping_add(since)
    }

    /// Whether every CPU may use the words of any.
    pub const fn is_one_for_all(&self) -> bool {
        self.flags & FLAG_STABLE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(version: u64, base_ticks: u64, base_ns: u64, rate: u64) -> [AtomicU64; WORDS] {
        [version, base_ticks, base_ns, rate].map(AtomicU64::new)
    }

    /// 2.5 GHz: 0.4 ns a tick.
    const RATE: u64 = 0x6666_6666 | 1 << 40;

    #[test]
    fn the_time_goes_on_from_the_base() {
        let words = words(2, 1000, 5_000_000, RATE);
        let (clock, ticks) = PvClock::read(&words, || 2_501_000).unwrap();
        assert_eq!(clock.ns_at(ticks), 5_999_999);
        assert_eq!(clock.ns_at(999), 5_000_000);
        assert!(clock.is_one_for_all());
    }

    #[test]
    fn shifts_go_both_ways() {
        let at = |shift: i8| {
            let rate = 1 << 31 | u64::from(shift as u8) << 32;
            let (clock, ticks) = PvClock::read(&words(0, 0, 0, rate), || 1000).unwrap();
            assert!(!clock.is_one_for_all());
            clock.ns_at(ticks)
        };
        assert_eq!(
            [at(-2), at(-1), at(0), at(1), at(3)],
            [125, 250, 500, 1000, 4000]
        );
    }

    #[test]
    fn words_that_change_are_read_again() {
        let words = words(3, 0, 0, RATE);
        let mut looks = 0;
        let (clock, ticks) = PvClock::read(&words, || {
            looks += 1;
            match looks {
                // Odd: it is being written.
                1 => words[0].store(4, Ordering::Relaxed),
                // It was written meanwhile.
                2 => {
                    words[2].store(77, Ordering::Relaxed);
                    words[0].store(6, Ordering::Relaxed);
                }
                _ => {}
            }
            0
        })
        .unwrap();
        assert_eq!((looks, clock.ns_at(ticks)), (3, 77));
    }

    #[test]
    fn it_goes_on_for_a_century() {
        let words = words(0, 0, 0, RATE);
        let century_ticks = 100 * 365 * 86_400 * 2_500_000_000;
        let (clock, ticks) = PvClock::read(&words, || century_ticks).unwrap();
        let exact = (u128::from(century_ticks) * 0x6666_6666) >> 32;
        assert_eq!(u128::from(clock.ns_at(ticks)), exact);
    }

    proptest! {
        #[test]
        fn nothing_in_the_words_makes_it_run_back(base_ticks: u64, base_ns in 0u64..1 << 62, rate: u64, a: u64, b: u64) {
            let words = words(0, base_ticks, base_ns, rate);
            if let Some((clock, _)) = PvClock::read(&words, || 0) {
                let (low, high) = (clock.ns_at(a.min(b)), clock.ns_at(a.max(b)));
                prop_assert!(low <= high || high < base_ns, "only a wrap comes out lower");
            }
        }
    }
}
