//! A clock that interrupts.

/// Interrupts the CPU that asks at a time of the [`ClockSource`](super::ClockSource).
pub trait ClockEvent: Sync {
    /// Gets the CPU that asks ready: nothing is set then. Called once on each CPU, with interrupts off.
    fn start_cpu(&self);

    /// Has this CPU get [`Interrupt::Timer`](super::Interrupt::Timer) once when the clock says `deadline_ns`,
    /// or at once if it has said so already; `None`: not at all. It replaces what was set before. The
    /// interrupt may come too early or for something that was replaced; whoever gets it looks at the clock.
    fn set(&self, deadline_ns: Option<u64>);
}
