//! Who holds which frames, and how many each may hold.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use super::kernel_bytes::KernelBytes;
use super::{Frame, FramePool};

/// The largest block that [`Account::allocate_largest`] asks for is 2^18 frames: 1 GiB, the size
/// of the largest page.
const LARGEST_ORDER: u32 = 18;

/// Why frames could not be had. Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfFrames {
    /// The account would exceed its limit.
    Quota,
    /// The machine has no such frames left.
    Memory,
}

/// What one owner, such as a domain, has taken from the pool and of the hypervisor's own memory,
/// with a limit on each.
pub struct Account {
    pool: Arc<FramePool>,
    limit: u64,
    used: AtomicU64,
    pub(super) kernel_bytes: KernelBytes,
    /// From whose limits these were taken; they go back with the account.
    parent: Option<Arc<Account>>,
}

/// Contiguous frames that belong to an account; dropping it gives them back.
pub struct Extent {
    first: Frame,
    count: u64,
    origin: Origin,
    account: Arc<Account>,
}

/// Where the frames of an extent were before.
#[derive(Clone, Copy)]
enum Origin {
    /// In the pool, as one block of 2^`order` frames.
    Pool { order: u32 },
    /// Nowhere that the pool knows of.
    Elsewhere,
}

impl Account {
    /// An account that takes from `pool` and never holds more than `limit_frames`.
    /// Its objects in the hypervisor's memory are not limited.
    pub fn new(pool: Arc<FramePool>, limit_frames: u64) -> Arc<Self> {
        Self::with_kernel_limit(pool, limit_frames, u64::MAX)
    }

    /// As [`Account::new`], with at most `limit_bytes` of the hypervisor's own memory.
    pub fn with_kernel_limit(
        pool: Arc<FramePool>,
        limit_frames: u64,
        limit_bytes: u64,
    ) -> Arc<Self> {
        Arc::new(Account {
            pool,
            limit: limit_frames,
            used: AtomicU64::new(0),
            kernel_bytes: KernelBytes::new(limit_bytes),
            parent: None,
        })
    }

    /// An account whose limits are taken from this one's, until it is dropped.
    ///
    /// # Errors
    /// `Quota` if there is not as much left.
    pub fn divide(
        self: &Arc<Self>,
        limit_frames: u64,
        limit_bytes: u64,
    ) -> Result<Arc<Self>, OutOfFrames> {
        self.charge(limit_frames)?;
        if let Err(error) = self.take_kernel_bytes(limit_bytes) {
            self.discharge(limit_frames);
            return Err(error);
        }
        Ok(Arc::new(Account {
            pool: self.pool.clone(),
            limit: limit_frames,
            used: AtomicU64::new(0),
            kernel_bytes: KernelBytes::new(limit_bytes),
            parent: Some(self.clone()),
        }))
    }

    /// Frames that the account holds.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Frames that it may hold.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes 2^`order` contiguous, naturally aligned frames, filled with zeros.
    pub fn allocate(self: &Arc<Self>, order: u32) -> Result<Extent, OutOfFrames> {
        let count = 1u64.checked_shl(order).ok_or(OutOfFrames::Quota)?;
        self.charge(count)?;
        let Some(first) = self.pool.take(order) else {
            self.discharge(count);
            return Err(OutOfFrames::Memory);
        };
        let extent = self.block(first, order);
        self.pool.zero(&extent);
        Ok(extent)
    }

    /// Takes that many frames, filled with zeros, in few, large, naturally aligned blocks, the
    /// largest first. A block has at most 1 GiB.
    ///
    /// Because sizes only fall, blocks laid one after the other from an address that is aligned
    /// to the first one are all aligned to their size, and large pages can map them.
    pub fn allocate_largest(self: &Arc<Self>, frames: u64) -> Result<Vec<Extent>, OutOfFrames> {
        self.charge(frames)?;
        let extents = self.take_largest(frames)?;
        for extent in &extents {
            self.pool.zero(extent);
        }
        Ok(extents)
    }

    /// Charges frames that did not come from the pool, such as a boot module's, as they are.
    /// They go to the pool when the extent is dropped.
    ///
    /// The caller owns the frames; nobody else uses them or gives them to a pool.
    pub fn adopt(self: &Arc<Self>, first: Frame, count: u64) -> Result<Extent, OutOfFrames> {
        self.charge(count)?;
        Ok(Extent {
            first,
            count,
            origin: Origin::Elsewhere,
            account: Arc::clone(self),
        })
    }

    /// Takes frames that are charged already; those that cannot be had are discharged.
    fn take_largest(self: &Arc<Self>, frames: u64) -> Result<Vec<Extent>, OutOfFrames> {
        let mut extents = Vec::new();
        let mut remaining = frames;
        let mut order = LARGEST_ORDER;
        while let Some(largest_fitting) = remaining.checked_ilog2() {
            order = order.min(largest_fitting);
            match self.pool.take(order) {
                Some(first) => {
                    extents.push(self.block(first, order));
                    remaining -= 1 << order;
                }
                None if order > 0 => order -= 1,
                None => {
                    self.discharge(remaining);
                    return Err(OutOfFrames::Memory);
                }
            }
        }
        Ok(extents)
    }

    fn block(self: &Arc<Self>, first: Frame, order: u32) -> Extent {
        Extent {
            first,
            count: 1 << order,
            origin: Origin::Pool { order },
            account: Arc::clone(self),
        }
    }

    fn charge(&self, count: u64) -> Result<(), OutOfFrames> {
        let charged = |used: u64| used.checked_add(count).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged)
            .map(|_| ())
            .map_err(|_| OutOfFrames::Quota)
    }

    fn discharge(&self, count: u64) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(parent) = &self.parent {
            parent.discharge(self.limit);
            parent.give_kernel_bytes(self.kernel_bytes_limit());
        }
    }
}

impl Extent {
    /// The first frame.
    pub fn first(&self) -> Frame {
        self.first
    }

    /// How many frames there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let pool = &self.account.pool;
        match self.origin {
            Origin::Pool { order } => pool.give_back(self.first, order),
            Origin::Elsewhere => pool.add(self.first, self.count),
        }
        self.account.discharge(self.count);
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}+{}", self.first.0, self.count)
    }
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            OutOfFrames::Quota => "the memory quota is used up",
            OutOfFrames::Memory => "the machine has no free memory left",
        })
    }
}

#[cfg(test)]
mod tests;
