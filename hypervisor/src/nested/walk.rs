//! One walk over a range of guest pages, for counting what a change needs and for making it.
//!
//! Both take the same decisions here, so what is counted is what is used.

use core::sync::atomic::{AtomicU64, Ordering};

use super::cursor::Cursor;
use super::{Entry, EntryFormat, Level};
use crate::mem::{PhysicalMemory, Words, WORDS_PER_PAGE};

/// What a walk needs to read tables.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub(super) physical: &'static dyn PhysicalMemory,
    pub(super) format: &'static dyn EntryFormat,
}

/// A table that the walk goes through.
#[derive(Clone, Copy)]
pub(super) enum Node {
    /// It is there.
    Table(&'static Words),
    /// It would be made of an entry that says this.
    Planned(Entry),
}

/// An entry that the walk comes to.
pub(super) struct Slot {
    /// Where it is, if its table is there.
    pub(super) word: Option<&'static AtomicU64>,
    pub(super) entry: Entry,
    pub(super) level: Level,
}

/// What is done on the way.
pub(super) trait Work {
    /// The entry gets a new value, which is no table. If it is a table, that one and those below
    /// are not needed any more.
    fn set(&mut self, slot: &Slot, value: u64);

    /// The entry, which is no table, gives way to a table that says the same.
    fn expand(&mut self, slot: &Slot) -> Option<Node>;

    /// The cursor is in this table of the last level, where nothing can expand.
    fn write_pages(&mut self, table: Node, at: &mut Cursor);
}

impl Walk {
    /// What an entry of a table says.
    pub(super) fn read(self, word: &AtomicU64, level: Level) -> Entry {
        self.format.decode(word.load(Ordering::Relaxed), level)
    }

    /// The last-level table for a page, if there is one.
    pub(super) fn last_table(self, root: &'static Words, page: u64) -> Option<&'static Words> {
        let mut words = root;
        for level in Level::DOWNWARD {
            if level == Level::Kib4 {
                break;
            }
            let Entry::Table(next) = self.read(words.get(level.index(page))?, level) else {
                return None;
            };
            words = self.physical.words(next)?;
        }
        Some(words)
    }

    /// Goes through the part of the range that lies in this table.
    pub(super) fn run<W: Work>(self, node: Node, level: Level, at: &mut Cursor, work: &mut W) {
        if level == Level::Kib4 {
            work.write_pages(node, at);
            return;
        }
        for index in level.index(at.page())..WORDS_PER_PAGE {
            if at.is_done() {
                break;
            }
            self.step(&self.slot(node, index, level), at, work);
        }
    }

    fn slot(self, node: Node, index: usize, level: Level) -> Slot {
        let (word, entry) = match node {
            Node::Planned(entry) => (None, entry),
            Node::Table(words) => {
                let word = words.get(index);
                let entry = word.map_or(Entry::Absent, |word| self.read(word, level));
                (word, entry)
            }
        };
        Slot { word, entry, level }
    }

    /// Deals with the part of the range that one entry covers.
    fn step<W: Work>(self, slot: &Slot, at: &mut Cursor, work: &mut W) {
        let end = at.page().saturating_add(at.span(slot.level));
        let value = at.entry(slot.level, self.format);
        match (slot.entry, value) {
            (Entry::Absent, _) if at.clears() => (),
            // A table that has become empty stays: what is unmapped is often mapped again soon.
            (Entry::Table(next), value) if at.clears() || value.is_none() => {
                let node = self.physical.words(next).map(Node::Table);
                self.descend(node, slot.level, at, work);
            }
            (_, Some(value)) => work.set(slot, value),
            (_, None) => {
                let node = work.expand(slot);
                self.descend(node, slot.level, at, work);
            }
        }
        at.advance_to(end);
    }

    fn descend<W: Work>(self, node: Option<Node>, from: Level, at: &mut Cursor, work: &mut W) {
        if let (Some(node), Some(below)) = (node, from.below()) {
            self.run(node, below, at, work);
        }
    }
}
