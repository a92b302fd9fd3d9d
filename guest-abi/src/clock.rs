//! The system clock: its arithmetic, and the page from which a guest reads it without an exit.

use core::sync::atomic::{fence, AtomicU64, Ordering};

use crate::table::abi_table;

/// A fixed-point ratio between two clock rates.
///
/// A count is multiplied by a 64-bit number and shifted right, in 128 bits, so that no count
/// overflows on the way. The multiplier uses all the bits there are: a clock of 1 kHz to 10 GHz is
/// off by less than a nanosecond in a century.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockScale {
    /// The multiplier.
    pub multiplier: u64,
    /// The shift, 0 to 127.
    pub shift: u32,
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

impl ClockScale {
    /// The scale that turns ticks of a clock with this frequency into nanoseconds.
    ///
    /// `None` for a frequency of 0.
    pub const fn ticks_to_ns(frequency_hz: u64) -> Option<Self> {
        Self::ratio(NANOSECONDS_PER_SECOND, frequency_hz)
    }

    /// The scale that turns nanoseconds into ticks of a clock with this frequency.
    ///
    /// `None` for a frequency of 0.
    pub const fn ns_to_ticks(frequency_hz: u64) -> Option<Self> {
        Self::ratio(frequency_hz, NANOSECONDS_PER_SECOND)
    }

    const fn ratio(numerator: u64, denominator: u64) -> Option<Self> {
        if numerator == 0 || denominator == 0 {
            return None;
        }
        let numerator = numerator as u128;
        let denominator = denominator as u128;
        // The largest shift at which the multiplier still fits into 64 bits. The numerator has at
        // most 64 bits, so a shift up to 63 cannot overflow.
        let mut shift = 63;
        while shift > 0 && (numerator << shift) / denominator > u64::MAX as u128 {
            shift -= 1;
        }
        let multiplier = (numerator << shift) / denominator;
        if multiplier > u64::MAX as u128 {
            return None;
        }
        Some(ClockScale {
            multiplier: multiplier as u64,
            shift,
        })
    }

    /// The scale that multiplies by `multiplier` / 2^(32 - `shift`), as KVM's and Xen's clocks say it.
    ///
    /// `None` if that is no scale for 64 bits.
    pub const fn of_fraction(multiplier: u32, shift: i8) -> Option<Self> {
        let shift_right = 32 - shift as i32;
        if shift_right >= 128 {
            return None;
        }
        if shift_right >= 0 {
            return Some(ClockScale {
                multiplier: multiplier as u64,
                shift: shift_right as u32,
            });
        }
        let shift_left = -shift_right as u32;
        if shift_left > multiplier.leading_zeros() + 32 {
            return None;
        }
        Some(ClockScale {
            multiplier: (multiplier as u64) << shift_left,
            shift: 0,
        })
    }

    /// Converts a count; a result of more than 64 bits is cut to `u64::MAX`.
    #[inline]
    pub const fn convert(self, count: u64) -> u64 {
        let product = (count as u128 * self.multiplier as u128) >> (self.shift & 127);
        if product > u64::MAX as u128 {
            u64::MAX
        } else {
            product as u64
        }
    }
}

abi_table! {
    /// The words of the time page that carry meaning; the others are reserved.
    pub enum TimeWord {
        0 Sequence "sequence" "sequence: odd while the page changes",
        1 BaseTicks "base-ticks" "time-stamp counter at the base",
        2 BaseNs "base-ns" "nanoseconds at the base",
        3 Multiplier "multiplier" "multiplier",
        4 Shift "shift" "shift, 0 to 127",
        5 Disruption "disruption" "disruption marker: changes when the clock has jumped; never, in this version",
        6 FrequencyHz "frequency-hz" "frequency of the time-stamp counter in hertz",
    }
}

impl TimeWord {
    /// The word in a time page.
    #[inline]
    const fn of(self, words: &[AtomicU64; 512]) -> &AtomicU64 {
        &words[self as usize]
    }
}

/// Where in the text page the function begins that reads the clock: it takes the address of the time
/// page, as the caller has it mapped, and gives the nanoseconds, as a function of the System V ABI.
pub const CLOCK_ENTRY_OFFSET: u64 = 64;

/// How many of them there are.
pub const TIME_PAGE_WORDS: usize = TimeWord::ALL.len();

/// What the time page says: nanoseconds at a count of the time-stamp counter, and the rate. The
/// words are [`TimeWord`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePage {
    /// Time-stamp counter at the base.
    pub base_ticks: u64,
    /// Nanoseconds since the hypervisor started, at the base.
    pub base_ns: u64,
    /// From ticks to nanoseconds.
    pub scale: ClockScale,
    /// Changes when the clock has jumped.
    pub disruption: u64,
    /// Frequency of the time-stamp counter in hertz.
    pub frequency_hz: u64,
}

impl TimePage {
    /// The time at a count of the time-stamp counter.
    ///
    /// A count before the base reads as the base: the clock never runs backwards.
    #[inline]
    pub const fn ns_at(&self, ticks: u64) -> u64 {
        let since_base = self.scale.convert(ticks.saturating_sub(self.base_ticks));
        self.base_ns.saturating_add(since_base)
    }

