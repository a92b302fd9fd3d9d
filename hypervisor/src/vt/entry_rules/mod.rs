//! Why a CPU refuses to enter a guest: the rules of the manuals, as data.
//!
//! A CPU that finds a guest's state illegal says so with one number for more than a hundred rules.
//! Here each rule is a row: where it stands, what it says, the fields it speaks of, whether it holds,
//! and how it can be broken. [`explain`] names the rows that do not hold, with the fields' values.
//!
//! `rule` says what a rule is, `vmx` has Intel's and `svm` AMD's, `failure` is what is said about a failed entry, and
//! `self_test` breaks every row on a real CPU. The rows stand apart from the vendors' folders because
//! they state the manuals, not what the hypervisor does: they touch no hardware, change nothing, and
//! run only when a guest could not be entered. What they need of the CPU are fields (`vt/fields`), by a
//! closure, and plain numbers, the vendor's `Limits`.
//!
//! Invariant: no rule looks at a field that it does not name. So a rule about a field that the CPU
//! does not have is not judged.

mod failure;
mod rule;
pub mod self_test;
pub mod svm;
#[cfg(test)]
pub(in crate::vt) mod tests;
pub mod vmx;

pub use failure::{BrokenRule, EntryFailure, Refusal, Value};
pub use rule::{explain, Change, Class, Rule, Rules, Sample, To, View};

use super::fields::Field;
use rule::{beyond, lowest};

pub(in crate::vt) use rule::{is_canonical, is_page_attribute_table};
