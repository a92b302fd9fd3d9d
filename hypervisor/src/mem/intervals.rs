//! A map from ranges of pages to values, such as what a guest-physical address space holds where.

use alloc::vec::{Drain, Vec};
use core::ops::Range;

/// A value that can be split when a part of its interval is removed.
pub trait Piece {
    /// The value for the part of the interval that begins `pages` after its start.
    fn skip(&self, pages: u64) -> Self;
}

/// Pages `start` to `end - 1` and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<V> {
    /// Number of the first page.
    pub start: u64,
    /// Number of the page after the last one.
    pub end: u64,
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
///
/// A change is first looked up, which can fail, and then made, which cannot: what else depends
/// on it can be done in between.
///
/// It is meant for some hundred intervals: a lookup is a binary search, and a change moves the
/// intervals behind it.
#[derive(Clone, Debug)]
pub struct IntervalMap<V> {
    /// By address, none of them empty.
    intervals: Vec<Interval<V>>,
}

/// A range of pages that are all free.
pub struct FreeRange<'a, V> {
    intervals: &'a mut Vec<Interval<V>>,
    pages: Range<u64>,
    /// Where an interval in it belongs.
    index: usize,
}

/// A range of pages that are all taken.
pub struct TakenRange<'a, V> {
    intervals: &'a mut Vec<Interval<V>>,
    pages: Range<u64>,
    /// The intervals that the pages are in.
    indices: Range<usize>,
    /// Whether the first of them begins before the range.
    has_head: bool,
    /// Whether the last of them ends behind it.
    has_tail: bool,
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
            intervals: Vec::new(),
        }
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.intervals.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The interval that holds the page.
    pub fn find(&self, page: u64) -> Option<&Interval<V>> {
        let interval = self.intervals.get(self.first_behind(page))?;
        (interval.start <= page).then_some(interval)
    }

    /// All intervals by address.
    pub fn iter(&self) -> impl Iterator<Item = &Interval<V>> {
        self.intervals.iter()
    }

    /// Removes every interval.
    pub fn clear(&mut self) {
        self.intervals = Vec::new();
    }

    /// The range of pages, if it is free.
    pub fn free_range(&mut self, start: u64, pages: u64) -> Result<FreeRange<'_, V>, Overlap> {
        let end = start.checked_add(pages).ok_or(Overlap)?;
        let index = self.first_behind(start);
        let overlaps = |next: &Interval<V>| start < end && next.start < end;
        if self.intervals.get(index).is_some_and(overlaps) {
            return Err(Overlap);
        }
        Ok(FreeRange {
            intervals: &mut self.intervals,
            pages: start..end,
            index,
        })
    }

    /// The range of pages, if all of it is taken.
    pub fn taken_range(&mut self, start: u64, pages: u64) -> Result<TakenRange<'_, V>, Gap> {
        let end = start.checked_add(pages).ok_or(Gap)?;
        let first = self.first_behind(start);
        let mut behind = first;
        let mut page = start;
        let mut has_head = false;
        while page < end {
            let holder = self.intervals.get(behind).ok_or(Gap)?;
            if holder.start > page {
                return Err(Gap);
            }
            has_head |= holder.start < start;
            page = holder.end;
            behind += 1;
        }
        Ok(TakenRange {
            intervals: &mut self.intervals,
            pages: start..end,
            indices: first..behind,
            has_head,
            has_tail: page > end,
        })
    }

    /// The first interval that ends behind the page.
    fn first_behind(&self, page: u64) -> usize {
        self.intervals
            .partition_point(|interval| interval.end <= page)
    }
}

impl<V> FreeRange<'_, V> {
    /// Makes one interval of the pages, unless there are none.
    #[inline]
    pub fn fill(self, value: V) {
        let Range { start, end } = self.pages;
        if start < end {
            let interval = Interval { start, end, value };
            self.intervals.insert(self.index, interval);
        }
    }
}

impl<'a, V: Piece> TakenRange<'a, V> {
    /// How many intervals there would be in the map after [`TakenRange::remove`]: at most one
    /// more than there are now.
    pub fn len_after_remove(&self) -> usize {
        let kept = usize::from(self.has_head) + usize::from(self.has_tail);
        self.intervals.len() - self.indices.len() + kept
    }

    /// Removes the pages; gives what they held, by address.
    ///
    /// An interval that reaches out of the range on either side keeps that part.
    #[inline]
    pub fn remove(mut self) -> Drain<'a, Interval<V>> {
        if self.has_head {
            self.split(self.indices.start, self.pages.start);
            self.indices.start += 1;
            self.indices.end += 1;
        }
        if self.has_tail {
            self.split(self.indices.end - 1, self.pages.end);
        }
        self.intervals.drain(self.indices)
    }

    /// Makes two intervals of one that begins before the page and ends behind it.
    fn split(&mut self, index: usize, page: u64) {
        let interval = &mut self.intervals[index];
        let tail = Interval {
            start: page,
            end: interval.end,
            value: interval.value.skip(page - interval.start),
        };
        interval.end = page;
        self.intervals.insert(index + 1, tail);
    }
}

#[cfg(test)]
mod tests;
