//! Memory: addresses as types, physical memory as words, and the frames that domains are made of.
//!
//! [`FramePool`] holds the free frames; an [`Account`] takes [`Extent`]s from it up to a limit;
//! [`IntervalMap`] remembers what is where; [`FrameBytes`] reads frames as a file. Pure, and at the
//! bottom: it uses nothing else of the hypervisor. The direct map that stands behind
//! [`PhysicalMemory`] on hardware is in `cpu`.
//!
//! Invariant: no pure module holds a reference into guest memory that is not a slice of atomic
//! words. Whatever a guest writes, and whenever, the hypervisor reads some number.

#![forbid(unsafe_code)]

mod account;
mod address;
#[cfg(test)]
pub(crate) mod arena;
mod blocks;
mod bytes;
mod frames;
mod host_range;
mod intervals;
mod kernel_bytes;
mod physical;

pub use account::{Account, Extent, OutOfFrames};
pub use address::{Frame, GuestPhysical, HostPhysical, PAGE_BYTES, PAGE_SHIFT};
pub use blocks::Blocks;
pub use bytes::{ByteSource, FrameBytes};
pub use frames::FramePool;
pub use host_range::{merge, subtract, total_bytes, HostRange};
pub use intervals::{FreeRange, Gap, Interval, IntervalMap, Overlap, Piece, TakenRange};
pub use kernel_bytes::KernelCharge;
pub use physical::{PhysicalMemory, Words, WORDS_PER_PAGE};
