//! A clock to read.

/// A clock. All CPUs read the same time, and it never goes back, whichever of them reads it.
pub trait ClockSource: Sync {
    /// Nanoseconds since some moment before the kernel began; wraps after 584 years.
    fn now_ns(&self) -> u64;
}
