//! The page-table engine.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::Rights;

use super::cursor::{clear, Cursor};
use super::tables::Tables;
use super::walk::{Node, Slot, Walk, Work};
use super::{Entry, EntryFormat, Level, Run};
use crate::mem::{Account, Extent, Frame, GuestPhysical, OutOfFrames, PhysicalMemory, PAGE_SHIFT};

/// The first guest-physical address that cannot be mapped: four levels translate 48 bits.
pub const ADDRESS_LIMIT: GuestPhysical = GuestPhysical(1 << 48);

const PAGE_LIMIT: u64 = ADDRESS_LIMIT.0 >> PAGE_SHIFT;

/// Where a page of the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The 4 KiB frame that holds the address.
    pub frame: Frame,
    /// What the guest may do there.
    pub access: Rights,
    /// The level of the entry, and so the size of the page.
    pub level: Level,
}

/// One guest-physical address space, as tables that the CPU walks.
///
/// The frames of the tables are charged to an account. A table that has become empty stays, for
/// what is mapped there next; its frame goes back when the `NestedTable` is dropped, when a change
/// finds too few frames for the tables that it needs (then all empty tables of the space go), or
/// when a large page takes the place of the table.
///
/// Frames go back at once, and what the CPU has cached of the tables may be wrong after any
/// change: whoever makes one asks [`NestedTable::take_stale`] afterwards, whether or not the
/// change has failed, and flushes before the guest runs again.
pub struct NestedTable {
    account: Arc<Account>,
    root: Extent,
    tables: Tables,
}

/// Tables of which the CPU may still know; they go back when this is dropped.
pub struct Unlinked {
    _tables: BTreeMap<Frame, Extent>,
}

impl NestedTable {
    /// A table in which nothing is mapped. It takes one frame.
    pub fn new(
        account: &Arc<Account>,
        physical: &'static dyn PhysicalMemory,
        format: &'static dyn EntryFormat,
    ) -> Result<Self, OutOfFrames> {
        let root = account.allocate(0)?;
        let root_words = physical.words(root.first()).ok_or(OutOfFrames::Memory)?;
        Ok(NestedTable {
            account: Arc::clone(account),
            root,
            tables: Tables::new(Walk { physical, format }, root_words),
        })
    }

    /// The frame that the CPU is told.
    pub fn root(&self) -> Frame {
        self.root.first()
    }

