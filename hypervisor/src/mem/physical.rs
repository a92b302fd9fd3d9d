//! Physical memory as pure code sees it: frames of 512 atomic words.

use core::sync::atomic::AtomicU64;

use super::Frame;

/// Words in a page.
pub const WORDS_PER_PAGE: usize = 512;

/// One frame's content.
pub type Words = [AtomicU64; WORDS_PER_PAGE];

/// Gives access to the frames that may belong to guests.
///
/// Every bit pattern is a valid word and every access is atomic, so guests may write at any time
/// and safe code stays safe. An implementation gives out no frame in which the hypervisor keeps
/// Rust objects.
pub trait PhysicalMemory: Sync {
    /// The frame's words; `None` for a frame that is no RAM or belongs to the hypervisor itself.
    fn words(&self, frame: Frame) -> Option<&'static Words>;
}
