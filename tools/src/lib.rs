//! The host side of Nuncio: checks manifests, boots them on test beds, and judges what happened.
//!
//! The way of a run: `cli` -> `run` (`manifest` -> plan -> `beds` -> serial line -> `report`) ->
//! `judge` -> `table` and `json`. Dependencies point the same way; `verdict` and `screen` are used
//! by all.
//!
//! Invariant: nothing but [`judge::judge`] decides that a run has worked; of the guest kernel without Nuncio
//! ([`kernel`]) its own `judge` does.

#![forbid(unsafe_code)]

pub mod abi;
pub mod app;
pub mod backends;
pub mod backtrace;
pub mod beds;
pub mod cli;
pub mod compare;
pub mod costs;
pub mod fold;
pub mod iso;
pub mod json;
pub mod judge;
pub mod kernel;
pub mod manifest;
pub mod project;
pub mod report;
pub mod run;
pub mod screen;
pub mod soak;
pub mod symbols;
pub mod table;
pub mod verdict;
