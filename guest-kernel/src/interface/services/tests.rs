use std::string::ToString;

use super::*;
use crate::interface::{Interrupt, Line, NoSuchLine, Rating, Refusal};

struct Place {
    has_chip: bool,
    irq_chip: Option<Identity>,
}

impl Facts for Place {
    fn with_irq_chip(&self, irq_chip: Identity) -> Self {
        Place {
            has_chip: self.has_chip,
            irq_chip: Some(irq_chip),
        }
    }
}

struct Device;

impl ClockSource for Device {
    fn now_ns(&self) -> u64 {
        7
    }
}

impl IrqChip for Device {
    fn start_cpu(&self) {}

    fn take(&self, _: u8, _: &mut dyn FnMut(Interrupt)) {}

    fn enable(&self, _: Line) -> Result<(), NoSuchLine> {
        Err(NoSuchLine)
    }
}

impl ClockEvent for Device {
    fn start_cpu(&self) {}

    fn set(&self, _: Option<u64>) {}
}

const RATING: Rating = Rating(200);

static NATIVE: Backend<Place> = Backend {
    clock_sources: &[Offer {
        server: "counter",
        rating: RATING,
        open: |_| Ok(&Device),
    }],
    irq_chips: &[Offer {
        server: "chip",
        rating: RATING,
        open: |place| {
            let chip: &'static dyn IrqChip = &Device;
            place.has_chip.then_some(chip).ok_or(Refusal("no chip"))
        },
    }],
    clock_events: &[Offer {
        server: "timer",
        rating: RATING,
        open: |place| match place.irq_chip {
            Some(Identity { server: "chip", .. }) => Ok(&Device),
            _ => Err(Refusal("it interrupts by the chip")),
        },
    }],
    ..Backend::new("native")
};

const FREE: Forced<'static> = Forced {
    backend: None,
    fallback: "native",
};

fn open(has_chip: bool) -> Result<Services, Missing> {
    let place = Place {
        has_chip,
        irq_chip: None,
    };
    Services::open(&[&NATIVE], FREE, &place)
}

#[test]
fn later_interfaces_know_what_brings_interrupts() {
    let services = open(true).ok().unwrap();
    let timer = services.clock_event.identity().unwrap();
    assert_eq!(timer.to_string(), "native:timer");
    assert!(services.console.get().is_none() && services.smp.get().is_none());
}

#[test]
fn what_the_kernel_cannot_do_without_is_named() {
    let missing = open(false).err().unwrap();
    assert_eq!(
        missing.to_string(),
        "nothing here serves as irq-chip: native:chip not used: no chip;"
    );
}

#[test]
fn uses_are_counted() {
    let services = open(true).ok().unwrap();
    for _ in 0..3 {
        assert_eq!(services.clock_source.get().unwrap().now_ns(), 7);
    }
    let rows = services.all().map(|(kind, identity, candidates, uses)| {
        let name = identity.map_or("-", |identity| identity.server);
        (kind.name(), name, candidates.len(), uses)
    });
    assert_eq!(
        rows,
        [
            ("console", "-", 0, 0),
            ("clock-source", "counter", 1, 3),
            ("irq-chip", "chip", 1, 0),
            ("clock-event", "timer", 1, 0),
            ("smp", "-", 0, 0),
        ]
    );
}
