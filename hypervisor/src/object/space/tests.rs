//! What is mapped, what is paid for it, and when CPUs have to forget.

use super::*;
use crate::mem::arena::Arena;
use crate::nested::NPT;

struct Fixture {
    space: Arc<Space>,
    memory: Arc<Memory>,
    account: Arc<Account>,
}

fn fixture(quota: u64) -> Fixture {
    let arena = Arena::leak(64, 64);
    let account = Account::new(arena.pool(), quota);
    let memory = Arc::new(Memory::allocate(&account, 8).unwrap());
    let space = Arc::new(Space::new(&account, arena, &NPT, 1 << 39).unwrap());
    Fixture {
        space,
        memory,
        account,
    }
}

fn mapping(address: u64, offset: u64, length: u64) -> Mapping {
    Mapping {
        address: GuestPhysical(address),
        offset,
        length,
        access: Rights::READ,
    }
}

#[test]
fn what_is_mapped_is_found_and_what_is_not_is_not() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    space
        .map(memory, &mapping(0x10_0000, 0x2000, 0x3000), &mut |_| ())
        .unwrap();
    let is_there = |address, access| {
        let page = space.with_page(GuestPhysical(address), access, |_| ());
        page.is_some()
    };
    assert!(is_there(0x10_2FFF, Rights::READ));
    assert!(!is_there(0x10_3000, Rights::READ));
    assert!(!is_there(0x10_0000, Rights::WRITE));
    assert_eq!(space.mapped_bytes(), 0x3000);
}

#[test]
fn a_page_that_was_found_before_is_looked_up_again_after_a_change() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    let address = GuestPhysical(0x10_0000);
    let first = |access| space.with_page(address, access, |words| words.as_ptr());
    space
        .map(memory, &mapping(address.0, 0, 0x1000), &mut |_| ())
        .unwrap();
    let before = first(Rights::READ).unwrap();
    assert_eq!(first(Rights::READ), Some(before));
    assert_eq!(first(Rights::WRITE), None);
    space.unmap(address, 0x1000, &mut |_| ()).unwrap();
    assert_eq!(first(Rights::READ), None);
    space
        .map(memory, &mapping(address.0, 0x3000, 0x1000), &mut |_| ())
        .unwrap();
    assert!(first(Rights::READ).is_some_and(|words| words != before));
    space.clear(&mut |_| ());
    assert_eq!(first(Rights::READ), None);
}

#[test]
fn a_page_is_not_taken_away_while_it_is_used() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    let address = GuestPhysical(0x10_0000);
    space
        .map(memory, &mapping(address.0, 0, 0x1000), &mut |_| ())
        .unwrap();
    std::thread::scope(|scope| {
        let other_cpu = space.with_page(address, Rights::READ, |_| {
            let other_cpu = scope.spawn(|| space.unmap(address, 0x1000, &mut |_| ()));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!other_cpu.is_finished());
            other_cpu
        });
        assert_eq!(other_cpu.unwrap().join().unwrap(), Ok(()));
    });
    assert_eq!(space.with_page(address, Rights::READ, |_| ()), None);
}

#[test]
fn bad_ranges_are_refused() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    let bad = [
        mapping(0x10_0001, 0, 0x1000),
        mapping(0x10_0000, 1, 0x1000),
        mapping(0x10_0000, 0, 0),
        mapping(0x10_0000, 0, 0x1001),
        mapping(0x10_0000, 0x8000, 0x1000),
        mapping(0x10_0000, 0x7000, 0x2000),
        mapping(1 << 39, 0, 0x1000),
        mapping((1 << 39) - 0x1000, 0, 0x2000),
        mapping(u64::MAX - 0xFFF, 0, 0x1000),
    ];
    for mapping in bad {
        assert_eq!(
            space.map(memory, &mapping, &mut |_| ()),
            Err(Error::BadAddress),
            "{mapping:?}"
        );
    }
    assert_eq!(space.mapped_bytes(), 0);
}

#[test]
fn overlaps_and_holes_are_refused_without_effect() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    space
        .map(memory, &mapping(0x10_0000, 0, 0x2000), &mut |_| ())
        .unwrap();
    let overlap = space.map(memory, &mapping(0x10_1000, 0, 0x2000), &mut |_| ());
    assert_eq!(overlap, Err(Error::AlreadyMapped));
    let hole = space.unmap(GuestPhysical(0x10_1000), 0x2000, &mut |_| ());
    assert_eq!(hole, Err(Error::NotMapped));
    assert_eq!(space.mapped_bytes(), 0x2000);
    assert_eq!(space.flushes(), 0);
}

#[test]
fn unmapping_asks_for_a_flush_and_frees_the_memory_with_its_last_user() {
    let fixture = fixture(64);
    fixture
        .space
        .map(&fixture.memory, &mapping(0, 0, 0x8000), &mut |_| ())
        .unwrap();
    let used = fixture.account.used();
    drop(fixture.memory);
    assert_eq!(fixture.account.used(), used, "still mapped");
    fixture
        .space
        .unmap(GuestPhysical(0), 0x8000, &mut |_| ())
        .unwrap();
    assert_eq!(fixture.space.flushes(), 1);
    assert_eq!(fixture.account.used(), used - 8);
}

