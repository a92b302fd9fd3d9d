//! Why this machine cannot run the hypervisor.

#![forbid(unsafe_code)]

use alloc::string::{String, ToString};

/// A reason not to start, for the `@refused` line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people that says what to do.
    pub text: String,
}

impl Refusal {
    /// A reason.
    pub fn new(code: &'static str, text: &str) -> Self {
        Refusal {
            code,
            text: text.to_string(),
        }
    }
}
