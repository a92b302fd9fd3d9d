//! What the firmware's ACPI tables say of a PC (ACPI 6.4, chapter 5.2): its CPUs, what brings interrupts to them,
//! and clocks.
//!
//! Nothing in the tables is believed without its checksum, and no length takes a reader out of its table. What a
//! machine lacks is simply not there; only a root that cannot be used is an [`AcpiProblem`].
//!
//! `root` finds tables, `interrupts` reads the one of interrupt controllers, `clocks` those of timers.
#![forbid(unsafe_code)]

mod clocks;
#[cfg(test)]
mod fake;
mod interrupts;
mod root;

use core::fmt;

use crate::boot::physical::PhysicalBytes;
use crate::boot::RootPointer;

pub use clocks::PmTimer;
pub use interrupts::{Interrupts, IoApic, Override, Trigger};

/// What a machine has.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// CPUs and interrupt controllers; nothing on a machine without a MADT.
    pub interrupts: Option<Interrupts>,
    /// The power-management timer.
    pub pm_timer: Option<PmTimer>,
    /// The address of the HPET's registers.
    pub hpet: Option<u64>,
}

/// Why the tables cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiProblem {
    /// There is no root pointer.
    NoRoot,
    /// The root table is not what its length and its checksum say.
    DamagedRoot(u64),
    /// There are more of something than the kernel has room for.
    TooMany(&'static str),
}

impl fmt::Display for AcpiProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcpiProblem::NoRoot => formatter.write_str("the firmware has no ACPI tables"),
            AcpiProblem::DamagedRoot(address) => {
                write!(formatter, "ACPI's root table at {address:#x} is damaged")
            }
            AcpiProblem::TooMany(what) => {
                write!(
                    formatter,
                    "the machine has more {what} than there is room for"
                )
            }
        }
    }
}

/// Reads the tables below a root pointer, or below the one that the firmware has left in memory, if the loader
/// has none that is sound.
///
/// # Errors
/// See [`AcpiProblem`].
pub fn read(
    memory: &impl PhysicalBytes,
    given: Option<RootPointer>,
) -> Result<Hardware, AcpiProblem> {
    let given = given.filter(root::is_sound);
    let pointer = given.or_else(|| root::search(memory));
    let root = root::table(memory, &pointer.ok_or(AcpiProblem::NoRoot)?)?;
    let interrupts = root.find(memory, b"APIC");
    let interrupts = interrupts.map(|table| interrupts::read(memory, table));
    let fixed = root.find(memory, b"FACP");
    let hpet = root.find(memory, b"HPET");
    Ok(Hardware {
        interrupts: interrupts.transpose()?,
        pm_timer: fixed.and_then(|table| clocks::pm_timer(memory, table)),
        hpet: hpet.and_then(|table| clocks::hpet(memory, table)),
    })
}

#[cfg(test)]
mod tests;
