//! Exceptions and upcalls.
//!
//! `install` loads the descriptor tables. An exception that a program asked for (`attempt`) goes
//! back to it; any other prints an oops and stops the domain. `upcall` collects event bits.
//!
//! Invariant: every exception arrives on a stack of its own, so that even an overflow of the main
//! stack is reported.

#[cfg(feature = "bare-metal")]
#[macro_use]
pub mod attempt;
#[cfg(feature = "bare-metal")]
mod oops;
#[cfg(feature = "bare-metal")]
mod stacks;
#[cfg(feature = "bare-metal")]
mod stubs;
#[cfg(feature = "bare-metal")]
pub mod tables;
pub mod upcall;

pub mod descriptor;

#[cfg(feature = "bare-metal")]
pub use stacks::{guard_pages, main_stack_range, user_stack_page, Stack, MAIN_STACK, STACK_BYTES};
#[cfg(feature = "bare-metal")]
pub use tables::install;

/// The vector at which upcalls arrive when a program asks for them.
pub const UPCALL_VECTOR: u8 = 32;

/// Exit code of a domain whose kernel met an exception: this plus the vector.
pub const OOPS_EXIT_CODE: u64 = 128;
