//! What interrupts a CPU.

use core::fmt;

/// For what a CPU is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The time has come that was set with [`ClockEvent::set`](super::ClockEvent::set).
    Timer,
    /// Another CPU, or this one, has sent a signal.
    Signal(Signal),
    /// A device wants something.
    Line(Line),
}

/// What CPUs tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Look for something to run.
    Reschedule,
    /// Forget translations, and say that you have.
    Flush,
    /// Stop for good: the kernel gives up.
    Halt,
}

impl Signal {
    /// All signals, in the order of their numbers.
    pub const ALL: [Signal; 3] = [Signal::Reschedule, Signal::Flush, Signal::Halt];

    /// Its number, counted from 0.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A device that interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The console has input.
    Console,
}

/// The chip has no such line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchLine;

impl fmt::Display for NoSuchLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing interrupts for that device here")
    }
}

/// Brings interrupts to CPUs.
pub trait IrqChip: Sync {
    /// Gets the CPU that asks ready to be interrupted. Called once on each CPU, with interrupts off.
    fn start_cpu(&self);

    /// Takes what has arrived at this CPU by a vector, with interrupts off, and gives each to `handle`. What is
    /// taken may come again at once when interrupts are let in.
    fn take(&self, vector: u8, handle: &mut dyn FnMut(Interrupt));

    /// Lets a device interrupt the CPU that asks.
    ///
    /// # Errors
    /// If the chip has no such line; then the device has to be asked again and again.
    fn enable(&self, line: Line) -> Result<(), NoSuchLine>;
}
