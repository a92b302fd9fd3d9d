//! Who can serve the kernel's interfaces: a folder for each kind of place, and what they look at.
//!
//! A backend knows the kernel by [`crate::interface`] alone, and the kernel knows it by its line in `list`:
//! without both, the kernel builds and runs, served by the others.

pub mod native;
pub mod pvclock;
pub mod signature;

#[cfg(feature = "bare-metal")]
mod kvm;
#[cfg(feature = "bare-metal")]
mod list;
#[cfg(feature = "bare-metal")]
mod nuncio;

#[cfg(feature = "bare-metal")]
pub use list::{Place, BACKENDS, FALLBACK};
