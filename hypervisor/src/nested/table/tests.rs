//! The engine under three formats against a model that remembers every change.

mod bed;

use proptest::prelude::*;

use super::*;
use crate::nested::{NPT, NPT_1G};
use bed::{Bed, Change, Toy, FORMATS, FRAMES};

fn rw() -> Rights {
    Rights::READ | Rights::WRITE
}

fn run(frame: u64, pages: u64) -> Run {
    Run {
        frame: Frame(frame),
        pages,
    }
}

fn map(bed: &mut Bed, page: u64, runs: &[Run]) {
    let address = GuestPhysical(page << PAGE_SHIFT);
    bed.table.map(address, runs, rw()).unwrap();
}

fn level_at(bed: &Bed, page: u64) -> Option<Level> {
    let found = bed.table.translate(GuestPhysical(page << PAGE_SHIFT));
    found.map(|found| found.level)
}

#[test]
fn pages_are_as_large_as_the_format_allows() {
    let expected = [Level::Mib2, Level::Gib1, Level::Gib512];
    for (format, largest) in FORMATS.into_iter().zip(expected) {
        let mut bed = Bed::new(format);
        map(&mut bed, 0, &[run(1 << 27, 1 << 27)]);
        assert_eq!(level_at(&bed, 12_345), Some(largest));
        assert_eq!(bed.found((1 << 27) - 1).unwrap().0, Frame((1 << 28) - 1));
        assert_eq!(level_at(&bed, 1 << 27), None);
    }
}

#[test]
fn alignment_and_length_limit_the_page_size() {
    let mut bed = Bed::new(&NPT_1G);
    map(&mut bed, 511, &[run(511, 514)]);
    let levels = [510, 511, 512, 1023, 1024, 1025].map(|page| level_at(&bed, page));
    let (small, large) = (Some(Level::Kib4), Some(Level::Mib2));
    assert_eq!(levels, [None, small, large, large, small, None]);
    map(&mut bed, 1 << 18, &[run((1 << 18) + 512, 1 << 18)]);
    assert_eq!(
        level_at(&bed, 1 << 18),
        large,
        "the frame is not aligned to 1 GiB"
    );
    map(&mut bed, 1 << 19, &[run(1, 512)]);
    assert_eq!(
        level_at(&bed, 1 << 19),
        small,
        "the frame is not aligned to 2 MiB"
    );
    map(
        &mut bed,
        3 << 18,
        &[run(0, 0), run(0, 300), run(0, 0), run(300, 212)],
    );
    assert_eq!(level_at(&bed, 3 << 18), small, "no run is long enough");
    bed.check_structure();
}

#[test]
fn a_large_page_is_split_only_around_the_hole() {
    let mut bed = Bed::new(&NPT_1G);
    map(&mut bed, 0, &[run(0, 1 << 18)]);
    assert_eq!(bed.account.used(), 2);
    let hole = GuestPhysical(700 << PAGE_SHIFT);
    bed.table.unmap(hole, 1).unwrap();
    assert_eq!(bed.account.used(), 4);
    assert_eq!(level_at(&bed, 700), None);
    assert_eq!(bed.found(701), Some((Frame(701), rw())));
    assert_eq!(level_at(&bed, 512), Some(Level::Kib4));
    assert_eq!(level_at(&bed, 511), Some(Level::Mib2));
    bed.check_structure();
}

fn unmap(bed: &mut Bed, page: u64, pages: u64) {
    let address = GuestPhysical(page << PAGE_SHIFT);
    bed.table.unmap(address, pages).unwrap();
}

#[test]
fn empty_tables_stay_for_what_comes_next() {
    for format in FORMATS {
        let mut bed = Bed::new(format);
        map(&mut bed, 5, &[run(900, 1)]);
        map(&mut bed, PAGE_LIMIT - 1, &[run(901, 1)]);
        assert_eq!(bed.account.used(), 7);
        unmap(&mut bed, 0, u64::MAX);
        assert_eq!((level_at(&bed, 5), bed.account.used()), (None, 7));
        let _ballast = bed.starve(0);
        map(&mut bed, 6, &[run(902, 1)]);
        assert_eq!(bed.found(6), Some((Frame(902), rw())));
    }
}

