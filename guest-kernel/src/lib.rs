//! The guest kernel: an ordinary small kernel whose hardware is the Nuncio guest ABI, or a PC.
//!
//! - [`boot`] reads what the loader hands over; [`mm`] builds page tables; `trap` takes exceptions
//!   and upcalls; [`console`] and `time` do what their names say.
//! - [`hv`] is the client of the ABI. It knows the hypervisor only through the [`hv::Machine`]
//!   trait, so everything above it runs on the host against a fake.
//! - [`interface`] says what the kernel wants of the place where it runs, and [`pv`] has who serves it there;
//!   `system` chooses, starts the CPUs, and runs threads ([`task`]).
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
pub mod programs;
pub mod pv;
pub mod sync;
pub mod task;
pub mod trap;

#[cfg(feature = "bare-metal")]
pub mod instructions;
#[cfg(feature = "bare-metal")]
pub mod irq;
#[cfg(feature = "bare-metal")]
pub mod kernel;
#[cfg(feature = "bare-metal")]
pub mod machine;
#[cfg(feature = "bare-metal")]
pub mod ops;
#[cfg(feature = "bare-metal")]
pub mod shell;
#[cfg(feature = "bare-metal")]
pub mod suite;
#[cfg(feature = "bare-metal")]
pub mod system;
#[cfg(feature = "bare-metal")]
pub mod time;
