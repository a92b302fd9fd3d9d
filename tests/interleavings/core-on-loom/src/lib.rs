//! The core library, but for its atomics: these are loom's, which finds out what each order allows a
//! thread to see.
//!
//! Packages that depend on it under the name `core` are compiled from sources that know nothing of
//! it.

#![forbid(unsafe_code)]

pub use ::core::*;

/// As in the core library, but for the atomics.
pub mod sync {
    pub use ::core::sync::*;

    pub mod atomic;
}
