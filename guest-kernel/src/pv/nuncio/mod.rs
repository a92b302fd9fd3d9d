//! In a domain of Nuncio's: the clock is the time page, interrupts are the bits of an event, a timer is a
//! timer, other CPUs are vcpus, the console is a port.
#![forbid(unsafe_code)]

mod clock_event;
mod clock_source;
mod console;
mod irq_chip;
mod smp;

use crate::interface::{Backend, Identity, Offer, Rating, Refusal};
use crate::machine::Native;

use super::Place;

/// Made for this place.
const RATING: Rating = Rating(390);

/// What the backend offers.
pub const BACKEND: Backend<Place> = Backend {
    consoles: &[Offer {
        server: "port",
        rating: RATING,
        open: console::open,
    }],
    clock_sources: &[Offer {
        server: "time-page",
        rating: RATING,
        open: clock_source::open,
    }],
    irq_chips: &[Offer {
        server: IRQ_CHIP,
        rating: RATING,
        open: irq_chip::open,
    }],
    clock_events: &[Offer {
        server: "timer",
        rating: RATING,
        open: clock_event::open,
    }],
    smps: &[Offer {
        server: "vcpus",
        rating: RATING,
        open: smp::open,
    }],
    ..Backend::new(NAME)
};

const NAME: &str = "nuncio";
const IRQ_CHIP: &str = "event";

/// The machine, in a domain.
fn machine(place: &Place) -> Result<&'static Native, Refusal> {
    place.nuncio.ok_or(Refusal("this is no domain of Nuncio's"))
}

/// The same for what interrupts by the event.
fn machine_with_event(place: &Place) -> Result<&'static Native, Refusal> {
    let machine = machine(place)?;
    let own = Identity {
        backend: NAME,
        server: IRQ_CHIP,
    };
    if place.irq_chip != Some(own) {
        return Err(Refusal("it interrupts by Nuncio's events only"));
    }
    Ok(machine)
}