    /// How its entries look.
    pub fn format(&self) -> &'static dyn EntryFormat {
        self.tables.walk.format
    }

    /// What the guest finds at an address.
    #[inline]
    pub fn translate(&self, address: GuestPhysical) -> Option<Translation> {
        if address >= ADDRESS_LIMIT {
            return None;
        }
        let Walk { physical, format } = self.tables.walk;
        let page = address.0 >> PAGE_SHIFT;
        let mut words = self.tables.root;
        for level in Level::DOWNWARD {
            let value = words.get(level.index(page))?.load(Ordering::Relaxed);
            match format.decode(value, level) {
                Entry::Absent => return None,
                Entry::Table(next) => words = physical.words(next)?,
                Entry::Leaf { frame, access } => {
                    let frame = frame.offset(level.offset(page));
                    return Some(Translation {
                        frame,
                        access,
                        level,
                    });
                }
            }
        }
        None
    }

    /// Maps runs of frames one after the other from a page on, with the largest pages that fit;
    /// they are readable whether or not `access` says so.
    ///
    /// The range ends below [`ADDRESS_LIMIT`] and nothing is mapped in it. (Pages past the limit
    /// are left out; what was mapped is replaced.) If there are too few frames for the tables,
    /// what is mapped stays the same.
    #[inline]
    pub fn map(
        &mut self,
        address: GuestPhysical,
        runs: &[Run],
        access: Rights,
    ) -> Result<(), OutOfFrames> {
        debug_assert!(address.is_page_aligned());
        let page = address.0 >> PAGE_SHIFT;
        let access = access.intersection(Rights::ACCESS) | Rights::READ;
        if let [run] = runs {
            if let Some(entries) = self.entries(page, run.pages) {
                let Walk { format, .. } = self.tables.walk;
                format.fill(entries, run.frame, access, Level::Kib4);
                return Ok(());
            }
        }
        self.change(Cursor::mapping(page, runs, access, PAGE_LIMIT))
    }

    /// Takes out whatever is mapped in a range of pages.
    ///
    /// It needs frames if a large page goes only in part; if there are too few, what is mapped
    /// stays the same.
    #[inline]
    pub fn unmap(&mut self, address: GuestPhysical, pages: u64) -> Result<(), OutOfFrames> {
        debug_assert!(address.is_page_aligned());
        let page = address.0 >> PAGE_SHIFT;
        self.tables.stale = true;
        match self.entries(page, pages) {
            Some(entries) => {
                clear(entries);
                Ok(())
            }
            None => self.change(Cursor::clearing(page, pages, PAGE_LIMIT)),
        }
    }

    /// Takes out everything that is mapped. What is returned are the tables below the root: they are not
    /// linked any more, and go back when it is dropped.
    #[must_use]
    pub fn clear(&mut self) -> Unlinked {
        Unlinked {
            _tables: self.tables.clear(),
        }
    }

    /// Whether what the CPU has cached may have become wrong since this was asked last.
    #[must_use]
    pub fn take_stale(&mut self) -> bool {
        mem::take(&mut self.tables.stale)
    }

    /// The entries of a range that is a part of one last-level table, if that table is there: to
    /// change them takes no walk and no frames.
    #[inline]
    fn entries(&mut self, page: u64, pages: u64) -> Option<&'static [AtomicU64]> {
        if page >= PAGE_LIMIT || pages >= Level::Mib2.pages() {
            return None;
        }
        let first = Level::Kib4.index(page);
        let table = self.tables.last_table(page)?;
        table.get(first..first.saturating_add(pages as usize))
    }

    #[inline(never)]
    fn change(&mut self, mut at: Cursor) -> Result<(), OutOfFrames> {
        let walk = self.tables.walk;
        let spare = self.take_spare(&at).or_else(|shortage| {
            if self.tables.prune() {
                self.take_spare(&at)
            } else {
                Err(shortage)
            }
        })?;
        let top = self.tables.top();
        let tables = &mut self.tables;
        walk.run(top, Level::ROOT, &mut at, &mut Edit { spare, tables });
        Ok(())
    }

    /// The frames for the tables that a change needs.
    fn take_spare(&self, at: &Cursor) -> Result<Vec<Extent>, OutOfFrames> {
        let mut count = Count { tables: 0 };
        let Tables { walk, .. } = self.tables;
        walk.run(self.tables.top(), Level::ROOT, &mut at.clone(), &mut count);
        (0..count.tables)
            .map(|_| self.account.allocate(0))
            .collect()
    }
}

/// Counts the tables that a change needs.
struct Count {
    tables: u64,
}

impl Work for Count {
    fn set(&mut self, _: &Slot, _: u64) {}

    fn expand(&mut self, slot: &Slot) -> Option<Node> {
        self.tables = self.tables.saturating_add(1);
        Some(Node::Planned(slot.entry))
    }

    fn write_pages(&mut self, _: Node, _: &mut Cursor) {}
}

/// Makes a change.
struct Edit<'a> {
    spare: Vec<Extent>,
    tables: &'a mut Tables,
}

impl Work for Edit<'_> {
    fn set(&mut self, slot: &Slot, value: u64) {
        if let Some(word) = slot.word {
            word.store(value, Ordering::Relaxed);
        }
        if let (Entry::Table(table), Some(level)) = (slot.entry, slot.level.below()) {
            self.tables.release(table, level);
        }
    }

    fn expand(&mut self, slot: &Slot) -> Option<Node> {
        let Walk { physical, format } = self.tables.walk;
        let extent = self.spare.pop()?;
        let words = physical.words(extent.first())?;
        if let (Entry::Leaf { frame, access }, Some(level)) = (slot.entry, slot.level.below()) {
            format.fill(words, frame, access, level);
        }
        // Release: a CPU that walks the table now must not see the link before the entries.
        let link = format.table(extent.first());
        slot.word?.store(link, Ordering::Release);
        self.tables.add(extent);
        Some(Node::Table(words))
    }

    fn write_pages(&mut self, table: Node, at: &mut Cursor) {
        if let Node::Table(words) = table {
            at.write_pages(words, self.tables.walk.format);
        }
    }
}

#[cfg(test)]
mod tests;
