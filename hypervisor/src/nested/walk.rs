//! One walk over a range of guest pages, for counting what a change needs and for making it.
//!
//! Both take the same decisions here, so what is counted is what is used.

use core::sync::atomic::{AtomicU64, Ordering};

use super::cursor::Cursor;
use super::{Entry, EntryFormat, Level};
use crate::mem::{Frame, PhysicalMemory, Words, WORDS_PER_PAGE};

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
    /// Whether the walk goes into the tables of the last level, where nothing can expand.
    const VISITS_PAGES: bool;

    /// The entry, which is no table, gets a new value, which is none either.
    fn set(&mut self, slot: &Slot, value: u64);

    /// The entry gives way to a table that says the same.
    fn expand(&mut self, slot: &Slot) -> Option<Node>;

    /// The walk comes out of the table to which the entry points.
    fn leave(&mut self, slot: &Slot, table: Frame);
}

impl Walk {
    /// Goes through the part of the range that lies in this table.
    pub(super) fn run<W: Work>(self, node: Node, level: Level, at: &mut Cursor, work: &mut W) {
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
                let value = word.map_or(0, |word| word.load(Ordering::Relaxed));
                (word, self.format.decode(value, level))
            }
        };
        Slot { word, entry, level }
    }

    /// Deals with the part of the range that one entry covers.
    fn step<W: Work>(self, slot: &Slot, at: &mut Cursor, work: &mut W) {
        let end = at.page().saturating_add(at.span(slot.level));
        match slot.entry {
            Entry::Table(next) => {
                let node = self.physical.words(next).map(Node::Table);
                self.descend(node, slot, at, work);
                work.leave(slot, next);
            }
            Entry::Absent if at.clears() => (),
            Entry::Absent | Entry::Leaf { .. } => match at.entry(slot.level, self.format) {
                Some(value) => work.set(slot, value),
                None => {
                    let node = work.expand(slot);
                    self.descend(node, slot, at, work);
                }
            },
        }
        at.advance_to(end);
    }

    fn descend<W: Work>(self, node: Option<Node>, slot: &Slot, at: &mut Cursor, work: &mut W) {
        let visited = |level: &Level| W::VISITS_PAGES || *level != Level::Kib4;
        if let (Some(node), Some(below)) = (node, slot.level.below().filter(visited)) {
            self.run(node, below, at, work);
        }
    }
}
