//! How urgent a vcpu is.

/// A priority, 0 to 63: whoever has the higher one runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Priority(u8);

impl Priority {
    /// How many there are.
    pub const COUNT: usize = 64;

    /// What a vcpu has for which nobody has said anything else.
    pub const DEFAULT: Priority = Priority(32);

    /// The priority of that level; levels past the last count as the last.
    pub const fn of_level(level: u8) -> Self {
        let last = Self::COUNT as u8 - 1;
        Priority(if level < last { level } else { last })
    }

    /// The level, below [`Priority::COUNT`].
    #[inline(always)]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}
