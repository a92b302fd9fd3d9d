//! All backends, and what they look at.
#![forbid(unsafe_code)]

use crate::boot::Handover;
use crate::interface::{Backend, Facts, Identity, Refusal};
use crate::machine::Native;

use super::native::acpi::Hardware;
use super::{kvm, native, nuncio};

/// All backends. Of equal ratings the first is asked first.
pub const BACKENDS: &[&Backend<Place>] = &[&nuncio::BACKEND, &kvm::BACKEND, &native::BACKEND];

/// The backend that serves what a forced one cannot.
pub const FALLBACK: &str = native::NAME;

/// What backends look at.
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// The hypervisor's handover, in a domain of Nuncio's. There are no devices then: who touches one ends the
    /// domain.
    pub nuncio: Option<&'static Native>,
    /// What the boot loader has handed over, on a machine.
    pub handover: Option<&'static Handover>,
    /// What the firmware says of the machine, if it says anything.
    pub hardware: Option<&'static Hardware>,
    /// What brings interrupts, once that is chosen.
    pub irq_chip: Option<Identity>,
}

impl Place {
    /// Whether there are the devices of a PC, or something that behaves like them.
    ///
    /// # Errors
    /// In a domain of Nuncio's.
    pub fn devices(&self) -> Result<(), Refusal> {
        match self.nuncio {
            None => Ok(()),
            Some(_) => Err(Refusal("a domain of Nuncio's has no devices")),
        }
    }
}

impl Facts for Place {
    fn with_irq_chip(&self, irq_chip: Identity) -> Self {
        Place {
            irq_chip: Some(irq_chip),
            ..*self
        }
    }
}
