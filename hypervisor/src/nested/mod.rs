//! Nested page tables: what a guest-physical address means in the machine's memory.
//!
//! [`NestedTable`] is the engine, the same for every CPU; an [`EntryFormat`] is all that differs
//! between them. It builds on `mem` and knows nothing of guests, objects or calls.
//!
//! Invariant: every table but the root is linked from exactly one entry and lies in a frame that
//! the engine owns.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod cursor;
#[cfg(test)]
mod entry_cases;
mod ept;
mod format;
mod npt;
mod table;
mod tables;
mod walk;

pub use cursor::Run;
pub use ept::{Ept, EPT_1G, EPT_2M, EPT_4K};
pub use format::{Entry, EntryFormat, Level};
pub use npt::{Npt, NPT, NPT_1G};
pub use table::{NestedTable, Stale, Translation, ADDRESS_LIMIT};
