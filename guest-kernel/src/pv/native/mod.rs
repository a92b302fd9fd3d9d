//! The devices of a PC.
//!
//! What the kernel needs of them when nothing stands between it and the machine: the serial port, and how a
//! machine is ended that is an emulator.

pub mod exit;
#[cfg(feature = "bare-metal")]
pub mod self_test;
#[cfg(feature = "bare-metal")]
pub mod serial;

#[cfg(feature = "bare-metal")]
pub use serial::Serial;
