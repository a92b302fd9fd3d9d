//! What a guest may see of the CPU and do with it, the same for both vendors.
//!
//! Pure. Everything is refused that is not on a list here.

#![forbid(unsafe_code)]

pub mod cpuid;
pub mod msr;
