//! The hypervisor as a library: everything but the entry point, so that all of it that is pure
//! runs under plain `cargo test`. ARCHITECTURE.md has the map.

#![no_std]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod boot;
pub mod call;
pub mod cpu;
pub mod image;
pub mod launch;
pub mod lock;
pub mod mem;
pub mod nested;
pub mod object;
pub mod plan;
pub mod policy;
pub mod run;
pub mod sched;
pub mod start;
pub mod vt;
