//! What the kernel does to its own CPU all the time, and for which there is no interface: keep interrupts out,
//! idle.

mod idle;

use crate::instructions::{disable_interrupts, enable_interrupts, interrupts_are_enabled};

pub use idle::{idle, step_over};

/// Interrupts are off until it is dropped; then they are what they were.
pub struct InterruptsOff {
    were_on: bool,
}

impl InterruptsOff {
    /// Keeps interrupts out.
    #[inline]
    pub fn new() -> Self {
        let were_on = interrupts_are_enabled();
        disable_interrupts();
        InterruptsOff { were_on }
    }
}

impl Default for InterruptsOff {
    fn default() -> Self {
        InterruptsOff::new()
    }
}

impl Drop for InterruptsOff {
    #[inline]
    fn drop(&mut self) {
        if self.were_on {
            enable_interrupts();
        }
    }
}
