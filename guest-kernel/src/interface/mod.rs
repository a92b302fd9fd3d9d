//! What the kernel wants of the place where it runs: a clock, a clock that interrupts, interrupts, other
//! CPUs, a console.
//!
//! Each is a trait ([`ClockSource`], [`ClockEvent`], [`IrqChip`], [`Smp`], [`Console`]) in the kernel's own
//! words: none names an APIC, a vector, a port or a register. A backend ([`crate::pv`]) makes an [`Offer`]
//! for each that it can serve, with a rating. At boot [`Services::open`] asks the offers of an interface in
//! the order of their ratings, and the first that finds what it needs serves it; the others say why not.
//! What serves is used through [`Services`], which counts the uses.
//!
//! Invariant: nothing here knows a backend.
#![forbid(unsafe_code)]

mod choice;
mod clock_event;
mod clock_source;
mod console;
mod irq_chip;
mod kind;
mod offer;
mod services;
mod smp;

pub use choice::{choose, Candidate, Chosen, Verdict};
pub use clock_event::ClockEvent;
pub use clock_source::ClockSource;
pub use console::Console;
pub use irq_chip::{Interrupt, IrqChip, Line, NoSuchLine, Signal};
pub use kind::InterfaceKind;
pub use offer::{Backend, Identity, Offer, Rating, Refusal};
pub use services::{Facts, Forced, Missing, Served, Services};
pub use smp::{CpuNumber, CpuStart, Smp, StartError};
