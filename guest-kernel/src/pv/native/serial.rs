//! The first serial port: an 8250 or one of its successors (National Semiconductor PC16550D data sheet, 8).
//!
//! Both directions are polled. A byte is written only when the last one has left the holding register: what is
//! written earlier is lost in Bochs.
// UNSAFETY: port I/O.
#![allow(unsafe_code)]

use spin::Once;

use crate::instructions::{read_port, write_port};

const PORT: u16 = 0x3F8;

/// Registers, as distances from the first.
const DATA: u16 = 0;
const INTERRUPTS: u16 = 1;
const FIFO: u16 = 2;
const LINE: u16 = 3;
const MODEM: u16 = 4;
const STATUS: u16 = 5;
/// With the divisor latch open.
const DIVISOR_LOW: u16 = 0;
const DIVISOR_HIGH: u16 = 1;

const LINE_8N1: u8 = 0x03;
const LINE_DIVISOR: u8 = 0x80;
const FIFO_CLEARED: u8 = 0x07;
/// Data terminal ready, request to send.
const MODEM_READY: u8 = 0x03;
const MODEM_LOOP: u8 = 0x10;
const STATUS_RECEIVED: u8 = 1 << 0;
const STATUS_HOLDING_EMPTY: u8 = 1 << 5;
const STATUS_ALL_SENT: u8 = 1 << 6;

/// What a port sends to itself to show that it is one.
const PROBE: u8 = 0xA7;
/// How often the status is read before a byte is given up. At 115200 baud a byte takes 90 us, and a read of a
/// port 1 us.
const MOST_READS: u32 = 1 << 20;

/// The serial port, at 115200 baud, 8 bits, no parity, 1 stop bit. It may be used by several at once; then
/// their bytes mix.
#[derive(Clone, Copy, Debug)]
pub struct Serial(());

/// What a look at the port has shown. There is one look only: another would disturb what is being sent.
static FOUND: Once<Option<Serial>> = Once::new();

impl Serial {
    /// The port, if there is one.
    pub fn find() -> Option<Self> {
        *FOUND.call_once(Serial::probe)
    }

    /// Looks for the port: it must receive what it sends to itself.
    fn probe() -> Option<Self> {
        let serial = Serial(());
        serial.set(INTERRUPTS, 0);
        serial.set(LINE, LINE_DIVISOR);
        serial.set(DIVISOR_LOW, 1);
        serial.set(DIVISOR_HIGH, 0);
        serial.set(LINE, LINE_8N1);
        serial.set(FIFO, FIFO_CLEARED);
        serial.set(MODEM, MODEM_LOOP);
        serial.set(DATA, PROBE);
        // Where nothing is, every bit reads as one.
        let is_there = serial.get(STATUS) != u8::MAX
            && serial.wait_for(STATUS_RECEIVED)
            && serial.get(DATA) == PROBE;
        serial.set(MODEM, MODEM_READY);
        is_there.then_some(serial)
    }

    /// Sends bytes, each as soon as the port takes it. One that it does not take in a second is lost.
    pub fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            if self.wait_for(STATUS_HOLDING_EMPTY) {
                self.set(DATA, *byte);
            }
        }
    }

    /// Takes a byte that has arrived.
    pub fn read(&self) -> Option<u8> {
        (self.get(STATUS) & STATUS_RECEIVED != 0).then(|| self.get(DATA))
    }

    /// Waits until the last byte is on the line.
    pub fn flush(&self) {
        self.wait_for(STATUS_ALL_SENT);
    }

    fn wait_for(&self, bit: u8) -> bool {
        (0..MOST_READS).any(|_| self.get(STATUS) & bit != 0)
    }

    fn set(&self, register: u16, value: u8) {
        // SAFETY: the registers of a serial port; on a PC nothing else is there.
        unsafe { write_port(PORT + register, value) }
    }

    fn get(&self, register: u16) -> u8 {
        // SAFETY: as for `set`.
        unsafe { read_port(PORT + register) }
    }
}
