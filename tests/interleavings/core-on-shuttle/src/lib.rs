//! The core library, but for its atomics: each access to one of these is a point at which shuttle may
//! let another thread go on.
//!
//! Packages that depend on it under the name `core` are compiled from sources that know nothing of
//! it. The atomics have the size and layout of those in the core library.

#![forbid(unsafe_code)]

pub use ::core::*;

/// As in the core library, but for the atomics.
pub mod sync {
    pub use ::core::sync::*;

    pub mod atomic;
}
