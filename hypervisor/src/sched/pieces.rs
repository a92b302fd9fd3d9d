//! A table with a place for each vcpu, which grows while all CPUs read it without a lock.

use alloc::boxed::Box;

use spin::Once;

use super::VcpuId;

/// Vcpus in one piece of the table.
const PIECE: usize = 256;

/// Pieces of the table.
const PIECES: usize = 256;

/// Vcpus that there can be at a time.
pub const MAX_VCPUS: usize = PIECE * PIECES;

/// A place for each vcpu. None is ever moved.
pub(super) struct Pieces<T>(Box<[Once<Box<[T; PIECE]>>]>);

impl<T: Default> Pieces<T> {
    /// A table without places.
    pub(super) fn new() -> Self {
        Pieces((0..PIECES).map(|_| Once::new()).collect())
    }

    /// The place of a vcpu, which is made if it is not there; `None` if there are too many vcpus.
    pub(super) fn make(&self, id: VcpuId) -> Option<&T> {
        let piece = self.0.get(id.0 as usize / PIECE)?;
        let piece = piece.call_once(|| Box::new(core::array::from_fn(|_| T::default())));
        piece.get(id.0 as usize % PIECE)
    }

    /// The place of a vcpu, if it has one.
    pub(super) fn get(&self, id: VcpuId) -> Option<&T> {
        let piece = self.0.get(id.0 as usize / PIECE)?.get()?;
        piece.get(id.0 as usize % PIECE)
    }
}
