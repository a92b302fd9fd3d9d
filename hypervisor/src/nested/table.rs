//! The page-table engine.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use nuncio_abi::Rights;

use super::cursor::Cursor;
use super::walk::{Node, Slot, Walk, Work};
use super::{Entry, EntryFormat, Level, Run};
use crate::mem::{
    Account, Extent, Frame, GuestPhysical, OutOfFrames, PhysicalMemory, Words, PAGE_SHIFT,
};

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
/// The frames of the tables are charged to an account and go back to it. They go back at once,
/// so whoever takes something out of the table flushes the CPU's cached translations before the
/// guest runs again. Dropping the table takes everything out of it.
pub struct NestedTable {
    account: Arc<Account>,
    walk: Walk,
    root: Extent,
    root_words: &'static Words,
    /// The tables below the root.
    tables: BTreeMap<Frame, Extent>,
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
            walk: Walk { physical, format },
            root,
            root_words,
            tables: BTreeMap::new(),
        })
    }

    /// The frame that the CPU is told.
    pub fn root(&self) -> Frame {
        self.root.first()
    }

    /// What the guest finds at an address.
    #[inline]
    pub fn translate(&self, address: GuestPhysical) -> Option<Translation> {
        if address >= ADDRESS_LIMIT {
            return None;
        }
        let Walk { physical, format } = self.walk;
        let page = address.0 >> PAGE_SHIFT;
        let mut words = self.root_words;
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
    /// nothing changes.
    pub fn map(
        &mut self,
        address: GuestPhysical,
        runs: &[Run],
        access: Rights,
    ) -> Result<(), OutOfFrames> {
        debug_assert!(address.is_page_aligned());
        let page = address.0 >> PAGE_SHIFT;
        self.change(Cursor::mapping(page, runs, access, PAGE_LIMIT))
    }

    /// Takes out whatever is mapped in a range of pages, and the tables that become empty.
    ///
    /// It needs frames if a large page goes only in part; if there are too few, nothing changes.
    pub fn unmap(&mut self, address: GuestPhysical, pages: u64) -> Result<(), OutOfFrames> {
        debug_assert!(address.is_page_aligned());
        let page = address.0 >> PAGE_SHIFT;
        self.change(Cursor::clearing(page, pages, PAGE_LIMIT))
    }

    fn change(&mut self, mut at: Cursor) -> Result<(), OutOfFrames> {
        let walk = self.walk;
        let root = Node::Table(self.root_words);
        let mut count = Count { tables: 0 };
        walk.run(root, Level::ROOT, &mut at.clone(), &mut count);
        let mut edit = Edit {
            walk,
            spare: take_frames(&self.account, count.tables)?,
            tables: &mut self.tables,
            prunes: at.clears(),
        };
        walk.run(root, Level::ROOT, &mut at, &mut edit);
        Ok(())
    }
}

fn take_frames(account: &Arc<Account>, count: u64) -> Result<Vec<Extent>, OutOfFrames> {
    (0..count).map(|_| account.allocate(0)).collect()
}

/// Counts the tables that a change needs.
struct Count {
    tables: u64,
}

impl Work for Count {
    const VISITS_PAGES: bool = false;

    fn set(&mut self, _: &Slot, _: u64) {}

    fn expand(&mut self, slot: &Slot) -> Option<Node> {
        self.tables = self.tables.saturating_add(1);
        Some(Node::Planned(slot.entry))
    }

    fn leave(&mut self, _: &Slot, _: Frame) {}
}

/// Makes a change.
struct Edit<'a> {
    walk: Walk,
    spare: Vec<Extent>,
    tables: &'a mut BTreeMap<Frame, Extent>,
    /// Whether tables can become empty.
    prunes: bool,
}

impl Work for Edit<'_> {
    const VISITS_PAGES: bool = true;

    fn set(&mut self, slot: &Slot, value: u64) {
        if let Some(word) = slot.word {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn expand(&mut self, slot: &Slot) -> Option<Node> {
        let extent = self.spare.pop()?;
        let words = self.walk.physical.words(extent.first())?;
        if let (Entry::Leaf { frame, access }, Some(level)) = (slot.entry, slot.level.below()) {
            for (page, word) in (0..).step_by(level.pages() as usize).zip(words) {
                let leaf = self.walk.format.leaf(frame.offset(page), access, level);
                word.store(leaf, Ordering::Relaxed);
            }
        }
        // Release: a CPU that walks the table now must not see the link before the entries.
        let link = self.walk.format.table(extent.first());
        slot.word?.store(link, Ordering::Release);
        self.tables.insert(extent.first(), extent);
        Some(Node::Table(words))
    }

    fn leave(&mut self, slot: &Slot, table: Frame) {
        let is_empty = |words: &Words| words.iter().all(|word| word.load(Ordering::Relaxed) == 0);
        if self.prunes && self.walk.physical.words(table).is_some_and(is_empty) {
            self.set(slot, 0);
            self.tables.remove(&table);
        }
    }
}

#[cfg(test)]
mod tests;
