//! The kernel's own address space.
//!
//! Every address is mapped where it is (virtual = guest-physical). [`Mapper`] builds the tables and
//! is pure; with the feature `bare-metal`, `active` fills them for this image and loads CR3.

#[cfg(feature = "bare-metal")]
pub mod active;
#[cfg(feature = "bare-metal")]
pub mod heap;
mod mapper;
mod table;

pub use mapper::{MapProblem, Mapper};
pub use table::{Access, Table, TablePool};
