//! All backends, and what they look at.
#![forbid(unsafe_code)]

use crate::interface::{Backend, Facts, Identity};
use crate::machine::Native;

use super::nuncio;

/// All backends. Of equal ratings the first is asked first.
pub const BACKENDS: &[&Backend<Place>] = &[&nuncio::BACKEND];

/// The backend that serves what a forced one cannot.
pub const FALLBACK: &str = "native";

/// What backends look at.
#[derive(Clone, Copy)]
pub struct Place {
    /// The hypervisor's handover, in a domain of Nuncio's. There are no devices then: who touches one ends the
    /// domain.
    pub nuncio: Option<&'static Native>,
    /// What brings interrupts, once that is chosen.
    pub irq_chip: Option<Identity>,
}

impl Facts for Place {
    fn with_irq_chip(&self, irq_chip: Identity) -> Self {
        Place {
            irq_chip: Some(irq_chip),
            ..*self
        }
    }
}
