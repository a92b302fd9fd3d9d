//! Exceptions and upcalls.
//!
//! `install` fills the descriptor tables; each vcpu loads them, with a task state segment and stacks of its
//! own. An exception that a program asked for (`attempt`) goes back to it; any other prints an oops and stops
//! the kernel. `upcall` collects event bits; `interrupts` hands other vectors to who takes them.
//!
//! Invariants: every exception arrives on a stack of its own, so that even an overflow of the main
//! stack is reported. TR says which vcpu runs, whatever else the registers hold.

#[cfg(feature = "bare-metal")]
#[macro_use]
pub mod attempt;
pub mod interrupts;
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
pub use stacks::{user_stack_page, Stack, Stacks, FIRST_STACKS, MAIN_STACK, STACK_BYTES};
#[cfg(feature = "bare-metal")]
pub use tables::{current_vcpu, guard_pages, install, load};

/// Vcpus that the kernel can run.
pub const VCPUS: usize = 16;

/// Vectors that the CPU keeps for exceptions.
pub const EXCEPTIONS: u64 = 32;

/// The vector at which upcalls arrive when a program asks for them.
pub const UPCALL_VECTOR: u8 = 32;

/// Exit code of a domain whose kernel met an exception: this plus the vector.
pub const OOPS_EXIT_CODE: u64 = 128;
