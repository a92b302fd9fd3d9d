//! Channel 2 of the 8254 timer: the clock of a PC whose rate is known beforehand:
//! 14.31818 MHz / 12, a third of that of the timer of ACPI.

// UNSAFETY: port I/O.
#![allow(unsafe_code)]

use core::hint::spin_loop;

use x86_64::instructions::port::Port;

use super::calibration::dwell;

const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
/// Bit 0 opens the channel's gate, bit 1 the loudspeaker, bit 5 is the channel's output.
const CONTROL: u16 = 0x61;

/// Counts before the end from which on the output is polled without a pause for work: about 50 us,
/// far more than one [`dwell`] takes on any machine.
const NEAR_END: u16 = 64;
/// The same count in so many polls, each of which takes longer than most counts, is that of no clock.
const MAX_EQUAL_POLLS: u32 = 4096;
/// More polls than the longest window (55 ms) can need on the fastest port bus.
const MAX_POLLS: u32 = 1 << 22;

/// Starts a count down from `counts` (mode 0: the output rises at its end).
pub(super) fn start(counts: u16) {
    let [low, high] = counts.to_le_bytes();
    let control = read(CONTROL);
    write(CONTROL, control & !0b10 | 0b01);
    // Channel 2, low byte then high byte, mode 0, binary (Intel 8254 data sheet).
    write(COMMAND, 0b1011_0000);
    write(CHANNEL_2, low);
    write(CHANNEL_2, high);
}

/// Waits for the end of the count that began at `counts`; `None` if it does not come.
pub(super) fn wait_for_end(counts: u16) -> Option<()> {
    let (mut last, mut equal_polls) = (counts, 0);
    for _ in 0..MAX_POLLS {
        if read(CONTROL) & 1 << 5 != 0 {
            return Some(());
        }
        let now = remaining();
        equal_polls = if now == last { equal_polls + 1 } else { 0 };
        if equal_polls >= MAX_EQUAL_POLLS {
            return None;
        }
        last = now;
        // A count above the first is one that has wrapped round: the end has come meanwhile.
        // ENDS: after that many polls.
        if (NEAR_END..=counts).contains(&now) {
            dwell();
        } else {
            spin_loop();
        }
    }
    None
}

fn remaining() -> u16 {
    // Latch channel 2, then read both bytes.
    write(COMMAND, 0b1000_0000);
    u16::from_le_bytes([read(CHANNEL_2), read(CHANNEL_2)])
}

fn read(port: u16) -> u8 {
    // SAFETY: only this module uses channel 2 and its control port, and reading changes nothing
    // but the latch's state, which `remaining` keeps in order.
    unsafe { Port::<u8>::new(port).read() }
}

fn write(port: u16, value: u8) {
    // SAFETY: as for `read`; the channel drives nothing but the loudspeaker, which stays off.
    unsafe { Port::<u8>::new(port).write(value) };
}
