//! The engine under three formats against a model that remembers every change.

use proptest::prelude::*;
use std::collections::BTreeSet;

use super::*;
use crate::mem::arena::Arena;
use crate::mem::FramePool;
use crate::nested::{NPT, NPT_1G};

/// A format that shares no bit position with a real one, maps memory at every level, and notices
/// when an entry is read at another level than it was written for.
struct Toy;

const TOY_TABLE: u64 = 0xA0;
const TOY_LEAF: u64 = 0xB0;

fn toy_level(level: Level) -> u64 {
    u64::from(level.page_shift()) / 9
}

impl EntryFormat for Toy {
    fn table(&self, next: Frame) -> u64 {
        next.0 << 16 | TOY_TABLE
    }

    fn leaf(&self, frame: Frame, access: Rights, level: Level) -> u64 {
        assert_eq!(level.offset(frame.0), 0);
        assert!(access.contains(Rights::READ));
        frame.0 << 16 | access.bits() << 8 | TOY_LEAF | toy_level(level)
    }

    fn decode(&self, entry: u64, level: Level) -> Entry {
        let frame = Frame(entry >> 16);
        match entry & 0xF0 {
            0 => Entry::Absent,
            TOY_TABLE => Entry::Table(frame),
            _ => {
                assert_eq!(entry & 0xF, toy_level(level));
                let access = Rights::from_bits(entry >> 8 & 7).unwrap();
                Entry::Leaf { frame, access }
            }
        }
    }

    fn largest_leaf(&self) -> Level {
        Level::Gib512
    }
}

static FORMATS: [&dyn EntryFormat; 3] = [&NPT, &NPT_1G, &Toy];
const RW: fn() -> Rights = || Rights::READ | Rights::WRITE;
const FRAMES: u64 = 1200;

/// A table, what it takes from, and what was done to it.
struct Bed {
    pool: Arc<FramePool>,
    account: Arc<Account>,
    table: NestedTable,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    page: u64,
    pages: u64,
    /// The first frame and the access; `None` for an unmap.
    memory: Option<(u64, Rights)>,
}

/// Frames left out between the two runs of a mapping.
const SEAM_JUMP: u64 = 1 << 18;

impl Change {
    /// Pages in the first run; aligned to nothing in particular.
    fn seam(&self) -> u64 {
        self.pages / 3
    }
}

