//! The names of the interfaces.

use core::fmt;

/// One of the interfaces that backends serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// [`Console`](super::Console).
    Console,
    /// [`ClockSource`](super::ClockSource).
    ClockSource,
    /// [`IrqChip`](super::IrqChip).
    IrqChip,
    /// [`ClockEvent`](super::ClockEvent).
    ClockEvent,
    /// [`Smp`](super::Smp).
    Smp,
}

impl InterfaceKind {
    /// All of them, in the order in which they are opened: each may look at what serves those before it.
    pub const ALL: [InterfaceKind; 5] = [
        InterfaceKind::Console,
        InterfaceKind::ClockSource,
        InterfaceKind::IrqChip,
        InterfaceKind::ClockEvent,
        InterfaceKind::Smp,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            InterfaceKind::Console => "console",
            InterfaceKind::ClockSource => "clock-source",
            InterfaceKind::IrqChip => "irq-chip",
            InterfaceKind::ClockEvent => "clock-event",
            InterfaceKind::Smp => "smp",
        }
    }
}

impl fmt::Display for InterfaceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