#[test]
fn empty_tables_pay_for_tables_that_cannot_be_had_otherwise() {
    for format in FORMATS {
        let mut bed = Bed::new(format);
        map(&mut bed, 1 << 18, &[run(901, 1)]);
        map(&mut bed, 5, &[run(900, 1)]);
        unmap(&mut bed, 5, 1);
        assert_eq!(bed.account.used(), 6);
        let _ballast = bed.starve(0);
        let used = bed.account.used();
        map(&mut bed, 2 << 18, &[run(902, 1)]);
        assert_eq!(bed.account.used(), used, "two went and two came");
        assert_eq!(bed.found(1 << 18), Some((Frame(901), rw())));
        let address = GuestPhysical(1 << 47);
        let full = bed.table.map(address, &[run(903, 1)], rw());
        assert_eq!(full, Err(OutOfFrames::Quota), "nothing is empty now");
    }
}

#[test]
fn empty_tables_pay_for_splitting_a_large_page() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, 5, &[run(900, 1)]);
    map(&mut bed, 1 << 27, &[run(512, 512)]);
    unmap(&mut bed, 5, 1);
    let _ballast = bed.starve(0);
    let used = bed.account.used();
    unmap(&mut bed, 1 << 27, 1);
    bed.flush();
    assert_eq!(bed.account.used(), used - 2, "three went and one came");
    assert_eq!(level_at(&bed, (1 << 27) + 1), Some(Level::Kib4));
}

#[test]
fn a_failed_change_can_give_empty_tables_back() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, 5, &[run(900, 1)]);
    unmap(&mut bed, 5, 1);
    let ballast = bed.starve(0);
    let far_apart = [run(0, 1), run(1 << 20, 1 << 20)];
    let outcome = bed.table.map(GuestPhysical(0), &far_apart, rw());
    assert_eq!(outcome, Err(OutOfFrames::Quota));
    drop(ballast);
    bed.check_structure();
    assert_eq!(bed.account.used(), 1);
}

#[test]
fn a_large_page_takes_the_place_of_empty_tables() {
    let cases: [(&dyn EntryFormat, Level, u64); 3] = [
        (&NPT, Level::Mib2, 3),
        (&NPT_1G, Level::Gib1, 2),
        (&Toy, Level::Gib512, 1),
    ];
    for (format, level, tables) in cases {
        let mut bed = Bed::new(format);
        map(&mut bed, 0, &[run(1, 1)]);
        map(&mut bed, level.pages() - 1, &[run(1, 1)]);
        unmap(&mut bed, 0, level.pages());
        let ballast = bed.starve(0);
        map(&mut bed, 0, &[run(0, level.pages())]);
        drop(ballast);
        assert_eq!(level_at(&bed, 1), Some(level));
        bed.check_structure();
        assert_eq!(bed.account.used(), tables);
    }
}

#[test]
fn a_table_that_has_gone_is_not_written_to() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, 5, &[run(900, 1)]);
    unmap(&mut bed, 5, 1);
    map(&mut bed, 0, &[run(512, 512)]);
    unmap(&mut bed, 0, 512);
    map(&mut bed, 6, &[run(901, 1)]);
    assert_eq!(bed.found(6), Some((Frame(901), rw())));
    assert_eq!(bed.found(5), None);
}

#[test]
fn the_caller_learns_when_to_flush() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, 5, &[run(900, 1)]);
    map(&mut bed, 6, &[run(901, 1)]);
    assert!(bed.table.take_stale().is_none(), "nothing was there before");
    unmap(&mut bed, 5, 1);
    assert!(bed.table.take_stale().is_some());
    assert!(bed.table.take_stale().is_none(), "it is told once");
    unmap(&mut bed, 6, 1);
    assert!(bed.table.take_stale().is_some());
    map(&mut bed, 0, &[run(512, 512)]);
    assert!(bed.table.take_stale().is_some(), "a table has given way");
}

