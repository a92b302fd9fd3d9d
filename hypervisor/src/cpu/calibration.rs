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

/// Slower and faster clocks than these are measuring errors.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 100_000..=100_000_000_000;

/// Measured frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) tsc_hz: u64,
    pub(super) timer_hz: u64,
}

/// The median of three measurements, so that one disturbance (an SMI, a busy host) does no harm.
pub(super) fn measure(apic: &LocalApic) -> Result<Rates, Refusal> {
    let mut tsc = [0; 3];
    let mut timer = [0; 3];
    for (tsc_hz, timer_hz) in tsc.iter_mut().zip(&mut timer) {
        let (Some(short), Some(long)) = (window(apic, SHORT_COUNTS), window(apic, LONG_COUNTS))
        else {
            return Err(no_clock());
        };
        *tsc_hz = frequency(long.0.wrapping_sub(short.0));
        *timer_hz = frequency(long.1.wrapping_sub(short.1));
    }
    let rates = Rates {
        tsc_hz: median(tsc),
        timer_hz: median(timer),
    };
    if PLAUSIBLE_HZ.contains(&rates.tsc_hz) && PLAUSIBLE_HZ.contains(&rates.timer_hz) {
        Ok(rates)
    } else {
        Err(no_clock())
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

fn median(mut values: [u64; 3]) -> u64 {
    values.sort_unstable();
    let [_, middle, _] = values;
    middle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_in_a_window_become_hertz() {
        // 11932 counts are 10.0000 ms.
        let hz = frequency(10_000_000);
        assert!(hz.abs_diff(1_000_000_000) < 20_000, "{hz}");
        assert_eq!(frequency(0), 0);
        assert!(!PLAUSIBLE_HZ.contains(&frequency(u64::MAX)));
    }

    #[test]
    fn one_disturbed_measurement_does_no_harm() {
        assert_eq!(median([9, 5, 5]), 5);
        assert_eq!(median([5, 1, 5]), 5);
    }
}
