//! Tests of the pool, the accounts and the extents together.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::mem::arena::Arena;

fn sizes(extents: &[Extent]) -> Vec<u64> {
    extents.iter().map(Extent::count).collect()
}

#[test]
fn an_extent_is_aligned_zeroed_and_given_back() {
    let arena = Arena::leak(3, 29);
    arena.fill(0xDEAD);
    let pool = arena.pool();
    let account = Account::new(Arc::clone(&pool), 8);
    let extent = account.allocate(3).unwrap();
    assert_eq!((extent.first().0 % 8, extent.count()), (0, 8));
    assert!((0..8).all(|index| arena.holds(extent.first().offset(index), 0)));
    assert_eq!((account.used(), pool.free_frames()), (8, 21));
    drop(extent);
    assert_eq!((account.used(), pool.free_frames()), (0, 29));
}

#[test]
fn the_two_refusals_take_nothing() {
    let pool = Arena::leak(0, 8).pool();
    let account = Account::new(Arc::clone(&pool), 16);
    assert_eq!(account.allocate(4).unwrap_err(), OutOfFrames::Memory);
    for order in [5, 63, 64, u32::MAX] {
        assert_eq!(account.allocate(order).unwrap_err(), OutOfFrames::Quota);
    }
    assert_eq!(
        account.allocate_largest(9).unwrap_err(),
        OutOfFrames::Memory
    );
    assert_eq!(
        account.allocate_largest(u64::MAX).unwrap_err(),
        OutOfFrames::Quota
    );
    assert_eq!((account.used(), pool.free_frames()), (0, 8));
    assert_eq!(account.allocate(3).unwrap().count(), 8, "still one block");
}

#[test]
fn blocks_are_as_large_as_possible() {
    let pool = Arena::leak(0, 32).pool();
    let account = Account::new(pool, u64::MAX);
    assert_eq!(sizes(&account.allocate_largest(13).unwrap()), [8, 4, 1]);
    assert_eq!(sizes(&account.allocate_largest(32).unwrap()), [32]);
    assert!(account.allocate_largest(0).unwrap().is_empty());
}

#[test]
fn fragmented_memory_gives_smaller_blocks() {
    let pool = Arena::leak(0, 16).pool();
    let account = Account::new(pool, 16);
    let mut frames: Vec<Extent> = (0..16).map(|_| account.allocate(0).unwrap()).collect();
    frames.retain(|extent| extent.first().0 != 6);
    frames.retain(|extent| extent.first().0 >= 4 && extent.first().0 != 12);
    let extents = account.allocate_largest(6).unwrap();
    assert_eq!(sizes(&extents), [4, 1, 1]);
    drop(frames);
    drop(extents);
    assert_eq!(sizes(&account.allocate_largest(16).unwrap()), [16]);
}

#[test]
fn a_block_has_at_most_a_gigabyte() {
    struct Endless;
    static WORDS: super::super::Words = [const { AtomicU64::new(0) }; 512];
    impl super::super::PhysicalMemory for Endless {
        fn words(&self, _: Frame) -> Option<&'static super::super::Words> {
            Some(&WORDS)
        }
    }
    let pool = FramePool::new(&Endless);
    pool.add(Frame(1 << 20), 1 << 20);
    let account = Account::new(pool, u64::MAX);
    account.charge(3 << 18).unwrap();
    let extents = account.take_largest(3 << 18).unwrap();
    assert_eq!(sizes(&extents), [1 << 18; 3]);
}

#[test]
fn an_adopted_extent_keeps_its_content_and_goes_to_the_pool() {
    let arena = Arena::leak(0, 16);
    arena.fill(7);
    let pool = FramePool::new(arena);
    pool.add(Frame(0), 8);
    let account = Account::new(Arc::clone(&pool), 5);
    assert_eq!(account.adopt(Frame(8), 6).unwrap_err(), OutOfFrames::Quota);
    let module = account.adopt(Frame(8), 5).unwrap();
    assert_eq!((account.used(), pool.free_frames()), (5, 8));
    assert!(arena.holds(Frame(12), 7));
    drop(module);
    assert_eq!((account.used(), pool.free_frames()), (0, 13));
    let frame = account.allocate(0).unwrap();
    assert!(arena.holds(frame.first(), 0));
}

#[test]
fn frames_without_words_never_enter_the_pool() {
    let pool = FramePool::new(Arena::leak(4, 4));
    pool.add(Frame(0), 16);
    pool.add(Frame(u64::MAX - 3), u64::MAX);
    pool.add(Frame(9), 0);
    assert_eq!(pool.free_frames(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_frame_is_held_twice_and_all_come_back(
        steps in proptest::collection::vec((any::<bool>(), 0u32..5, any::<usize>()), 1..80),
    ) {
        static ARENA: spin::Once<&'static Arena> = spin::Once::new();
        let pool = ARENA.call_once(|| Arena::leak(5, 59)).pool();
        let account = Account::new(Arc::clone(&pool), 50);
        let mut held: Vec<Extent> = Vec::new();
        for (take, order, choice) in steps {
            if take {
                held.extend(account.allocate(order));
            } else if !held.is_empty() {
                held.swap_remove(choice % held.len());
            }
            let used: u64 = sizes(&held).iter().sum();
            prop_assert_eq!((account.used(), pool.free_frames()), (used, 59 - used));
            let mut taken: Vec<u64> = held
                .iter()
                .flat_map(|extent| (0..extent.count()).map(|index| extent.first().0 + index))
                .collect();
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(taken.len() as u64, used);
        }
        held.clear();
        prop_assert_eq!(pool.free_frames(), 59);
        prop_assert_eq!(account.used(), 0);
    }
}
