//! The rate of one clock by another one whose rate is known.
#![forbid(unsafe_code)]

/// The counts of both clocks at about the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The unknown clock just before and just after the known one was read.
    pub around: (u64, u64),
    /// The known clock, counting upwards.
    pub known: u64,
}

impl Reading {
    /// How far apart the two counts may be.
    const fn width(&self) -> u64 {
        self.around.1.saturating_sub(self.around.0)
    }

    const fn middle(&self) -> u64 {
        self.around.0 + self.width() / 2
    }
}

/// Of several readings the one whose counts belong together best: whatever held the CPU up between them makes the
/// others wider.
pub fn sharpest(readings: impl Iterator<Item = Reading>) -> Option<Reading> {
    readings.min_by_key(Reading::width)
}

/// The rate of the unknown clock between two readings, in hertz. `None` if either clock stood still.
pub fn frequency_hz(first: Reading, last: Reading, known_hz: u64) -> Option<u64> {
    let ticks = last.middle().checked_sub(first.middle())?;
    let known = last
        .known
        .checked_sub(first.known)
        .filter(|known| *known > 0)?;
    let hz = u128::from(ticks) * u128::from(known_hz) / u128::from(known);
    u64::try_from(hz).ok().filter(|hz| *hz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(before: u64, after: u64, known: u64) -> Reading {
        Reading {
            around: (before, after),
            known,
        }
    }

    #[test]
    fn a_clock_that_stands_still_has_no_rate() {
        let first = reading(10, 12, 5);
        assert_eq!(frequency_hz(first, reading(90, 92, 5), 1000), None);
        assert_eq!(frequency_hz(first, reading(10, 12, 9), 1000), None);
        assert_eq!(frequency_hz(first, reading(4, 6, 9), 1000), None);
    }

    #[test]
    fn the_narrowest_reading_counts() {
        let readings = [
            reading(0, 100, 1),
            reading(200, 210, 2),
            reading(300, 340, 3),
        ];
        assert_eq!(sharpest(readings.into_iter()), Some(readings[1]));
    }

    proptest! {
        #[test]
        fn the_rate_is_off_by_no_more_than_the_readings_are_wide(
            hz in 1_000_000u64..10_000_000_000,
            known in 1_000u64..100_000,
            delays in [0u64..2000, 0..2000, 0..2000, 0..2000],
        ) {
            const KNOWN_HZ: u64 = 1_193_182;
            let at = |known: u64| known * hz / KNOWN_HZ + 10_000;
            let around = |known, before, after| reading(at(known) - before, at(known) + after, known);
            let found = frequency_hz(around(0, delays[0], delays[1]), around(known, delays[2], delays[3]), KNOWN_HZ);
            let slack = (4000 * KNOWN_HZ) / known + 2;
            prop_assert!(found.unwrap().abs_diff(hz) <= slack + hz / known);
        }
    }
}