    /// Writes the page (the hypervisor's side).
    pub fn publish(&self, words: &[AtomicU64; 512]) {
        let sequence = TimeWord::Sequence.of(words).load(Ordering::Relaxed);
        TimeWord::Sequence
            .of(words)
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        TimeWord::BaseTicks
            .of(words)
            .store(self.base_ticks, Ordering::Relaxed);
        TimeWord::BaseNs
            .of(words)
            .store(self.base_ns, Ordering::Relaxed);
        TimeWord::Multiplier
            .of(words)
            .store(self.scale.multiplier, Ordering::Relaxed);
        TimeWord::Shift
            .of(words)
            .store(u64::from(self.scale.shift), Ordering::Relaxed);
        TimeWord::Disruption
            .of(words)
            .store(self.disruption, Ordering::Relaxed);
        TimeWord::FrequencyHz
            .of(words)
            .store(self.frequency_hz, Ordering::Relaxed);
        TimeWord::Sequence
            .of(words)
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Reads the page and the counter together, and gives the time in nanoseconds.
    ///
    /// `read_ticks` reads the time-stamp counter. It is called again if the page changed under
    /// the reader.
    ///
    /// ```
    /// use core::sync::atomic::AtomicU64;
    /// use nuncio_abi::{ClockScale, TimePage};
    ///
    /// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
    /// let page = TimePage {
    ///     base_ticks: 1000,
    ///     base_ns: 0,
    ///     scale: ClockScale::ticks_to_ns(2_000_000_000).unwrap(),
    ///     disruption: 0,
    ///     frequency_hz: 2_000_000_000,
    /// };
    /// page.publish(&words);
    /// assert_eq!(TimePage::now_ns(&words, || 3000), 1000);
    /// ```
    #[inline]
    pub fn now_ns(words: &[AtomicU64; 512], mut read_ticks: impl FnMut() -> u64) -> u64 {
        loop {
            let before = TimeWord::Sequence.of(words).load(Ordering::Acquire);
            let page = Self::load(words);
            let ticks = read_ticks();
            fence(Ordering::Acquire);
            if before & 1 == 0 && TimeWord::Sequence.of(words).load(Ordering::Relaxed) == before {
                return page.ns_at(ticks);
            }
            core::hint::spin_loop();
        }
    }

    #[inline]
    fn load(words: &[AtomicU64; 512]) -> Self {
        TimePage {
            base_ticks: TimeWord::BaseTicks.of(words).load(Ordering::Relaxed),
            base_ns: TimeWord::BaseNs.of(words).load(Ordering::Relaxed),
            scale: ClockScale {
                multiplier: TimeWord::Multiplier.of(words).load(Ordering::Relaxed),
                shift: TimeWord::Shift.of(words).load(Ordering::Relaxed) as u32,
            },
            disruption: TimeWord::Disruption.of(words).load(Ordering::Relaxed),
            frequency_hz: TimeWord::FrequencyHz.of(words).load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CENTURY_NS: u128 = 100 * 365 * 86_400 * NANOSECONDS_PER_SECOND as u128;

    #[test]
    fn a_century_is_off_by_less_than_two_nanoseconds() {
        for frequency_hz in [
            1_000u64,
            32_768,
            3_579_545,
            1_000_000_000,
            2_999_999_999,
            10_000_000_000,
        ] {
            let ticks = CENTURY_NS * u128::from(frequency_hz) / 1_000_000_000;
            let Ok(ticks) = u64::try_from(ticks) else {
                continue;
            };
            let exact = u128::from(ticks) * 1_000_000_000 / u128::from(frequency_hz);
            let ns = u128::from(
                ClockScale::ticks_to_ns(frequency_hz)
                    .unwrap()
                    .convert(ticks),
            );
            assert!(
                exact.abs_diff(ns) <= 2,
                "{frequency_hz} Hz: {ns} for {exact}"
            );
        }
    }

    #[test]
    fn impossible_frequencies_are_refused() {
        assert_eq!(ClockScale::ticks_to_ns(0), None);
        assert_eq!(ClockScale::ns_to_ticks(0), None);
    }

    proptest! {
        #[test]
        fn conversion_is_monotonic(hz in 1_000u64..10_000_000_000, a: u64, b: u64) {
            let scale = ClockScale::ticks_to_ns(hz).unwrap();
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(scale.convert(low) <= scale.convert(high));
        }

        #[test]
        fn there_and_back_loses_at_most_a_tick(hz in 1_000u64..10_000_000_000, ticks in 0u64..1 << 52) {
            let ns = ClockScale::ticks_to_ns(hz).unwrap().convert(ticks);
            if ns < u64::MAX {
                let back = ClockScale::ns_to_ticks(hz).unwrap().convert(ns);
                let slack = 2 + hz / NANOSECONDS_PER_SECOND;
                prop_assert!(back <= ticks && ticks - back <= slack, "{ticks} {ns} {back}");
            }
        }

        #[test]
        fn a_fraction_is_what_its_numbers_say(multiplier: u32, shift in -60i8..=60, ticks in 0u64..1 << 40) {
            let product = u128::from(ticks) * u128::from(multiplier);
            let exact = match 32 - i32::from(shift) {
                right @ 0.. => product >> right,
                left => product.saturating_mul(1 << -left),
            };
            match ClockScale::of_fraction(multiplier, shift) {
                Some(scale) => prop_assert_eq!(u128::from(scale.convert(ticks)), exact.min(u64::MAX.into())),
                None => prop_assert!(u128::from(multiplier) << (shift - 32) > u64::MAX.into()),
            }
        }

        #[test]
        fn any_page_gives_some_time(base_ticks: u64, base_ns: u64, multiplier: u64, shift: u32, ticks: u64) {
            let page = TimePage {
                base_ticks,
                base_ns,
                scale: ClockScale { multiplier, shift },
                disruption: 0,
                frequency_hz: 0,
            };
            prop_assert!(page.ns_at(ticks) >= base_ns);
        }
    }
}
