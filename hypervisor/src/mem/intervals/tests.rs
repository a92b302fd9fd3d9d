//! The interval map against a model that knows every page by itself.

use std::collections::BTreeSet;
use std::vec;

use proptest::prelude::*;

use super::*;

/// A run of numbers; page `n` of an interval holds `first + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers(u64);

impl Piece for Numbers {
    fn skip(&self, pages: u64) -> Self {
        Numbers(self.0 + pages)
    }
}

fn interval(start: u64, end: u64, number: u64) -> Interval<Numbers> {
    Interval {
        start,
        end,
        value: Numbers(number),
    }
}

fn insert(
    map: &mut IntervalMap<Numbers>,
    start: u64,
    pages: u64,
    number: u64,
) -> Result<(), Overlap> {
    map.free_range(start, pages)
        .map(|range| range.fill(Numbers(number)))
}

fn remove(
    map: &mut IntervalMap<Numbers>,
    start: u64,
    pages: u64,
) -> Result<Vec<Interval<Numbers>>, Gap> {
    let range = map.taken_range(start, pages)?;
    Ok(range.remove().collect())
}

#[test]
fn removing_the_middle_leaves_both_ends() {
    let mut map = IntervalMap::new();
    insert(&mut map, 10, 10, 100).unwrap();
    assert_eq!(map.taken_range(12, 3).unwrap().len_after_remove(), 2);
    assert_eq!(remove(&mut map, 12, 3), Ok(vec![interval(12, 15, 102)]));
    let left: Vec<_> = map.iter().copied().collect();
    assert_eq!(left, [interval(10, 12, 100), interval(15, 20, 105)]);
}

#[test]
fn a_range_over_several_intervals_is_removed_in_order() {
    let mut map = IntervalMap::new();
    for start in [8, 0, 4] {
        insert(&mut map, start, 4, start).unwrap();
    }
    let removed = remove(&mut map, 2, 8).unwrap();
    let expected = [interval(2, 4, 2), interval(4, 8, 4), interval(8, 10, 8)];
    assert_eq!(removed, expected);
    assert_eq!(map.len(), 2);
}

#[test]
fn a_gap_leaves_everything_as_it_was() {
    let mut map = IntervalMap::new();
    insert(&mut map, 0, 4, 0).unwrap();
    insert(&mut map, 5, 4, 5).unwrap();
    assert_eq!(remove(&mut map, 1, 6), Err(Gap));
    assert_eq!(remove(&mut map, 8, 2), Err(Gap));
    assert_eq!(map.len(), 2);
    assert_eq!(map.find(3), Some(&interval(0, 4, 0)));
}

#[test]
fn a_range_that_is_only_looked_up_stays_as_it_is() {
    let mut map = IntervalMap::new();
    insert(&mut map, 0, 4, 0).unwrap();
    assert!(map.taken_range(1, 2).is_ok());
    assert!(map.free_range(4, 2).is_ok());
    assert_eq!(map.iter().collect::<Vec<_>>(), [&interval(0, 4, 0)]);
}

#[test]
fn the_ends_of_the_number_range_are_safe() {
    let mut map = IntervalMap::new();
    assert_eq!(insert(&mut map, u64::MAX, 1, 0), Err(Overlap));
    assert_eq!(insert(&mut map, 2, u64::MAX, 0), Err(Overlap));
    insert(&mut map, 0, u64::MAX, 0).unwrap();
    assert_eq!(map.find(u64::MAX), None);
    assert_eq!(remove(&mut map, u64::MAX, 1), Err(Gap));
    assert_eq!(remove(&mut map, 1, u64::MAX), Err(Gap));
    assert_eq!(insert(&mut map, u64::MAX - 1, 1, 0), Err(Overlap));
    assert_eq!(remove(&mut map, u64::MAX - 1, 1).unwrap().len(), 1);
    map.clear();
    assert!(map.is_empty());
}

#[test]
fn an_empty_range_changes_nothing() {
    let mut map = IntervalMap::new();
    insert(&mut map, 4, 0, 0).unwrap();
    assert!(map.is_empty());
    insert(&mut map, 4, 4, 0).unwrap();
    assert_eq!(insert(&mut map, 6, 0, 0), Ok(()));
    assert_eq!(remove(&mut map, 6, 0), Ok(Vec::new()));
    assert_eq!(map.find(7), Some(&interval(4, 8, 0)));
}

/// The number that each of the first pages holds.
type Model = [Option<u64>; 64];

fn model_range(start: u64, pages: u64) -> core::ops::Range<usize> {
    start as usize..(start + pages) as usize
}

fn check(map: &IntervalMap<Numbers>, model: &Model) -> Result<(), TestCaseError> {
    let mut starts = BTreeSet::new();
    for (page, expected) in model.iter().enumerate() {
        let found = map.find(page as u64);
        starts.extend(found.map(|found| found.start));
        let number = found.map(|found| found.value.skip(page as u64 - found.start).0);
        prop_assert_eq!(number, *expected);
    }
    prop_assert_eq!(starts.len(), map.len());
    prop_assert_eq!(
        map.iter().map(|found| found.start).collect::<Vec<_>>(),
        starts.into_iter().collect::<Vec<_>>()
    );
    Ok(())
}

proptest! {
    #[test]
    fn it_agrees_with_a_model_of_single_pages(
        steps in proptest::collection::vec((any::<bool>(), 0u64..48, 0u64..16, 0u64..9999), 1..60),
    ) {
        let mut map = IntervalMap::new();
        let mut model: Model = [None; 64];
        for (inserts, start, pages, number) in steps {
            let range = &mut model[model_range(start, pages)];
            if inserts {
                let free = range.iter().all(Option::is_none);
                prop_assert_eq!(insert(&mut map, start, pages, number).is_ok(), free);
                if free {
                    range.iter_mut().zip(number..).for_each(|(page, n)| *page = Some(n));
                }
            } else {
                let taken = range.iter().all(Option::is_some);
                let predicted = map.taken_range(start, pages).map(|range| range.len_after_remove());
                let removed = remove(&mut map, start, pages);
                prop_assert_eq!(removed.is_ok(), taken);
                if let Ok(removed) = removed {
                    let held: Vec<_> = removed
                        .iter()
                        .flat_map(|piece| (0..piece.end - piece.start).map(|n| Some(piece.value.skip(n).0)))
                        .collect();
                    prop_assert_eq!(&held[..], &range[..]);
                    range.fill(None);
                    prop_assert_eq!(predicted, Ok(map.len()));
                }
            }
            check(&map, &model)?;
        }
    }
}
