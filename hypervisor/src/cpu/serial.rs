//! COM1, the only way out: report records, domains' consoles and the log.

// UNSAFETY: port I/O on the UART.
#![allow(unsafe_code)]

use core::fmt::{self, Write};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use x86_64::instructions::port::Port;

use super::per_cpu;

const COM1: u16 = 0x3F8;
const DIVISOR_LOW: u16 = COM1;
const DIVISOR_HIGH: u16 = COM1 + 1;
const INTERRUPT_ENABLE: u16 = COM1 + 1;
const FIFO_CONTROL: u16 = COM1 + 2;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;

const HOLDING_REGISTER_EMPTY: u8 = 1 << 5;
const TRANSMITTER_EMPTY: u8 = 1 << 6;

/// A UART that never says it is ready must not stop the hypervisor: after this many polls the
/// byte is given up. A byte at 115200 baud takes 87 us; a poll takes at least some nanoseconds.
const MAX_POLLS: u32 = 1 << 20;

/// How COM1 has answered so far.
static PATIENCE: Patience = Patience::new();

/// Held for one call of [`print`] or [`print_bytes`], so that lines of several CPUs do not mix.
static LINE: Line = Line::new();

/// How often a broken hypervisor looks whether another CPU has finished its line: a long one takes some
/// 20 ms, and a poll at least 10 ns.
const MAX_LINE_POLLS: u32 = 1 << 21;

/// Whether the last byte printed was not the end of a line.
static INSIDE_LINE: AtomicBool = AtomicBool::new(false);

static LOG: SerialLog = SerialLog;

/// Sets the UART to 115200 baud, 8 bits, no parity, 1 stop bit, FIFOs on, and makes it the log.
pub fn init() {
    for (port, value) in [
        (INTERRUPT_ENABLE, 0x00),
        (LINE_CONTROL, 0x80),
        (DIVISOR_LOW, 1),
        (DIVISOR_HIGH, 0),
        (LINE_CONTROL, 0x03),
        (FIFO_CONTROL, 0xC7),
        (MODEM_CONTROL, 0x03),
    ] {
        write_port(port, value);
    }
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// Prints text; what one call prints stays together.
pub fn print(text: fmt::Arguments<'_>) {
    let _line = LINE.lock(per_cpu::identity());
    // Unlocked::write_str never fails; an error could only come from the caller's Display.
    let _ = Unlocked.write_fmt(text);
}

/// Prints bytes as they are; what one call prints stays together.
pub fn print_bytes(bytes: &[u8]) {
    let _line = LINE.lock(per_cpu::identity());
    bytes.iter().copied().for_each(write_byte);
}

/// Waits until no other CPU is inside a line, but not for ever, and keeps the others from beginning one.
pub(super) fn silence_others() {
    LINE.take_for_good(per_cpu::identity());
}

/// Ends the line that someone else has begun, so that a record starts a new one.
pub(super) fn finish_line() {
    if INSIDE_LINE.load(Ordering::Relaxed) {
        write_byte(b'\n');
    }
}

/// Waits until the last byte has left the UART.
pub fn drain() {
    wait_for(TRANSMITTER_EMPTY);
}

/// A lock that knows who holds it, so that a CPU that breaks inside a line does not wait for itself.
struct Line {
    /// The identity of a CPU; 0 for none.
    holder: AtomicUsize,
}

/// The lock as long as it is held.
struct HeldLine<'line>(&'line Line);

impl Line {
    const fn new() -> Self {
        Line {
            holder: AtomicUsize::new(0),
        }
    }

    fn lock(&self, own: usize) -> HeldLine<'_> {
        // ENDS: whoever prints waits for the line alone, which is given up on when it does not answer.
        while !self.try_take(own) {
            spin_loop();
        }
        HeldLine(self)
    }

    fn try_take(&self, own: usize) -> bool {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = self.holder.compare_exchange(0, own, acquire, relaxed);
        taken.is_ok()
    }

    fn take_for_good(&self, own: usize) {
        for _ in 0..MAX_LINE_POLLS {
            if self.try_take(own) || self.holder.load(Ordering::Relaxed) == own {
                return;
            }
            spin_loop();
        }
    }
}

