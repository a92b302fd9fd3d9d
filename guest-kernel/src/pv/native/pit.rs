//! Channel 2 of the 8254 (Intel 8254 data sheet), whose rate every PC has: the measure for other clocks.
// UNSAFETY: port I/O.
#![allow(unsafe_code)]

use core::hint::spin_loop;

use spin::Once;

use super::calibration::{frequency_hz, sharpest, Reading};
use crate::instructions::{read_port, time_stamp_counter, write_port};

/// 14.31818 MHz / 12.
const FREQUENCY_HZ: u64 = 1_193_182;
const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
/// Bit 0 lets channel 2 count, bit 1 is the loudspeaker.
const CONTROL: u16 = 0x61;

/// Channel 2, low byte then high byte, mode 0, binary.
const COUNT_DOWN: u8 = 0b1011_0000;
/// Channel 2, keep the count to be read.
const LATCH: u8 = 0b1000_0000;
const FIRST_COUNT: u16 = u16::MAX;
/// Counts of the measurement, about 20 ms, and the margin before the counter wraps.
const SPAN_COUNTS: u64 = 24_000;
const LAST_COUNT: u64 = 60_000;
/// Readings at each end.
const READINGS: usize = 8;
/// A counter that does not come that far in so many readings does not count.
const MOST_READINGS: u32 = 1 << 20;

/// The rate of a clock that counts upwards, measured for about 20 ms. `None` if there is no timer.
pub fn measure(clock: impl Fn() -> u64) -> Option<u64> {
    start();
    let first = sharpest((0..READINGS).map(|_| reading(&clock)))?;
    let end = first.known + SPAN_COUNTS;
    let mut looks = 0..MOST_READINGS;
    let came = looks.any(|_| {
        spin_loop();
        reading(&clock).known >= end
    });
    let last = sharpest((0..READINGS).map(|_| reading(&clock)))?;
    // Behind that the counter may have wrapped: somebody has held us up for too long.
    let is_whole = came && last.known < LAST_COUNT;
    is_whole.then(|| frequency_hz(first, last, FREQUENCY_HZ))?
}

/// The rate of the time-stamp counter, if anything here can measure it. That is done once.
pub fn time_stamp_counter_hz() -> Option<u64> {
    const ATTEMPTS: usize = 5;
    static MEASURED: Once<Option<u64>> = Once::new();
    *MEASURED.call_once(|| (0..ATTEMPTS).find_map(|_| measure(time_stamp_counter)))
}

fn start() {
    let [low, high] = FIRST_COUNT.to_le_bytes();
    let control = read(CONTROL);
    write(CONTROL, control & !0b10 | 0b01);
    write(COMMAND, COUNT_DOWN);
    write(CHANNEL_2, low);
    write(CHANNEL_2, high);
}

fn reading(clock: impl Fn() -> u64) -> Reading {
    let before = clock();
    write(COMMAND, LATCH);
    let after = clock();
    let left = u16::from_le_bytes([read(CHANNEL_2), read(CHANNEL_2)]);
    Reading {
        around: (before, after),
        known: u64::from(FIRST_COUNT - left),
    }
}

fn read(port: u16) -> u8 {
    // SAFETY: only this module uses channel 2; reading changes nothing that anybody relies on.
    unsafe { read_port(port) }
}

fn write(port: u16, value: u8) {
    // SAFETY: as for `read`; the channel drives nothing but the loudspeaker, which stays off.
    unsafe { write_port(port, value) }
}
