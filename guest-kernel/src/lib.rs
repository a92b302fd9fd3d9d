//! The guest kernel: an ordinary small kernel whose hardware is the Nuncio guest ABI, or a PC.
//!
//! - [`boot`] reads what the loader hands over; [`mm`] builds page tables; `trap` takes exceptions
//!   and upcalls; [`console`] and `time` do what their names say.
//! - [`hv`] is the client of the ABI. It knows the hypervisor only through the [`hv::Machine`]
//!   trait, so everything above it runs on the host against a fake.
//! - [`native`] is the devices of a PC, for when the kernel runs on one without a hypervisor.
//! - [`programs`] is what the kernel runs; the command line picks one.
//! - `kernel` puts the parts together on a CPU.
//!
//! Invariant: nothing outside the feature `bare-metal` touches a CPU register or a raw address.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(not(feature = "bare-metal"))]
extern crate std;

pub mod boot;
pub mod console;
pub mod hv;
pub mod interface;
pub mod mm;
#[path = "pv/native/mod.rs"]
pub mod native;
pub mod programs;
pub mod trap;

#[cfg(feature = "bare-metal")]
pub mod instructions;
#[cfg(feature = "bare-metal")]
pub mod kernel;
#[cfg(feature = "bare-metal")]
pub mod machine;
#[cfg(feature = "bare-metal")]
pub mod time;
