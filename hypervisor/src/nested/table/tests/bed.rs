//! What the tests of the engine run it in, and the model that they compare it with.

use std::collections::BTreeSet;

use super::super::*;
use crate::mem::arena::Arena;
use crate::mem::FramePool;
use crate::nested::{NPT, NPT_1G};

/// A format that shares no bit position with a real one, maps memory at every level, and notices
/// when an entry is read at another level than it was written for.
pub(super) struct Toy;

const TOY_TABLE: u64 = 0xA0;
const TOY_LEAF: u64 = 0xB0;

fn toy_level(level: Level) -> u64 {
    u64::from(level.page_shift()) / 9
}

impl EntryFormat for Toy {
    fn table(&self, next: Frame) -> u64 {
        next.0 << 16 | TOY_TABLE
    }

    fn leaf(&self, frame: Frame, access: Rights, level: Level) -> u64 {
        assert_eq!(level.offset(frame.0), 0);
        assert!(access.contains(Rights::READ));
        frame.0 << 16 | access.bits() << 8 | TOY_LEAF | toy_level(level)
    }

    fn decode(&self, entry: u64, level: Level) -> Entry {
        let frame = Frame(entry >> 16);
        match entry & 0xF0 {
            0 => Entry::Absent,
            TOY_TABLE => Entry::Table(frame),
            _ => {
                assert_eq!(entry & 0xF, toy_level(level));
                let access = Rights::from_bits(entry >> 8 & 7).unwrap();
                Entry::Leaf { frame, access }
            }
        }
    }

    fn largest_leaf(&self) -> Level {
        Level::Gib512
    }
}

pub(super) static FORMATS: [&dyn EntryFormat; 3] = [&NPT, &NPT_1G, &Toy];
pub(super) const FRAMES: u64 = 1200;

/// A table, what it takes from, and what was done to it.
pub(super) struct Bed {
    pub(super) pool: Arc<FramePool>,
    pub(super) account: Arc<Account>,
    pub(super) table: NestedTable,
    pub(super) changes: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) page: u64,
    pub(super) pages: u64,
    /// The first frame and the access; `None` for an unmap.
    pub(super) memory: Option<(u64, Rights)>,
}

/// Frames left out between the two runs of a mapping.
pub(super) const SEAM_JUMP: u64 = 1 << 18;

impl Change {
    /// Pages in the first run; aligned to nothing in particular.
    pub(super) fn seam(&self) -> u64 {
        self.pages / 3
    }
}

impl Bed {
    pub(super) fn new(format: &'static dyn EntryFormat) -> Self {
        static ARENA: spin::Mutex<Vec<&'static Arena>> = spin::Mutex::new(Vec::new());
        // Arenas are used again by later beds of the same thread; parallel tests take others.
        let arena = ARENA
            .lock()
            .pop()
            .unwrap_or_else(|| Arena::leak(77, FRAMES));
        let pool = arena.pool();
        let account = Account::new(Arc::clone(&pool), FRAMES);
        let table = NestedTable::new(&account, arena, format).unwrap();
        Bed {
            pool,
            account,
            table,
            changes: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<(), OutOfFrames> {
        let address = GuestPhysical(change.page << PAGE_SHIFT);
        match change.memory {
            Some((frame, access)) => {
                let seam = change.seam();
                let runs = [
                    Run {
                        frame: Frame(frame),
                        pages: seam,
                    },
                    Run {
                        frame: Frame(frame + seam + SEAM_JUMP),
                        pages: change.pages - seam,
                    },
                ];
                self.table.map(address, &runs, access)?;
            }
            None => self.table.unmap(address, change.pages)?,
        }
        self.changes.push(change.clone());
        Ok(())
    }

    pub(super) fn expected(&self, page: u64) -> Option<(Frame, Rights)> {
        let covers = |change: &&Change| (change.page..change.page + change.pages).contains(&page);
        let change = self.changes.iter().rev().find(covers)?;
        let (frame, access) = change.memory?;
        let offset = page - change.page;
        let jump = if offset < change.seam() { 0 } else { SEAM_JUMP };
        Some((Frame(frame + offset + jump), access | Rights::READ))
    }

    pub(super) fn found(&self, page: u64) -> Option<(Frame, Rights)> {
        let found = self
            .table
            .translate(GuestPhysical(page << PAGE_SHIFT | 0xABC))?;
        Some((found.frame, found.access))
    }

    /// Every entry that is not absent, with where it is.
    pub(super) fn entries(&self) -> Vec<(Level, u64, Entry)> {
        let mut found = Vec::new();
        self.collect(self.table.root(), Level::ROOT, 0, &mut found);
        found
    }

    fn collect(&self, table: Frame, level: Level, base: u64, found: &mut Vec<(Level, u64, Entry)>) {
        let Walk { physical, format } = self.table.tables.walk;
        let words = physical.words(table).unwrap();
        for (index, word) in words.iter().enumerate() {
            let page = base + index as u64 * level.pages();
            let entry = format.decode(word.load(Ordering::Relaxed), level);
            if entry != Entry::Absent {
                found.push((level, page, entry));
            }
            if let Entry::Table(next) = entry {
                self.collect(next, level.below().unwrap(), page, found);
            }
        }
    }

    /// Every entry that maps memory, with where it is.
    fn leaves(&self) -> Vec<(Level, u64, Entry)> {
        let mut entries = self.entries();
        entries.retain(|(_, _, entry)| matches!(entry, Entry::Leaf { .. }));
        entries
    }

    /// Every CPU has flushed.
    pub(super) fn flush(&mut self) {
        drop(self.table.take_stale());
    }

    /// That each table is linked once, owned and paid for, when every CPU has flushed.
    pub(super) fn check_structure(&mut self) {
        self.flush();
        let entries = self.entries();
        let linked: Vec<Frame> = entries
            .iter()
            .filter_map(|(_, _, entry)| match entry {
                Entry::Table(next) => Some(*next),
                _ => None,
            })
            .collect();
        let distinct: BTreeSet<Frame> = linked.iter().copied().collect();
        assert_eq!(distinct.len(), linked.len());
        assert!(distinct.iter().eq(self.table.tables.frames()));
        assert_eq!(self.account.used(), linked.len() as u64 + 1);
    }

    pub(super) fn check_translations(&self) {
        let edges = self.changes.iter().flat_map(|change| {
            let end = change.page + change.pages;
            [
                change.page.saturating_sub(1),
                change.page,
                change.page + change.seam(),
                change.page + change.pages / 2,
                end - 1,
                end,
            ]
        });
        for page in edges {
            assert_eq!(self.found(page), self.expected(page), "page {page:#x}");
        }
    }

    /// Leaves the account no more than so many frames until the result is dropped.
    pub(super) fn starve(&self, spare: u64) -> Extent {
        let ballast = FRAMES - self.account.used() - spare;
        self.account.adopt(Frame(1 << 30), ballast).unwrap()
    }

    /// Tries a change with every quota that is too small, then makes it.
    pub(super) fn apply_starved(&mut self, change: &Change) {
        let before = self.leaves();
        for spare in 0.. {
            self.flush();
            let used = self.account.used();
            let ballast = self.starve(spare);
            let outcome = self.apply(change);
            drop(ballast);
            self.flush();
            if outcome.is_ok() {
                break;
            }
            assert!(self.account.used() <= used);
            assert_eq!(self.leaves(), before);
            self.check_structure();
        }
    }
}
