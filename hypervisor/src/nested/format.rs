//! What the engine needs to know about page-table entries.

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::Rights;

use crate::mem::{Frame, WORDS_PER_PAGE};

/// A level of the table, named after what one of its entries covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 4 KiB: the last table of a walk.
    Kib4,
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
    /// 512 GiB: the root.
    Gib512,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped.
    Absent,
    /// The next level's table is in this frame.
    Table(Frame),
    /// Memory is mapped.
    Leaf {
        /// The first of as many frames as the level's entries cover.
        frame: Frame,
        /// What the guest may do there, of read, write and execute.
        access: Rights,
    },
}

/// How a CPU wants its nested page-table entries. Tables have 512 entries of 8 bytes.
///
/// The entry 0 is [`Entry::Absent`], and no other entry that the format makes is 0.
pub trait EntryFormat: Sync {
    /// An entry that points to a table and restricts nothing.
    fn table(&self, next: Frame) -> u64;

    /// An entry that maps memory. `access` includes the right to read; `frame` is aligned to what
    /// the level covers, and `level` is at most [`EntryFormat::largest_leaf`].
    fn leaf(&self, frame: Frame, access: Rights, level: Level) -> u64;

    /// What an entry says that was made by this format for this level; bits that the CPU sets by
    /// itself are ignored.
    fn decode(&self, entry: u64, level: Level) -> Entry;

    /// The highest level at which memory can be mapped.
    fn largest_leaf(&self) -> Level;

    /// Makes each of these entries map as much as the level covers, all contiguous from `first`
    /// on. A method of the format so that filling a table takes one dynamic call.
    fn fill(&self, entries: &[AtomicU64], first: Frame, access: Rights, level: Level) {
        let mut frame = first;
        for entry in entries {
            entry.store(self.leaf(frame, access, level), Ordering::Relaxed);
            frame = frame.offset(level.pages());
        }
    }
}

impl Level {
    /// From the root down.
    pub const DOWNWARD: [Level; 4] = [Level::Gib512, Level::Gib1, Level::Mib2, Level::Kib4];

    /// The root.
    pub const ROOT: Level = Level::Gib512;

    /// Pages that one entry covers, as a shift.
    pub const fn page_shift(self) -> u32 {
        match self {
            Level::Kib4 => 0,
            Level::Mib2 => 9,
            Level::Gib1 => 18,
            Level::Gib512 => 27,
        }
    }

    /// Pages that one entry covers.
    pub const fn pages(self) -> u64 {
        1u64.wrapping_shl(self.page_shift())
    }

    /// How far into what one entry covers a page is, in pages. It is 0 for every page or frame
    /// number that is aligned to the level.
    pub const fn offset(self, page: u64) -> u64 {
        page & self.pages().wrapping_sub(1)
    }

    /// The entry that is responsible for the page.
    pub const fn index(self, page: u64) -> usize {
        page.wrapping_shr(self.page_shift()) as usize % WORDS_PER_PAGE
    }

    /// The level to which tables in this one point; `None` below the last.
    pub const fn below(self) -> Option<Level> {
        match self {
            Level::Kib4 => None,
            Level::Mib2 => Some(Level::Kib4),
            Level::Gib1 => Some(Level::Mib2),
            Level::Gib512 => Some(Level::Gib1),
        }
    }
}
