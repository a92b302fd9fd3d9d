//! The hypervisor's own memory, as far as domains cause it: who has taken how much.
//!
//! Frames are counted where they are allocated. What lies on the heap (objects, queues, handle
//! tables) is counted here, before it is allocated. The heap is large enough for what all accounts
//! together may take, so an allocation that was paid for does not fail.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Account, OutOfFrames};

/// The heap has no smaller pieces.
const SMALLEST_BYTES: usize = 16;

/// Bytes of the heap that an account has taken, and how many it may take.
pub(super) struct KernelBytes {
    limit: u64,
    used: AtomicU64,
}

/// Bytes of the heap that are paid for; dropping it gives them back.
pub struct KernelCharge {
    account: Arc<Account>,
    bytes: u64,
}

impl KernelBytes {
    pub(super) const fn new(limit: u64) -> Self {
        KernelBytes {
            limit,
            used: AtomicU64::new(0),
        }
    }
}

impl Account {
    /// Bytes of the heap that the account has taken.
    pub fn kernel_bytes_used(&self) -> u64 {
        self.kernel_bytes.used.load(Ordering::Relaxed)
    }

    /// Bytes of the heap that it may take.
    pub fn kernel_bytes_limit(&self) -> u64 {
        self.kernel_bytes.limit
    }

    /// Pays for pieces of these sizes, each rounded up as the heap does: to a power of two.
    ///
    /// # Errors
    /// `Quota` if the account may not take as much. Nothing is taken then.
    pub fn charge_kernel(self: &Arc<Self>, pieces: &[usize]) -> Result<KernelCharge, OutOfFrames> {
        let bytes = pieces
            .iter()
            .map(|bytes| bytes.max(&SMALLEST_BYTES).checked_next_power_of_two())
            .try_fold(0u64, |sum, bytes| sum.checked_add(bytes? as u64))
            .ok_or(OutOfFrames::Quota)?;
        self.take_kernel_bytes(bytes)?;
        Ok(KernelCharge {
            account: Arc::clone(self),
            bytes,
        })
    }

    pub(super) fn take_kernel_bytes(&self, bytes: u64) -> Result<(), OutOfFrames> {
        let limit = self.kernel_bytes.limit;
        let charged = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.kernel_bytes
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged)
            .map(|_| ())
            .map_err(|_| OutOfFrames::Quota)
    }

    pub(super) fn give_kernel_bytes(&self, bytes: u64) {
        self.kernel_bytes.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for KernelCharge {
    fn drop(&mut self) {
        self.account.give_kernel_bytes(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;

    #[test]
    fn bytes_are_paid_as_the_heap_takes_them_and_given_back() {
        let account = Account::with_kernel_limit(Arena::leak(0, 1).pool(), 1, 100);
        let charge = account.charge_kernel(&[33, 8]).unwrap();
        assert_eq!(account.kernel_bytes_used(), 64 + 16);
        let refused = [&[29][..], &[16, 16], &[usize::MAX], &[1 << 63, 1 << 63]];
        for pieces in refused {
            assert_eq!(
                account.charge_kernel(pieces).err(),
                Some(OutOfFrames::Quota)
            );
        }
        assert_eq!(
            account.kernel_bytes_used(),
            64 + 16,
            "a refusal takes nothing"
        );
        drop(charge);
        assert_eq!(account.kernel_bytes_used(), 0);
    }

    #[test]
    fn a_part_of_an_account_is_taken_from_it_and_goes_back_with_what_it_paid_for() {
        let account = Account::with_kernel_limit(Arena::leak(0, 8).pool(), 8, 100);
        let part = account.divide(5, 64).unwrap();
        assert_eq!((account.used(), account.kernel_bytes_used()), (5, 64));
        for (frames, bytes) in [(4, 1), (1, 37)] {
            let refused = account.divide(frames, bytes).err();
            assert_eq!(refused, Some(OutOfFrames::Quota));
        }
        let extent = part.allocate(2).unwrap();
        assert!(part.allocate(1).is_err() && account.allocate(2).is_err());
        drop(part);
        assert_eq!(account.used(), 5, "its frames are still in use");
        drop(extent);
        assert_eq!((account.used(), account.kernel_bytes_used()), (0, 0));
    }
}