#[test]
fn the_caller_learns_when_to_flush_after_a_failure() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, 5, &[run(900, 1)]);
    unmap(&mut bed, 5, 1);
    assert!(bed.table.take_stale().is_some());
    let _ballast = bed.starve(0);
    let far_apart = [run(0, 1), run(1 << 20, 1 << 20)];
    let outcome = bed.table.map(GuestPhysical(0), &far_apart, rw());
    assert!(outcome.is_err());
    assert!(
        bed.table.take_stale().is_some(),
        "the empty tables have gone"
    );
}

#[test]
fn the_address_limit_holds() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, PAGE_LIMIT - 1, &[run(10, 2)]);
    assert_eq!(bed.found(PAGE_LIMIT - 1), Some((Frame(10), rw())));
    assert_eq!(bed.table.translate(ADDRESS_LIMIT), None);
    assert_eq!(bed.table.translate(GuestPhysical(u64::MAX)), None);
    map(&mut bed, 1, &[run(30, 1)]);
    map(&mut bed, PAGE_LIMIT, &[run(20, 1)]);
    assert_eq!(level_at(&bed, 0), None, "the address does not wrap around");
    unmap(&mut bed, PAGE_LIMIT + 1, 1);
    assert_eq!(bed.found(1), Some((Frame(30), rw())));
    assert_eq!(bed.account.used(), 7);
}

#[test]
fn memory_is_readable_and_has_no_other_rights() {
    let mut bed = Bed::new(&Toy);
    let rights = Rights::EXECUTE | Rights::SEND;
    bed.table
        .map(GuestPhysical(0), &[run(1, 1)], rights)
        .unwrap();
    let expected = Rights::READ | Rights::EXECUTE;
    assert_eq!(bed.found(0), Some((Frame(1), expected)));
}

#[test]
fn dropping_a_table_gives_every_frame_back() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, 100, &[run(0, 5000)]);
    assert!(bed.pool.free_frames() < FRAMES - 10);
    drop(bed.table);
    assert_eq!((bed.account.used(), bed.pool.free_frames()), (0, FRAMES));
}

/// Starts and lengths near the borders of entries of every level.
fn border() -> impl Strategy<Value = u64> {
    let unit = prop_oneof![Just(0u64), Just(9), Just(18), Just(27)];
    (unit, 0u64..4, -3i64..4)
        .prop_map(|(shift, count, offset)| (count << shift).saturating_add_signed(offset))
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..4, 500u64..1100, (1u64..4).prop_map(|n| n << 18)]
}

fn memory() -> impl Strategy<Value = Option<(u64, Rights)>> {
    let rights = (0u64..8).prop_map(|bits| Rights::from_bits(bits).unwrap());
    prop_oneof![
        Just(None),
        rights.prop_map(|rights| Some((1 << 28, rights)))
    ]
}

/// Frames are congruent to pages at some alignment, so that large pages occur.
fn change() -> impl Strategy<Value = Change> {
    let slack = prop_oneof![4 => Just(0u64), 2 => Just(512), 1 => Just(1)];
    (border(), length(), memory(), slack).prop_map(|(page, pages, memory, slack)| {
        let slack = if pages > 1100 { slack & !1 } else { slack };
        let memory = memory.map(|(base, rights)| (base + page + slack, rights));
        Change {
            page,
            pages,
            memory,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_sequence_of_changes_agrees_with_the_model(
        format in 0..FORMATS.len(),
        changes in proptest::collection::vec(change(), 1..12),
    ) {
        let mut bed = Bed::new(FORMATS[format]);
        for change in &changes {
            if bed.apply(change).is_ok() {
                bed.check_translations();
            }
            bed.check_structure();
        }
        let Bed { table, pool, .. } = bed;
        drop(table);
        prop_assert_eq!(pool.free_frames(), FRAMES);
    }

    #[test]
    fn a_change_without_enough_frames_changes_nothing(
        format in 0..FORMATS.len(),
        changes in proptest::collection::vec(change(), 1..5),
    ) {
        let mut bed = Bed::new(FORMATS[format]);
        for change in &changes {
            bed.apply_starved(change);
        }
        bed.check_translations();
        bed.check_structure();
    }
}
