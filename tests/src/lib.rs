//! Tests of Nuncio as a whole.
//!
//! `structure` keeps the sources of the hypervisor in order; `scenarios` boots machines with the
//! `nuncio` binary through the builder in `run`, with images that `image` has damaged and with
//! interrupts that come through the `monitor`.

#![forbid(unsafe_code)]

pub mod image;
pub mod monitor;
pub mod run;
pub mod scenarios;
pub mod structure;