impl Drop for HeldLine<'_> {
    fn drop(&mut self) {
        self.0.holder.store(0, Ordering::Release);
    }
}

/// The serial line for a panic report: whoever holds the lock is not going to give it back.
pub struct Unlocked;

impl Write for Unlocked {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(write_byte);
        Ok(())
    }
}

/// The `log` crate's lines. They have no meaning for programs.
struct SerialLog;

impl log::Log for SerialLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            _ => "",
        };
        print(format_args!("hypervisor: {level}{}\n", record.args()));
    }

    fn flush(&self) {}
}

fn write_byte(byte: u8) {
    wait_for(HOLDING_REGISTER_EMPTY);
    write_port(COM1, byte);
    INSIDE_LINE.store(byte != b'\n', Ordering::Relaxed);
}

/// Waits for a bit of the line status. A byte written before the holding register is empty is lost.
fn wait_for(status: u8) {
    PATIENCE.wait(|| {
        // SAFETY: reading the line status of COM1 clears error bits that nobody looks at.
        let current = unsafe { Port::<u8>::new(LINE_STATUS).read() };
        current & status != 0
    });
}

/// How long a device is waited for: [`MAX_POLLS`] polls, but a single one after it has once been
/// silent for that long, until it answers again. A dead UART costs one long wait, not one a byte.
struct Patience {
    exhausted: AtomicBool,
}

impl Patience {
    const fn new() -> Self {
        Patience {
            exhausted: AtomicBool::new(false),
        }
    }

    fn wait(&self, mut is_ready: impl FnMut() -> bool) {
        let polls = if self.exhausted.load(Ordering::Relaxed) {
            1
        } else {
            MAX_POLLS
        };
        let has_answered = (0..polls).any(|_| {
            let ready = is_ready();
            if !ready {
                core::hint::spin_loop();
            }
            ready
        });
        self.exhausted.store(!has_answered, Ordering::Relaxed);
    }
}

fn write_port(port: u16, value: u8) {
    // SAFETY: only this module uses the ports of COM1, and no setting of the UART touches memory.
    unsafe { Port::<u8>::new(port).write(value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a device is polled that becomes ready at the poll of this number, if ever.
    fn polls(patience: &Patience, ready_at: Option<u32>) -> u32 {
        let mut count = 0;
        patience.wait(|| {
            count += 1;
            ready_at.is_some_and(|ready_at| count >= ready_at)
        });
        count
    }

    #[test]
    fn a_line_is_one_cpus_until_it_ends() {
        let line = Line::new();
        let held = line.lock(1);
        assert!(!line.try_take(2) && !line.try_take(1));
        drop(held);
        assert!(line.try_take(2));
    }

    #[test]
    fn a_broken_cpu_waits_neither_for_itself_nor_for_ever() {
        let line = Line::new();
        core::mem::forget(line.lock(1));
        line.take_for_good(1);
        line.take_for_good(2);
        assert_eq!(line.holder.load(Ordering::Relaxed), 1);
        let free = Line::new();
        free.take_for_good(2);
        assert!(!free.try_take(1), "nobody begins a line from then on");
    }

    #[test]
    fn a_dead_device_is_waited_for_only_once() {
        let patience = Patience::new();
        assert_eq!(polls(&patience, Some(1000)), 1000);
        assert_eq!(polls(&patience, None), MAX_POLLS);
        assert_eq!(polls(&patience, None), 1);
        assert_eq!(polls(&patience, Some(2)), 1);
    }

    #[test]
    fn a_device_that_answers_again_is_waited_for_again() {
        let patience = Patience::new();
        polls(&patience, None);
        assert_eq!(polls(&patience, Some(1)), 1);
        assert_eq!(polls(&patience, Some(1000)), 1000);
    }
}