#[test]
fn empty_tables_are_used_again_or_pay_for_others_after_a_flush() {
    let fixture = fixture(12);
    let Fixture { space, memory, .. } = &fixture;
    space
        .map(memory, &mapping(0, 0, 0x1000), &mut |_| ())
        .unwrap();
    space.unmap(GuestPhysical(0), 0x1000, &mut |_| ()).unwrap();
    space
        .map(memory, &mapping(0x1000, 0, 0x1000), &mut |_| ())
        .unwrap();
    space
        .unmap(GuestPhysical(0x1000), 0x1000, &mut |_| ())
        .unwrap();
    assert_eq!((fixture.account.used(), space.flushes()), (12, 2));
    space
        .map(memory, &mapping(1 << 38, 0, 0x1000), &mut |_| ())
        .unwrap();
    assert_eq!((fixture.account.used(), space.flushes()), (12, 3));
    let refused = space.map(memory, &mapping(0, 0, 0x1000), &mut |_| ());
    assert_eq!(refused, Err(Error::QuotaExhausted));
    assert_eq!(space.flushes(), 3, "there was no empty table");
}

#[test]
fn a_refused_map_that_gave_tables_back_asks_for_a_flush() {
    let fixture = fixture(12);
    let Fixture { space, memory, .. } = &fixture;
    space
        .map(memory, &mapping(0, 0, 0x1000), &mut |_| ())
        .unwrap();
    space.unmap(GuestPhysical(0), 0x1000, &mut |_| ()).unwrap();
    let used = fixture.account.used();
    let refused = space.map(memory, &mapping((1 << 38) - 0x1000, 0, 0x2000), &mut |_| ());
    assert_eq!(refused, Err(Error::QuotaExhausted));
    assert!(fixture.account.used() < used);
    assert_eq!((space.flushes(), space.mapped_bytes()), (2, 0));
}

#[test]
fn without_quota_for_tables_nothing_changes() {
    let fixture = fixture(9);
    let used = fixture.account.used();
    let refused = fixture
        .space
        .map(&fixture.memory, &mapping(0, 0, 0x1000), &mut |_| ());
    assert_eq!(refused, Err(Error::QuotaExhausted));
    assert_eq!(
        (fixture.account.used(), fixture.space.mapped_bytes()),
        (used, 0)
    );
}

#[test]
fn the_number_of_regions_is_bounded() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    for index in 0..MAX_REGIONS as u64 {
        space
            .map(memory, &mapping(index * 0x2000, 0, 0x1000), &mut |_| ())
            .unwrap();
    }
    let one_more = space.map(memory, &mapping(1 << 30, 0, 0x1000), &mut |_| ());
    assert_eq!(one_more, Err(Error::QuotaExhausted));
}

#[test]
fn what_goes_is_free_only_after_cpus_have_forgotten_it() {
    let fixture = fixture(64);
    let (space, account) = (&fixture.space, &fixture.account);
    space
        .map(&fixture.memory, &mapping(0, 0, 0x8000), &mut |_| ())
        .unwrap();
    let used = account.used();
    drop(fixture.memory);
    let mut told = Vec::new();
    space
        .unmap(GuestPhysical(0), 0x8000, &mut |wake| {
            told.push((wake, account.used(), space.flushes()));
        })
        .unwrap();
    let changed = Wake::TranslationsChanged(space.id());
    assert_eq!(told, [(changed, used, 1)]);
    assert_eq!(account.used(), used - 8);
}

#[test]
fn a_table_that_a_large_page_replaces_is_free_only_after_cpus_have_forgotten_it() {
    let arena = Arena::leak(512, 1536);
    let account = Account::new(arena.pool(), 1536);
    let large = Arc::new(Memory::allocate(&account, 512).unwrap());
    let space = Arc::new(Space::new(&account, arena, &NPT, 1 << 39).unwrap());
    let small = Arc::new(Memory::allocate(&account, 1).unwrap());
    space
        .map(&small, &mapping(0, 0, 0x1000), &mut |_| ())
        .unwrap();
    space.unmap(GuestPhysical(0), 0x1000, &mut |_| ()).unwrap();
    let used = account.used();
    let mut told = Vec::new();
    space
        .map(&large, &mapping(0, 0, 512 << PAGE_SHIFT), &mut |_| {
            told.push(account.used());
        })
        .unwrap();
    assert_eq!((told, account.used()), (Vec::from([used]), used - 1));
}

#[test]
fn nothing_is_reached_through_a_cleared_space() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    space
        .map(memory, &mapping(0x10_0000, 0, 0x1000), &mut |_| ())
        .unwrap();
    let mut told = 0;
    space.clear(&mut |_| told += 1);
    assert_eq!((told, space.mapped_bytes()), (1, 0));
    let root = space.physical().words(space.root()).unwrap();
    assert!(root.iter().all(|entry| entry.load(Ordering::Relaxed) == 0));
    // It can be used again.
    let mapped = space.map(memory, &mapping(0x10_0000, 0, 0x1000), &mut |_| ());
    assert_eq!((mapped, space.mapped_bytes()), (Ok(()), 0x1000));
}

#[test]
fn a_space_that_was_cleared_pays_for_its_root_alone_and_can_be_mapped_again() {
    let fixture = fixture(64);
    let Fixture { space, memory, .. } = &fixture;
    let used = fixture.account.used();
    for address in [0, 1 << 30, 1 << 38] {
        let mapping = mapping(address, 0, 0x8000);
        space.map(memory, &mapping, &mut |_| ()).unwrap();
    }
    space.clear(&mut |_| ());
    assert_eq!(fixture.account.used(), used, "its root alone");
    let translation = |address| space.state.lock().table.translate(GuestPhysical(address));
    assert_eq!([0, 1 << 30, 1 << 38].map(translation), [None; 3]);
    let mapping = mapping(0, 0x1000, 0x1000);
    space.map(memory, &mapping, &mut |_| ()).unwrap();
    let found = translation(0).map(|translation| translation.frame);
    assert_eq!(found, memory.frame(1));
    assert_eq!((space.mapped_bytes(), translation(0x1000)), (0x1000, None));
}
