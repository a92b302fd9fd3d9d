//! Channel 2 of the 8254 timer: the one clock of a PC whose rate is known beforehand.

// UNSAFETY: port I/O.
#![allow(unsafe_code)]

use core::hint::{black_box, spin_loop};

use x86_64::instructions::port::Port;

/// Counts in three seconds: the rate is 14.31818 MHz / 12, which is no whole number.
pub(super) const COUNTS_IN_3_SECONDS: u64 = 3_579_545;

const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
/// Bit 0 opens the channel's gate, bit 1 the loudspeaker, bit 5 is the channel's output.
const CONTROL: u16 = 0x61;

/// Counts before the end from which on the output is polled without a pause for work: about 50 us,
/// far more than one [`dwell`] takes on any machine.
const NEAR_END: u16 = 64;
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
    for _ in 0..MAX_POLLS {
        if read(CONTROL) & 1 << 5 != 0 {
            return Some(());
        }
        // A count above the first is one that has wrapped round: the end has come meanwhile.
        if (NEAR_END..=counts).contains(&remaining()) {
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

/// Some 200 instructions. An emulator that counts instructions takes much longer for a port than
/// for work like this, and would take seconds for windows full of polls.
fn dwell() {
    for round in 0..64 {
        black_box(round);
    }
    spin_loop();
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
