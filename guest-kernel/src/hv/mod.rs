//! The client of the guest ABI: typed objects instead of registers.
//!
//! [`Client`] finds the objects that a domain was given by name: [`Port`], [`Event`], [`Memory`],
//! [`Space`], [`Domain`]; it makes more of them, and [`Timer`]s. Their methods are the verbs. Below them lies [`Gate`], which carries one
//! call to the hypervisor, and [`Machine`], which adds the memory shared with it; the real ones are
//! in the crate's `machine` module, the ones for tests in `fake`.
//!
//! Invariant: no `unsafe` here; what arrives from the hypervisor or a peer is checked where it is
//! turned into a typed value.
#![forbid(unsafe_code)]

mod client;
mod domain;
mod event;
#[cfg(not(feature = "bare-metal"))]
pub mod fake;
mod gate;
mod make;
mod memory;
mod object;
mod pause;
mod port;
mod ring;
mod timer;
mod vcpu;

pub use client::Client;
pub use domain::Domain;
pub use event::Event;
pub use gate::{Gate, Machine, MessageBuffer, MessageBuffers, SharedView};
pub use make::{Child, Ends, Start};
pub use memory::{Memory, Space};
pub use object::Object;
pub use pause::rest_until;
pub use port::{Handles, Port, Received};
pub use ring::{Ring, RingMemory};
pub use timer::Timer;
pub use vcpu::Vcpu;
