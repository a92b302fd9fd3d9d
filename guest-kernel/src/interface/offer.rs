//! What a backend says that it can do.

use core::fmt;

use super::{ClockEvent, ClockSource, Console, IrqChip, Smp};

/// How good a server is: of those that work, the one with the highest rating serves.
///
/// | Rating | Meaning |
/// | --- | --- |
/// | 1 to 99 | only if there is nothing else |
/// | 100 to 199 | works, slowly or coarsely |
/// | 200 to 299 | good |
/// | 300 to 399 | made for this place |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rating(pub u16);

/// Why an offer does not stand, in words that end "not used: ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub &'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Who serves an interface: the backend and the name of what it serves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The backend.
    pub backend: &'static str,
    /// Its name within the backend, such as `tsc`.
    pub server: &'static str,
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.backend, self.server)
    }
}

/// An offer to serve the interface `I`. `F` is what it looks at to see whether it can.
pub struct Offer<F: 'static, I: ?Sized + 'static> {
    /// The name of what serves.
    pub server: &'static str,
    /// How good it is.
    pub rating: Rating,
    /// Gets it ready; or says what is missing, and has changed nothing.
    pub open: fn(&F) -> Result<&'static I, Refusal>,
}

/// Everything that a backend offers. What it does not list something else serves.
pub struct Backend<F: 'static> {
    /// Its name, as in `pv=NAME`.
    pub name: &'static str,
    /// Its consoles.
    pub consoles: &'static [Offer<F, dyn Console>],
    /// Its clocks.
    pub clock_sources: &'static [Offer<F, dyn ClockSource>],
    /// What brings interrupts.
    pub irq_chips: &'static [Offer<F, dyn IrqChip>],
    /// Its clocks that interrupt.
    pub clock_events: &'static [Offer<F, dyn ClockEvent>],
    /// What starts other CPUs.
    pub smps: &'static [Offer<F, dyn Smp>],
}

impl<F> Backend<F> {
    /// A backend that offers nothing yet.
    pub const fn new(name: &'static str) -> Self {
        Backend {
            name,
            consoles: &[],
            clock_sources: &[],
            irq_chips: &[],
            clock_events: &[],
            smps: &[],
        }
    }
}
