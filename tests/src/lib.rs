//! Tests of Nuncio as a whole.
//!
//! `structure` keeps the sources of the hypervisor in order; `scenarios` boots machines with the
//! `nuncio` binary through the builder in `run`, with images that `image` has damaged and with
//! interrupts that come through the `monitor`; `flush_log` reads what they say of flushes. `selection` chooses among them, `record` keeps what
//! became of each, and `junit` makes one report of that and of everything else that was tested.

#![forbid(unsafe_code)]

pub mod flush_log;
pub mod image;
pub mod junit;
pub mod monitor;
pub mod record;
pub mod run;
pub mod scenarios;
pub mod selection;
pub mod structure;
