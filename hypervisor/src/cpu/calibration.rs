//! How fast the time-stamp counter and the local APIC's timer run, measured against the 8254.
//!
//! CPUID leaves 0x15 and 0x16 are not asked: emulators report numbers that do not match.

#![forbid(unsafe_code)]

use super::local_apic::LocalApic;
use super::{pit, ticks, Refusal};

/// About 1 ms and 11 ms. The difference of two windows is what counts: what it takes to start a
/// window and to notice its end is in both and cancels out.
const SHORT_COUNTS: u16 = 1_193;
const LONG_COUNTS: u16 = 13_125;

/// Two measurements agree if they differ by less than one part in this many.
const AGREEMENT: u64 = 20_000;
const MAX_MEASUREMENTS: usize = 8;

/// Slower and faster clocks than these are measuring errors.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 100_000..=100_000_000_000;

/// Measured frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) tsc_hz: u64,
    pub(super) timer_hz: u64,
}

/// Measures until two measurements in a row agree, so that disturbances (an SMI, a busy host under an
/// emulator) do no harm. Clocks that never agree are taken as they were last seen.
pub(super) fn measure(apic: &LocalApic) -> Result<Rates, Refusal> {
    settle(|| measure_once(apic))
}

fn settle(mut measure_once: impl FnMut() -> Measurement) -> Result<Rates, Refusal> {
    let mut last: Option<Rates> = None;
    for _ in 0..MAX_MEASUREMENTS {
        let next = match measure_once() {
            Measurement::Plausible(rates) => rates,
            Measurement::Disturbed => continue,
            Measurement::NoClock => break,
        };
        if last.is_some_and(|last| last.agrees(&next)) {
            return Ok(next);
        }
        last = Some(next);
    }
    last.ok_or_else(no_clock)
}

/// What came of one measurement.
enum Measurement {
    Plausible(Rates),
    /// A window was stretched so far that the difference of the two means nothing.
    Disturbed,
    /// The 8254 does not count.
    NoClock,
}

impl Rates {
    fn agrees(&self, other: &Rates) -> bool {
        agree(self.tsc_hz, other.tsc_hz) && agree(self.timer_hz, other.timer_hz)
    }
}

fn measure_once(apic: &LocalApic) -> Measurement {
    let (Some(short), Some(long)) = (window(apic, SHORT_COUNTS), window(apic, LONG_COUNTS)) else {
        return Measurement::NoClock;
    };
    let rates = Rates {
        tsc_hz: frequency(long.0.wrapping_sub(short.0)),
        timer_hz: frequency(long.1.wrapping_sub(short.1)),
    };
    if PLAUSIBLE_HZ.contains(&rates.tsc_hz) && PLAUSIBLE_HZ.contains(&rates.timer_hz) {
        Measurement::Plausible(rates)
    } else {
        Measurement::Disturbed
    }
}

fn no_clock() -> Refusal {
    Refusal::new(
        "no-clock",
        "The 8254 timer (PIT) does not count, and Nuncio measures the CPU's clock against it; \
         turn it on in the firmware's or emulator's settings.",
    )
}

/// Ticks of the time-stamp counter and of the APIC timer in one window of the 8254.
fn window(apic: &LocalApic, counts: u16) -> Option<(u64, u64)> {
    apic.start_masked_count(u32::MAX);
    pit::start(counts);
    let (first_ticks, first_count) = (ticks(), apic.current_count());
    pit::wait_for_end(counts)?;
    let (last_ticks, last_count) = (ticks(), apic.current_count());
    apic.stop_timer();
    Some((
        last_ticks.wrapping_sub(first_ticks),
        u64::from(first_count.wrapping_sub(last_count)),
    ))
}

/// The rate of a clock that made that many ticks more in the long window than in the short one.
fn frequency(difference: u64) -> u64 {
    let counts = 3 * u64::from(LONG_COUNTS - SHORT_COUNTS);
    let product = u128::from(difference) * u128::from(pit::COUNTS_IN_3_SECONDS);
    u64::try_from(product / u128::from(counts)).unwrap_or(u64::MAX)
}

fn agree(first_hz: u64, second_hz: u64) -> bool {
    first_hz.abs_diff(second_hz) <= first_hz / AGREEMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn ticks_in_a_window_become_hertz() {
        // 11932 counts are 10.0000 ms.
        let hz = frequency(10_000_000);
        assert!(hz.abs_diff(1_000_000_000) < 20_000, "{hz}");
        assert_eq!(frequency(0), 0);
        assert!(!PLAUSIBLE_HZ.contains(&frequency(u64::MAX)));
    }

    fn settled(measurements: Vec<Measurement>) -> Option<u64> {
        let mut measurements = measurements.into_iter();
        let result = settle(|| measurements.next().unwrap_or(Measurement::Disturbed));
        result.ok().map(|rates| rates.tsc_hz)
    }

    #[test]
    fn a_disturbed_measurement_is_made_again() {
        let good = |tsc_hz| {
            Measurement::Plausible(Rates {
                tsc_hz,
                timer_hz: 1_000_000_000,
            })
        };
        let disturbed = || Measurement::Disturbed;
        let twice = settled(vec![
            disturbed(),
            good(2_000_000_000),
            disturbed(),
            good(2_000_000_001),
        ]);
        assert_eq!(twice, Some(2_000_000_001));
        let once = settled(vec![disturbed(), good(2_000_000_000)]);
        assert_eq!(once, Some(2_000_000_000), "better than nothing");
        assert_eq!(
            settled(vec![good(1_000_000), good(2_000_000), good(2_000_000)]),
            Some(2_000_000)
        );
        assert_eq!(settled(vec![]), None);
        assert_eq!(settled(vec![Measurement::NoClock, good(1), good(1)]), None);
    }

    #[test]
    fn agreement_is_relative() {
        assert!(agree(2_000_000_000, 2_000_050_000));
        assert!(!agree(2_000_000_000, 2_000_200_000));
        assert!(!agree(10_000_000, 10_001_000));
    }
}
