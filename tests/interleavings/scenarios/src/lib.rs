//! Beds for tests in which a scheduler chooses, at every access to an atomic or a lock, who runs on.
//!
//! `explore` runs a test under many schedules, `machine` has the memory and the vcpus' bells, `guest`
//! is a vcpu on a CPU of its own, which makes real calls on real objects. `orders` is for the pages
//! that guests share with the hypervisor: what weak orders allow is tried there, too.

#![forbid(unsafe_code)]

mod explore;
mod guest;
mod machine;
mod orders;

pub use explore::explore;
pub use guest::Guest;
pub use machine::Machine;
pub use orders::{explore_orders, shared_page};
