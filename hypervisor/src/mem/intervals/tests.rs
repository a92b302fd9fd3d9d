//! The interval map against a model that knows every page by itself.

use std::collections::BTreeSet;

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

#[test]
fn removing_the_middle_leaves_both_ends() {
    let mut map = IntervalMap::new();
    map.insert(10, 10, Numbers(100)).unwrap();
    assert_eq!(map.len_after_remove(12, 3), Ok(2));
    let removed = map.remove(12, 3).unwrap();
    let middle = Interval {
        start: 12,
        pages: 3,
        value: Numbers(102),
    };
    assert_eq!(removed, [middle]);
    let left: Vec<_> = map.iter().collect();
    assert_eq!(left, [(10, 2, &Numbers(100)), (15, 5, &Numbers(105))]);
}

#[test]
fn a_range_over_several_intervals_is_removed_in_order() {
    let mut map = IntervalMap::new();
    for start in [0, 4, 8] {
        map.insert(start, 4, Numbers(start)).unwrap();
    }
    let removed = map.remove(2, 8).unwrap();
    let ranges: Vec<_> = removed
        .iter()
        .map(|piece| (piece.start, piece.pages))
        .collect();
    assert_eq!(ranges, [(2, 2), (4, 4), (8, 2)]);
    assert_eq!(map.len(), 2);
}

#[test]
fn a_gap_leaves_everything_as_it_was() {
    let mut map = IntervalMap::new();
    map.insert(0, 4, Numbers(0)).unwrap();
    map.insert(5, 4, Numbers(5)).unwrap();
    assert_eq!(map.remove(1, 6), Err(Gap));
    assert_eq!(map.remove(8, 2), Err(Gap));
    assert_eq!(map.iter().count(), 2);
    assert_eq!(map.find(3), Some((0, 4, &Numbers(0))));
}

#[test]
fn the_ends_of_the_number_range_are_safe() {
    let mut map = IntervalMap::new();
    assert_eq!(map.insert(u64::MAX, 1, Numbers(0)), Err(Overlap));
    assert_eq!(map.insert(2, u64::MAX, Numbers(0)), Err(Overlap));
    map.insert(0, u64::MAX, Numbers(0)).unwrap();
    assert_eq!(map.find(u64::MAX), None);
    assert_eq!(map.remove(u64::MAX, 1), Err(Gap));
    assert_eq!(map.remove(1, u64::MAX), Err(Gap));
    assert_eq!(map.insert(u64::MAX - 1, 1, Numbers(0)), Err(Overlap));
    assert_eq!(map.remove(u64::MAX - 1, 1).unwrap().len(), 1);
    map.clear();
    assert!(map.is_empty());
}

#[test]
fn an_empty_range_changes_nothing() {
    let mut map = IntervalMap::new();
    map.insert(4, 0, Numbers(0)).unwrap();
    assert!(map.is_empty());
    map.insert(4, 4, Numbers(0)).unwrap();
    assert_eq!(map.insert(6, 0, Numbers(0)), Ok(()));
    assert_eq!(map.remove(6, 0), Ok(Vec::new()));
    assert_eq!(map.find(7), Some((4, 4, &Numbers(0))));
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
        starts.extend(found.map(|(start, _, _)| start));
        let number = found.map(|(start, _, value)| value.skip(page as u64 - start).0);
        prop_assert_eq!(number, *expected);
    }
    prop_assert_eq!(starts.len(), map.len());
    prop_assert_eq!(
        map.iter()
            .map(|(start, _, _)| start)
            .collect::<BTreeSet<_>>(),
        starts
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
        for (insert, start, pages, number) in steps {
            let range = &mut model[model_range(start, pages)];
            if insert {
                let free = range.iter().all(Option::is_none);
                prop_assert_eq!(map.insert(start, pages, Numbers(number)).is_ok(), free);
                if free {
                    range.iter_mut().zip(number..).for_each(|(page, n)| *page = Some(n));
                }
            } else {
                let taken = range.iter().all(Option::is_some);
                let predicted = map.len_after_remove(start, pages);
                let removed = map.remove(start, pages);
                prop_assert_eq!(removed.is_ok(), taken);
                if let Ok(removed) = removed {
                    let held: Vec<_> = removed
                        .iter()
                        .flat_map(|piece| (0..piece.pages).map(|n| Some(piece.value.skip(n).0)))
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
