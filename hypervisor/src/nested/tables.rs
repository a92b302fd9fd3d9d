//! The tables of one space: where they are, and how their frames go back.

use alloc::collections::BTreeMap;
use core::sync::atomic::Ordering;

use super::walk::{Node, Walk};
use super::{Entry, Level};
use crate::mem::{Extent, Frame, Words};

/// The tables of one space, linked from a root.
pub(super) struct Tables {
    pub(super) walk: Walk,
    pub(super) root: &'static Words,
    /// Those below the root.
    owned: BTreeMap<Frame, Extent>,
    /// The last-level table that was asked for last: changes often come close to each other.
    recent: Option<Recent>,
    /// Whether the CPU may know something of the tables that is not so any more.
    pub(super) stale: bool,
}

struct Recent {
    /// The first page that the table is responsible for.
    page: u64,
    words: &'static Words,
}

impl Tables {
    /// The root alone.
    pub(super) fn new(walk: Walk, root: &'static Words) -> Self {
        Tables {
            walk,
            root,
            owned: BTreeMap::new(),
            recent: None,
            stale: false,
        }
    }

    /// The root as the start of a walk.
    pub(super) fn top(&self) -> Node {
        Node::Table(self.root)
    }

    /// The last-level table for a page, if there is one.
    #[inline]
    pub(super) fn last_table(&mut self, page: u64) -> Option<&'static Words> {
        let page = page.saturating_sub(Level::Mib2.offset(page));
        if let Some(recent) = self.recent.as_ref().filter(|recent| recent.page == page) {
            return Some(recent.words);
        }
        self.look_up_last_table(page)
    }

    #[inline(never)]
    fn look_up_last_table(&mut self, page: u64) -> Option<&'static Words> {
        let words = self.walk.last_table(self.root, page)?;
        self.recent = Some(Recent { page, words });
        Some(words)
    }

    /// Takes a frame that is linked now.
    pub(super) fn add(&mut self, extent: Extent) {
        self.owned.insert(extent.first(), extent);
    }

    /// The frames of the tables below the root.
    #[cfg(test)]
    pub(super) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.owned.keys()
    }

    /// Gives back a table of this level, which is not linked any more, and those below it.
    pub(super) fn release(&mut self, table: Frame, level: Level) {
        if let (Some(below), Some(words)) = (level.below(), self.walk.physical.words(table)) {
            for word in words {
                if let Entry::Table(next) = self.walk.read(word, level) {
                    self.release(next, below);
                }
            }
        }
        self.give_back(table);
    }

    /// Takes everything out of the root. The caller lets go of the tables below it when whoever may have
    /// cached them has been told.
    pub(super) fn clear(&mut self) -> BTreeMap<Frame, Extent> {
        for word in self.root {
            word.store(0, Ordering::Relaxed);
        }
        self.recent = None;
        self.stale = true;
        core::mem::take(&mut self.owned)
    }

    /// Gives back every table in which nothing is mapped; returns whether there were any. It
    /// looks at every table of the space.
    pub(super) fn prune(&mut self) -> bool {
        let before = self.owned.len();
        self.prune_below(self.root, Level::ROOT);
        self.owned.len() < before
    }

    /// Whether the table is empty after everything below it has been pruned.
    fn prune_below(&mut self, words: &'static Words, level: Level) -> bool {
        let Some(below) = level.below() else {
            return words.iter().all(|word| word.load(Ordering::Relaxed) == 0);
        };
        let mut is_empty = true;
        for word in words {
            match self.walk.read(word, level) {
                Entry::Absent => {}
                Entry::Table(next) if self.prune_table(next, below) => {
                    word.store(0, Ordering::Relaxed);
                    self.give_back(next);
                }
                Entry::Table(_) | Entry::Leaf { .. } => is_empty = false,
            }
        }
        is_empty
    }

    fn prune_table(&mut self, table: Frame, level: Level) -> bool {
        let words = self.walk.physical.words(table);
        words.is_some_and(|words| self.prune_below(words, level))
    }

    /// The only way for a table to go: nobody may know its frame afterwards.
    fn give_back(&mut self, table: Frame) {
        self.owned.remove(&table);
        self.recent = None;
        self.stale = true;
    }
}
