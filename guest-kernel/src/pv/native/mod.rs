//! On a PC: the devices that every PC has, and what the kernel needs of them when nothing stands between it and
//! the machine. What the machine has stands in the firmware's tables ([`acpi`]).

pub mod acpi;
pub mod exit;

pub mod calibration;

#[cfg(feature = "bare-metal")]
mod clock_event;
#[cfg(feature = "bare-metal")]
mod clock_source;
#[cfg(feature = "bare-metal")]
mod console;
#[cfg(feature = "bare-metal")]
mod irq_chip;
#[cfg(feature = "bare-metal")]
mod local_apic;
#[cfg(feature = "bare-metal")]
mod offers;
#[cfg(feature = "bare-metal")]
mod pit;
#[cfg(feature = "bare-metal")]
pub mod self_test;
#[cfg(feature = "bare-metal")]
pub mod serial;
#[cfg(feature = "bare-metal")]
mod smp;

#[cfg(feature = "bare-metal")]
pub use offers::BACKEND;
#[cfg(feature = "bare-metal")]
pub use serial::Serial;

/// The backend's name.
pub const NAME: &str = "native";
/// The name of what brings interrupts.
#[cfg(feature = "bare-metal")]
const IRQ_CHIP: &str = "local-apic";
