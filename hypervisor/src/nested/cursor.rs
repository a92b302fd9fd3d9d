//! A position in a range of guest pages and in what they are to hold.

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::Rights;

use super::{EntryFormat, Level};
use crate::mem::{Frame, Words};

/// Contiguous frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first frame.
    pub frame: Frame,
    /// How many.
    pub pages: u64,
}

/// The part of a range of guest pages that is still to be changed.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    page: u64,
    left: u64,
    content: Content<'a>,
}

/// What the pages will hold.
#[derive(Clone)]
enum Content<'a> {
    Nothing,
    Memory {
        /// What is left of the run that the current page is in.
        run: Run,
        /// The runs after it.
        rest: &'a [Run],
        access: Rights,
    },
}

impl<'a> Cursor<'a> {
    /// A range that will hold nothing.
    pub(super) fn clearing(page: u64, pages: u64, page_limit: u64) -> Self {
        Cursor {
            page,
            left: pages.min(page_limit.saturating_sub(page)),
            content: Content::Nothing,
        }
    }

    /// A range that will hold these runs one after the other.
    pub(super) fn mapping(page: u64, runs: &'a [Run], access: Rights, page_limit: u64) -> Self {
        let pages = runs
            .iter()
            .fold(0u64, |sum, run| sum.saturating_add(run.pages));
        let nowhere = Run {
            frame: Frame(0),
            pages: 0,
        };
        let mut cursor = Cursor {
            content: Content::Memory {
                run: nowhere,
                rest: runs,
                access,
            },
            ..Cursor::clearing(page, pages, page_limit)
        };
        cursor.skip_frames(0);
        cursor
    }

    /// Whether the range will hold nothing.
    pub(super) fn clears(&self) -> bool {
        matches!(self.content, Content::Nothing)
    }

    /// Whether the whole range has been passed.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The page that it stands at.
    pub(super) fn page(&self) -> u64 {
        self.page
    }

    /// Pages of the range that one entry of this level covers, from the current page on.
    pub(super) fn span(&self, level: Level) -> u64 {
        let covered = level.pages().saturating_sub(level.offset(self.page));
        covered.min(self.left)
    }

    /// The one entry of this level by which the range gets its content; `None` if it takes a
    /// table with several smaller ones.
    pub(super) fn entry(&self, level: Level, format: &dyn EntryFormat) -> Option<u64> {
        if self.span(level) != level.pages() {
            return None;
        }
        match &self.content {
            Content::Nothing => Some(0),
            Content::Memory { run, access, .. } => {
                let fits = level <= format.largest_leaf()
                    && level.offset(run.frame.0) == 0
                    && run.pages >= level.pages();
                fits.then(|| format.leaf(run.frame, *access, level))
            }
        }
    }

    /// Writes what is left of the range in the last-level table that it stands in, and moves on
    /// past it.
    pub(super) fn write_pages(&mut self, table: &Words, format: &dyn EntryFormat) {
        let index = Level::Kib4.index(self.page);
        let end = index.saturating_add(self.span(Level::Mib2) as usize);
        let mut entries = table.get(index..end).unwrap_or_default();
        while !entries.is_empty() {
            let next = self.frames_ahead().min(entries.len() as u64) as usize;
            let Some((now, later)) = entries.split_at_checked(next).filter(|_| next > 0) else {
                break;
            };
            match &self.content {
                Content::Nothing => clear(now),
                Content::Memory { run, access, .. } => {
                    format.fill(now, run.frame, *access, Level::Kib4);
                }
            }
            self.advance_to(self.page.saturating_add(next as u64));
            entries = later;
        }
    }

    /// Moves on to a page, unless    /// Moves on to a page, unless it is there already.
    pub(super) fn advance_to(&mut self, page: u64) {
        let pages = page.saturating_sub(self.page);
        self.page = self.page.saturating_add(pages);
        self.left = self.left.saturating_sub(pages);
        self.skip_frames(pages);
    }

    /// Pages from here on that get their content from contiguous frames, or that get none.
    fn frames_ahead(&self) -> u64 {
        match &self.content {
            Content::Nothing => self.left,
            Content::Memory { run, .. } => run.pages,
        }
    }

    /// Moves on in the runs, past their ends where it must.
    fn skip_frames(&mut self, mut pages: u64) {
        let Content::Memory { run, rest, .. } = &mut self.content else {
            return;
        };
        while run.pages <= pages {
            pages = pages.saturating_sub(run.pages);
            let Some((next, others)) = rest.split_first() else {
                break;
            };
            (*run, *rest) = (*next, others);
        }
        run.frame = run.frame.offset(pages);
        run.pages = run.pages.saturating_sub(pages);
    }
}

/// Makes entries absent.
pub(super) fn clear(entries: &[AtomicU64]) {
    for entry in entries {
        entry.store(0, Ordering::Relaxed);
    }
}
