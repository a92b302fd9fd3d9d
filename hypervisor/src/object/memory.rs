//! Memory objects: pages that can be mapped, in as few contiguous pieces as could be had.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::slice;

use crate::mem::{
    Account, Extent, Frame, KernelCharge, OutOfFrames, PhysicalMemory, Words, PAGE_BYTES,
};
use crate::nested::Run;

use super::lending::{Lending, LENDING_BYTES};
use super::Wake;

/// Pages that can be mapped; they go back to their pool with the last user.
pub struct Memory {
    extents: Vec<Extent>,
    /// For each extent, the number of pages before it.
    offsets: Vec<u64>,
    pages: u64,
    /// Where it is mapped, if it can be taken back.
    pub(super) lending: Option<Lending>,
    _charge: Option<KernelCharge>,
}

impl Memory {
    /// As [`Memory::allocate`], with the lists of its pieces and its mappings paid too, so that it
    /// can be taken back.
    ///
    /// # Errors
    /// When the account or the machine has not so much left.
    pub fn create(account: &Arc<Account>, pages: u64) -> Result<Self, OutOfFrames> {
        let mut memory = Self::allocate(account, pages)?;
        let pieces = memory.extents.len();
        memory.lending = Some(Lending::new());
        memory._charge = Some(account.charge_kernel(&[
            size_of::<Self>(),
            pieces.saturating_mul(size_of::<Extent>()),
            pieces.saturating_mul(size_of::<u64>()),
            LENDING_BYTES,
        ])?);
        Ok(memory)
    }

    /// Zeroed memory of so many pages, paid by `account`.
    ///
    /// # Errors
    /// When the account or the machine has not so many frames left.
    pub fn allocate(account: &Arc<Account>, pages: u64) -> Result<Self, OutOfFrames> {
        Ok(Self::from_extents(account.allocate_largest(pages)?))
    }

    /// Memory made of these extents, in this order.
    pub fn from_extents(extents: Vec<Extent>) -> Self {
        let mut pages = 0u64;
        let offsets = extents
            .iter()
            .map(|extent| {
                let before = pages;
                pages = pages.saturating_add(extent.count());
                before
            })
            .collect();
        Memory {
            extents,
            offsets,
            pages,
            lending: None,
            _charge: None,
        }
    }

    /// Takes it out of all spaces, and lets nobody map it again.
    pub(super) fn revoke(self: &Arc<Self>, wake: &mut dyn FnMut(Wake)) {
        if let Some(lending) = &self.lending {
            lending.revoke(self, wake);
        }
    }

    /// Pages in the object.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Bytes in the object.
    pub const fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE_BYTES)
    }

    /// The frame of a page; `None` past the end.
    pub fn frame(&self, page: u64) -> Option<Frame> {
        let (extents, inside) = self.extents_from(page);
        let extent = extents.first()?;
        (inside < extent.count()).then(|| extent.first().offset(inside))
    }

    /// The first page, for sharing it with the hypervisor.
    ///
    /// # Errors
    /// If that is no guest memory.
    pub fn first_page(
        &self,
        physical: &'static dyn PhysicalMemory,
    ) -> Result<&'static Words, OutOfFrames> {
        self.frame(0)
            .and_then(|frame| physical.words(frame))
            .ok_or(OutOfFrames::Memory)
    }

    /// The contiguous pieces behind a range of pages; `None` if it leaves the object.
    pub fn runs(&self, offset: u64, pages: u64) -> Option<Runs> {
        offset.checked_add(pages).filter(|end| *end <= self.pages)?;
        let (extents, inside) = self.extents_from(offset);
        match extents.first() {
            Some(extent) if extent.count().saturating_sub(inside) >= pages => {
                Some(Runs::One(Run {
                    frame: extent.first().offset(inside),
                    pages,
                }))
            }
            _ => Some(Runs::Several(several_runs(extents, inside, pages))),
        }
    }

    /// The extents from the one on that holds the page, and how far in that one the page is.
    fn extents_from(&self, page: u64) -> (&[Extent], u64) {
        let behind = self.offsets.partition_point(|start| *start <= page);
        let index = behind.saturating_sub(1);
        let start = self.offsets.get(index).copied().unwrap_or_default();
        let extents = self.extents.get(index..).unwrap_or_default();
        (extents, page.saturating_sub(start))
    }
}

/// The pieces of so many pages that begin `inside` pages into the first extent.
fn several_runs(extents: &[Extent], mut inside: u64, mut pages: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    for extent in extents {
        let available = extent.count().saturating_sub(inside).min(pages);
        runs.push(Run {
            frame: extent.first().offset(inside),
            pages: available,
        });
        inside = 0;
        pages = pages.saturating_sub(available);
        if pages == 0 {
            break;
        }
    }
    runs
}

/// Contiguous pieces of a memory object, in order. Most ranges are a single one, which takes no
/// allocation.
#[derive(Debug)]
pub enum Runs {
    /// A single piece.
    One(Run),
    /// Any other number of pieces.
    Several(Vec<Run>),
}

impl Default for Runs {
    fn default() -> Self {
        Runs::Several(Vec::new())
    }
}

impl Deref for Runs {
    type Target = [Run];

    fn deref(&self) -> &[Run] {
        match self {
            Runs::One(run) => slice::from_ref(run),
            Runs::Several(runs) => runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use proptest::prelude::*;

    proptest! {
        /// The runs of any range are its pages in order, whatever the pieces behind them.
        #[test]
        fn runs_are_the_pages_in_order(orders in proptest::collection::vec(0u32..4, 1..5), offset in 0u64..40, pages in 0u64..40) {
            let account = Account::new(Arena::leak(64, 64).pool(), 64);
            let extents: Vec<_> = orders.iter().map(|order| account.allocate(*order).unwrap()).collect();
            let flat: Vec<Frame> = extents
                .iter()
                .flat_map(|extent| (0..extent.count()).map(|index| extent.first().offset(index)))
                .collect();
            let memory = Memory::from_extents(extents);
            let runs = memory.runs(offset, pages);
            let expected = flat.get(offset as usize..(offset + pages) as usize);
            let actual: Option<Vec<Frame>> = runs.map(|runs| {
                runs.iter().flat_map(|run| (0..run.pages).map(|index| run.frame.offset(index))).collect()
            });
            prop_assert_eq!(actual.as_deref(), expected);
            prop_assert_eq!(memory.frame(offset), flat.get(offset as usize).copied());
        }
    }

    #[test]
    fn a_range_in_one_piece_is_one_run() {
        let account = Account::new(Arena::leak(64, 64).pool(), 64);
        let extents = [3, 0, 2].map(|order| account.allocate(order).unwrap());
        let memory = Memory::from_extents(Vec::from(extents));
        for (offset, pages) in [(0, 8), (3, 2), (8, 1), (9, 4), (12, 1)] {
            let runs = memory.runs(offset, pages).unwrap();
            assert!(matches!(runs, Runs::One(_)), "{runs:?}");
        }
        assert_eq!(memory.runs(7, 3).unwrap().len(), 3);
    }

    #[test]
    fn ranges_that_overflow_are_outside() {
        let account = Account::new(Arena::leak(64, 4).pool(), 4);
        let memory = Memory::allocate(&account, 2).unwrap();
        assert!(memory.runs(1, u64::MAX).is_none());
        assert!(memory.runs(u64::MAX, 1).is_none());
        assert!(memory.runs(2, 0).is_some());
    }
}
