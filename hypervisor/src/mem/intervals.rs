//! A map from ranges of pages to values, such as what a guest-physical address space holds where.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A value that can be split when a part of its interval is removed.
pub trait Piece {
    /// The value for the part of the interval that begins `pages` after its start.
    fn skip(&self, pages: u64) -> Self;
}

/// Pages `start` to `start + pages - 1` and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<V> {
    /// Number of the first page.
    pub start: u64,
    /// How many pages, at least 1.
    pub pages: u64,
    /// What they hold.
    pub value: V,
}

/// Some page of the range is taken, or the range has no end below 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap;

/// Some page of the range is free, or the range has no end below 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

/// Intervals of pages that do not overlap. Neighbours are never joined.
#[derive(Clone, Debug)]
pub struct IntervalMap<V> {
    /// By first page; the value is the page after the last one and what the pages hold.
    intervals: BTreeMap<u64, (u64, V)>,
}

impl<V> Default for IntervalMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> IntervalMap<V> {
    /// An empty map.
    pub const fn new() -> Self {
        IntervalMap {
            intervals: BTreeMap::new(),
        }
    }

    /// How many intervals there are; each [`IntervalMap::insert`] of at least
    /// one page adds one.
    pub fn len(&self) -> usize {
        self.intervals.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Adds an interval of pages that are all free. An empty one changes nothing.
    pub fn insert(&mut self, start: u64, pages: u64, value: V) -> Result<(), Overlap> {
        if pages == 0 {
            return Ok(());
        }
        let end = start.checked_add(pages).ok_or(Overlap)?;
        if self.last_before(end).is_some_and(|last| last.end > start) {
            return Err(Overlap);
        }
        self.intervals.insert(start, (end, value));
        Ok(())
    }

    /// The interval that holds the page: its first page, its length in pages, its value.
    pub fn find(&self, page: u64) -> Option<(u64, u64, &V)> {
        let found = self.holder(page)?;
        Some((found.start, found.end - found.start, found.value))
    }

    /// All intervals by address: first page, length in pages, value.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, &V)> {
        self.intervals
            .iter()
            .map(|(&start, (end, value))| (start, end - start, value))
    }

    /// Removes every interval.
    pub fn clear(&mut self) {
        self.intervals.clear();
    }

    /// How many intervals there would be after [`IntervalMap::remove`] of the range: at most one
    /// more than there are now.
    pub fn len_after_remove(&self, start: u64, pages: u64) -> Result<usize, Gap> {
        let end = start.checked_add(pages).ok_or(Gap)?;
        let mut remaining = self.len();
        let mut page = start;
        while page < end {
            let holder = self.holder(page).ok_or(Gap)?;
            let keeps_head = holder.start < page;
            let keeps_tail = holder.end > end;
            remaining = remaining - 1 + usize::from(keeps_head) + usize::from(keeps_tail);
            page = holder.end;
        }
        Ok(remaining)
    }

    /// The interval that holds the page.
    fn holder(&self, page: u64) -> Option<Found<'_, V>> {
        self.last_before(page.checked_add(1)?)
            .filter(|found| found.end > page)
    }

    /// The last interval that begins before the page.
    fn last_before(&self, page: u64) -> Option<Found<'_, V>> {
        let (&start, (end, value)) = self.intervals.range(..page).next_back()?;
        Some(Found {
            start,
            end: *end,
            value,
        })
    }
}

impl<V: Piece> IntervalMap<V> {
    /// Removes a range of pages that are all taken and returns what they held, by address.
    ///
    /// An interval that reaches out of the range on either side keeps that part. An empty range removes
    /// nothing.
    pub fn remove(&mut self, start: u64, pages: u64) -> Result<Vec<Interval<V>>, Gap> {
        self.len_after_remove(start, pages)?;
        let mut removed = Vec::new();
        if pages == 0 {
            return Ok(removed);
        }
        self.split_at(start);
        self.split_at(start + pages);
        let mut page = start;
        while page < start + pages {
            let Some((end, value)) = self.intervals.remove(&page) else {
                break;
            };
            removed.push(Interval {
                start: page,
                pages: end - page,
                value,
            });
            page = end;
        }
        Ok(removed)
    }

    /// Makes an interval begin at the page if one goes across it.
    fn split_at(&mut self, page: u64) {
        let Some((&start, (end, value))) = self.intervals.range_mut(..page).next_back() else {
            return;
        };
        if *end > page {
            let tail = (*end, value.skip(page - start));
            *end = page;
            self.intervals.insert(page, tail);
        }
    }
}

/// An interval in the map.
struct Found<'a, V> {
    start: u64,
    end: u64,
    value: &'a V,
}

#[cfg(test)]
mod tests;
