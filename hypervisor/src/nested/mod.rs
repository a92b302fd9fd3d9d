//! Nested page tables: what a guest-physical address means in the machine's memory.
//!
//! [`NestedTable`] is the engine, the same for every CPU; an [`EntryFormat`] is all that differs
//! between them. It builds on `mem` and knows nothing of guests, objects or calls.
//!
//! Invariant: a table's own frames never appear in a leaf that the engine wrote by itself; what
//! leaves point to is the caller's choice alone.

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
mod format;
mod npt;
mod table;
mod walk;

pub use cursor::Run;
pub use format::{Entry, EntryFormat, Level};
pub use npt::{Npt, NPT, NPT_1G};
pub use table::{NestedTable, Translation, ADDRESS_LIMIT};
