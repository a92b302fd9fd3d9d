//! The power-management timer of ACPI (specification 6.5, section 4.8.3.3): a counter that runs at a known
//! rate, for machines without an 8254.

// UNSAFETY: port I/O.
#![allow(unsafe_code)]

use x86_64::instructions::port::Port;

use super::calibration::dwell;

/// Counts in a second: three times the rate of the 8254.
pub(super) const HZ: u64 = 3_579_545;

/// The same count in so many reads, each of which takes longer than a count, is that of no clock.
const MAX_EQUAL_READS: u32 = 4096;

/// A timer that the firmware's tables name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    port: u16,
    /// Of 24 bits or 32.
    mask: u32,
}

impl PmTimer {
    /// The timer at that port.
    pub const fn new(port: u16, has_32_bits: bool) -> Self {
        let mask = if has_32_bits { u32::MAX } else { 0xFF_FFFF };
        PmTimer { port, mask }
    }

    /// What it shows. Old chipsets give a wrong number once in a while, which ends in a measurement that
    /// differs from the next one, and those are made again.
    pub(super) fn read(self) -> u32 {
        // SAFETY: the firmware's tables have the timer here, and reading it changes nothing.
        let value = unsafe { Port::<u32>::new(self.port).read() };
        value & self.mask
    }

    /// Waits until it has gone on by so many counts from `first`, and says by how many it has; `None` if it
    /// stands still.
    pub(super) fn wait(self, first: u32, counts: u32) -> Option<u32> {
        wait(|| self.read(), self.mask, first, counts)
    }
}

/// Counts from one reading to another, less than a round later.
const fn elapsed(first: u32, last: u32, mask: u32) -> u32 {
    last.wrapping_sub(first) & mask
}

fn wait(mut read: impl FnMut() -> u32, mask: u32, first: u32, counts: u32) -> Option<u32> {
    let (mut last, mut equal_reads) = (first, 0);
    while equal_reads < MAX_EQUAL_READS {
        let now = read();
        let gone = elapsed(first, now, mask);
        if gone >= counts {
            return Some(gone);
        }
        equal_reads = if now == last { equal_reads + 1 } else { 0 };
        last = now;
        dwell();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASK: u32 = 0xFF_FFFF;

    #[test]
    fn a_counter_that_stands_still_is_found_out() {
        for value in [0, MASK] {
            let mut reads = 0;
            let read = || {
                reads += 1;
                value
            };
            assert_eq!(wait(read, MASK, value, 1000), None);
            assert_eq!(reads, MAX_EQUAL_READS);
        }
    }

    #[test]
    fn the_timer_goes_round() {
        assert_eq!(elapsed(0xFF_FFF0, 0x10, MASK), 0x20);
        assert_eq!(elapsed(u32::MAX, 1, u32::MAX), 2);
        assert_eq!(PmTimer::new(0x608, false).mask, MASK);
        assert_eq!(PmTimer::new(0x608, true).mask, u32::MAX);
    }

    proptest! {
        #[test]
        fn the_wait_ends_with_the_first_reading_that_is_far_enough(first in 0u32..=MASK, counts in 1u32..40_000, step in 1u32..5000) {
            let mut now = first;
            let read = || {
                now = now.wrapping_add(step) & MASK;
                now
            };
            let gone = wait(read, MASK, first, counts).unwrap();
            prop_assert!(gone >= counts && gone - counts < step);
            prop_assert_eq!(gone, elapsed(first, now, MASK));
        }
    }
}