impl Bed {
    fn new(format: &'static dyn EntryFormat) -> Self {
        static ARENA: spin::Mutex<Vec<&'static Arena>> = spin::Mutex::new(Vec::new());
        // Arenas are used again by later beds of the same thread; parallel tests take others.
        let arena = ARENA
            .lock()
            .pop()
            .unwrap_or_else(|| Arena::leak(77, FRAMES));
        let pool = arena.pool();
        let account = Account::new(Arc::clone(&pool), FRAMES);
        let table = NestedTable::new(&account, arena, format).unwrap();
        Bed {
            pool,
            account,
            table,
            changes: Vec::new(),
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), OutOfFrames> {
        let address = GuestPhysical(change.page << PAGE_SHIFT);
        match change.memory {
            Some((frame, access)) => {
                let seam = change.seam();
                let runs = [
                    Run {
                        frame: Frame(frame),
                        pages: seam,
                    },
                    Run {
                        frame: Frame(frame + seam + SEAM_JUMP),
                        pages: change.pages - seam,
                    },
                ];
                self.table.map(address, &runs, access)?;
            }
            None => self.table.unmap(address, change.pages)?,
        }
        self.changes.push(change.clone());
        Ok(())
    }

    fn expected(&self, page: u64) -> Option<(Frame, Rights)> {
        let covers = |change: &&Change| (change.page..change.page + change.pages).contains(&page);
        let change = self.changes.iter().rev().find(covers)?;
        let (frame, access) = change.memory?;
        let offset = page - change.page;
        let jump = if offset < change.seam() { 0 } else { SEAM_JUMP };
        Some((Frame(frame + offset + jump), access | Rights::READ))
    }

    fn found(&self, page: u64) -> Option<(Frame, Rights)> {
        let found = self
            .table
            .translate(GuestPhysical(page << PAGE_SHIFT | 0xABC))?;
        Some((found.frame, found.access))
    }

    /// Every entry that is not absent, with where it is.
    fn entries(&self) -> Vec<(Level, u64, Entry)> {
        let mut found = Vec::new();
        self.collect(self.table.root(), Level::ROOT, 0, &mut found);
        found
    }

    fn collect(&self, table: Frame, level: Level, base: u64, found: &mut Vec<(Level, u64, Entry)>) {
        let Walk { physical, format } = self.table.walk;
        let words = physical.words(table).unwrap();
        for (index, word) in words.iter().enumerate() {
            let page = base + index as u64 * level.pages();
            let entry = format.decode(word.load(Ordering::Relaxed), level);
            if entry != Entry::Absent {
                found.push((level, page, entry));
            }
            if let Entry::Table(next) = entry {
                self.collect(next, level.below().unwrap(), page, found);
            }
        }
    }

    /// That each table is linked once, owned, paid for and not empty.
    fn check_structure(&self) {
        let entries = self.entries();
        let linked: Vec<Frame> = entries
            .iter()
            .filter_map(|(_, _, entry)| match entry {
                Entry::Table(next) => Some(*next),
                _ => None,
            })
            .collect();
        let distinct: BTreeSet<Frame> = linked.iter().copied().collect();
        assert_eq!(distinct.len(), linked.len());
        assert!(distinct.iter().eq(self.table.tables.keys()));
        assert_eq!(self.account.used(), linked.len() as u64 + 1);
        for (level, page, entry) in &entries {
            if let (Entry::Table(_), Some(below)) = (entry, level.below()) {
                let inside = |(other, at, _): &(Level, u64, Entry)| {
                    *other == below && (*page..page + level.pages()).contains(at)
                };
                assert!(entries.iter().any(inside), "empty table at {page:#x}");
            }
        }
    }

    fn check_translations(&self) {
        let edges = self.changes.iter().flat_map(|change| {
            let end = change.page + change.pages;
            [
                change.page.saturating_sub(1),
                change.page,
                change.page + change.seam(),
                change.page + change.pages / 2,
                end - 1,
                end,
            ]
        });
        for page in edges {
            assert_eq!(self.found(page), self.expected(page), "page {page:#x}");
        }
    }

    /// Tries a change with every quota that is too small, then makes it.
    fn apply_starved(&mut self, change: &Change) {
        let before = self.entries();
        for spare in 0.. {
            let ballast = FRAMES - self.account.used() - spare;
            let ballast = self.account.adopt(Frame(1 << 30), ballast).unwrap();
            let used = self.account.used();
            if self.apply(change).is_ok() {
                drop(ballast);
                break;
            }
            assert_eq!(self.account.used(), used);
            assert_eq!(self.entries(), before);
        }
    }
}

fn run(frame: u64, pages: u64) -> Run {
    Run {
        frame: Frame(frame),
        pages,
    }
}

fn map(bed: &mut Bed, page: u64, runs: &[Run]) {
    let address = GuestPhysical(page << PAGE_SHIFT);
    bed.table.map(address, runs, RW()).unwrap();
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
    assert_eq!(bed.found(701), Some((Frame(701), RW())));
    assert_eq!(level_at(&bed, 512), Some(Level::Kib4));
    assert_eq!(level_at(&bed, 511), Some(Level::Mib2));
    bed.check_structure();
}

#[test]
fn empty_tables_are_given_back() {
    for format in FORMATS {
        let mut bed = Bed::new(format);
        map(&mut bed, 5, &[run(900, 1)]);
        map(&mut bed, PAGE_LIMIT - 1, &[run(901, 1)]);
        assert_eq!(bed.account.used(), 7);
        bed.table.unmap(GuestPhysical(0), 4).unwrap();
        assert_eq!(bed.account.used(), 7, "nothing was there");
        bed.table.unmap(GuestPhysical(0), u64::MAX).unwrap();
        assert_eq!(bed.account.used(), 1);
        assert_eq!(level_at(&bed, 5), None);
    }
}

#[test]
fn the_address_limit_holds() {
    let mut bed = Bed::new(&NPT);
    map(&mut bed, PAGE_LIMIT - 1, &[run(10, 2)]);
    assert_eq!(bed.found(PAGE_LIMIT - 1), Some((Frame(10), RW())));
    assert_eq!(bed.table.translate(ADDRESS_LIMIT), None);
    assert_eq!(bed.table.translate(GuestPhysical(u64::MAX)), None);
    map(&mut bed, PAGE_LIMIT, &[run(20, 1)]);
    assert_eq!(level_at(&bed, 0), None, "the address does not wrap around");
    bed.table.unmap(ADDRESS_LIMIT, 1).unwrap();
    assert_eq!(bed.account.used(), 4);
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
