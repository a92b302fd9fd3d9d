//! What the backend offers.
#![forbid(unsafe_code)]

use super::{clock_event, clock_source, console, irq_chip, smp, IRQ_CHIP, NAME};
use crate::interface::{Backend, Offer, Rating};
use crate::pv::Place;

/// What the backend offers.
pub const BACKEND: Backend<Place> = Backend {
    consoles: &[Offer {
        server: "serial",
        rating: Rating(200),
        open: console::open,
    }],
    clock_sources: &[Offer {
        server: "tsc",
        rating: Rating(250),
        open: clock_source::open,
    }],
    irq_chips: &[Offer {
        server: IRQ_CHIP,
        rating: Rating(250),
        open: irq_chip::open,
    }],
    clock_events: &[
        Offer {
            server: "tsc-deadline",
            rating: Rating(260),
            open: clock_event::open_deadline,
        },
        Offer {
            server: "apic-timer",
            rating: Rating(250),
            open: clock_event::open_one_shot,
        },
    ],
    smps: &[Offer {
        server: "init-sipi",
        rating: Rating(250),
        open: smp::open,
    }],
    ..Backend::new(NAME)
};
