//! The standard library, but for what each thread has for itself: shuttle runs all its threads on one
//! of the operating system's.
//!
//! Packages that depend on it under the name `std` are compiled from sources that know nothing of it.

#![forbid(unsafe_code)]

pub use ::std::*;

pub use shuttle::thread_local;
